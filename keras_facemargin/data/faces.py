"""Labelled faces: the part that all containers share.

A container finds its images and labels. Reports of bad files, splits and batches for `fit` are the
same for all of them.
"""

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.epochs import Plan
from keras_facemargin.data.problems import report_bad_files, require_two_identities
from keras_facemargin.data.samplers import Sampler
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.images.image import BadImage, read_bytes

if TYPE_CHECKING:
    from keras_facemargin.data.pipeline import Batches

_SAMPLED = 64  # images whose bytes go into a fingerprint


class Faces:
    """Labelled face crops; `FaceFolder`, `FaceRecords` and `FaceTFRecords` read them.

    Attributes:
        source: the folder or file, a string.
        crop: the `Crop` of the images.
        image_size: its height in pixels, or `(height, width)` if it is not square.
        paths: sequence of the images; `read_face` reads each of them.
        labels: int32 array `(N,)`, the identity of each image, 0..`num_classes - 1`.
        identities: list; `identities[label]` is the container's name for the person of a label.
        num_classes: number of identities.
        skipped: list of `BadImage`, each with its `path` and `reason`.
    """

    source: str
    crop: Crop
    image_size: int | tuple[int, int]
    paths: Any  # a list, or StoredImages
    labels: npt.NDArray[np.int32]
    identities: list[Any]
    skipped: list[BadImage]

    def _set(
        self,
        *,
        source: str,
        image_size: Size,
        paths: Any,
        labels: npt.ArrayLike,
        identities: list[Any],
        plain: npt.ArrayLike,
        skipped: list[BadImage],
    ) -> None:
        """Fills the object; `plain` has the results of `check_face`."""
        self.source = source
        self.crop = Crop.of(image_size)
        self.image_size = self.crop.size
        self.paths = paths
        self.labels = np.asarray(labels, "int32")
        self.identities = identities
        self._plain = np.asarray(plain, "bool")
        self.skipped = skipped

    def _report_bad_files(self, on_bad: str) -> None:
        """Refuses bad files, or warns of them; refuses fewer than two identities."""
        if on_bad == "refuse":
            report_bad_files(self.source, self.skipped, on_bad)
        require_two_identities(self.num_classes, self.source, self.skipped)
        report_bad_files(self.source, self.skipped, on_bad, stacklevel=4)

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self.identities)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        counts = np.bincount(self.labels, minlength=self.num_classes)
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return (
            f"<{type(self).__name__} {self.source!r}: {len(self):,} images of "
            f"{self.num_classes:,} identities, {counts.min()} to {counts.max()} each{skipped}>"
        )

    def dataset(
        self,
        batch_size: int,
        training: bool = False,
        *,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        sampler: Sampler | None = None,
        augmentation: Sequence[Any] | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> Any:
        """A `tf.data.Dataset` of `(images, labels)` batches, for any Keras backend.

        Without `training` the images come in the order of `paths`, with exactly the pixels of
        `read_face`. In training every epoch has another random order and a light augmentation:
        mirror, shift, brightness, contrast and saturation. The n-th pass over a dataset depends
        only on `seed` and n, not on TensorFlow's global seed. The last batch may be smaller. Call
        `fit` with `shuffle=False`: otherwise Keras warns that it cannot shuffle a dataset.

        With `shard=(index, count)` the dataset is the share of one of `count` workers: images
        `index`, `index + count`, ... of the order. In training all workers draw the same order and
        take the same number of images, so that no worker waits for another at the end of an epoch.
        If `count` does not divide the number of images, up to `count - 1` images from the beginning
        of the order are repeated at its end. Without `training` each image occurs once. With
        batches of B / count, all workers together see the images of one worker's batch of B, with
        the same augmentation. Under a strategy of `tf.distribute` leave `shard` out: `fit`
        distributes the batches of one dataset to its workers.

        With `start=(epoch, step)` the first pass is the rest of that epoch, with the same images as
        in an uninterrupted run; earlier images are not read. `callbacks.ExactResume` stores the
        place of an interrupted run.

        Args:
            batch_size: images in a batch.
            training: whether to shuffle and augment.
            seed: non-negative integer, for order and augmentation.
            shard: `(index, count)`: this worker and the number of workers.
            sampler: in training, a `Sampler` that selects the images of an epoch; None shows each
                image once.
            augmentation: in training, a list of `FaceAugmentation` layers that replace the light
                augmentation and are applied in order; an empty list changes nothing. Their random
                numbers depend on `seed` and epoch, not on the layers' own seeds.
            start: in training, `(epoch, step)` from 0; a step is a batch of this dataset.

        Returns:
            Dataset of float32 `(B, height, width, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: `shard` is not a worker of `count`; `batch_size` is not a multiple of the
                sampler's batch; `start` is not a step of an epoch; or `sampler`, `augmentation` or
                `start` is given without `training`.
            ImportError: TensorFlow is missing.
        """
        from keras_facemargin.data.pipeline import make_dataset  # opens Keras

        plan = Plan(self, batch_size, training, seed, shard, sampler, augmentation)
        return make_dataset(
            self, plan, start=start, plain=self._plain, bytes_in_graph=self._bytes_in_graph
        )

    def _bytes_in_graph(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """The source of the images' bytes in a TensorFlow graph, in two steps.

        Returns:
            A function from indices, int64 `(n,)`, to n keys, and a function from a key to the bytes
            of an image file. The first one does the work that is cheaper for many images at once.
        """
        raise NotImplementedError

    def py_dataset(
        self,
        batch_size: int,
        training: bool = False,
        *,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        sampler: Sampler | None = None,
        augmentation: Sequence[Any] | None = None,
        **options: Any,
    ) -> "Batches":
        """The batches of `dataset` as a `keras.utils.PyDataset`: numpy and Pillow, no TensorFlow.

        For Keras on jax or torch without TensorFlow; if TensorFlow is installed, `dataset` decodes
        faster. The order of an epoch is that of `dataset` for the same `seed` and `shard`. The
        augmentation draws other numbers, because any batch can be read alone. The next order comes
        with `on_epoch_begin` and `on_epoch_end`, which `fit` calls; on jax and torch `fit` begins
        one epoch more to look at a batch, if the model is not built yet.

        Args:
            batch_size, training, seed, shard, sampler, augmentation: as in `dataset`.
            **options: of `keras.utils.PyDataset`: `workers`, `use_multiprocessing`,
                `max_queue_size`. Threads and forked processes may read the images.

        Returns:
            A `PyDataset` of float32 `(B, height, width, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: as `dataset`.
        """
        from keras_facemargin.data.pipeline import Batches  # opens Keras

        plan = Plan(self, batch_size, training, seed, shard, sampler, augmentation)
        return Batches(self, plan, **options)

    def fingerprint(self) -> dict[str, Any]:
        """A fingerprint of these faces: a resumed run checks that it has the same faces.

        It covers the labels of all images, the names of all identities, in a folder the name and
        the size of each file, and the bytes of 64 evenly spread images. It does not cover the bytes
        of the other images, or the place and times of the files: a copy has the same fingerprint.

        Returns:
            dict of numbers and texts: "images", "people", "labels", "names", "contents".
        """
        names, contents = hashlib.sha256(), hashlib.sha256()
        for text in itertools.chain(map(str, self.identities), self._entries()):
            names.update(text.encode("utf-8", "surrogateescape") + b"\0")
        for index in np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype("int64")).tolist():
            contents.update(hashlib.sha256(read_bytes(self.paths[index])).digest())
        return {
            "images": len(self),
            "people": self.num_classes,
            "labels": hashlib.sha256(self.labels.astype("<i4").tobytes()).hexdigest(),
            "names": names.hexdigest(),
            "contents": contents.hexdigest(),
        }

    def _entries(self) -> Iterable[str]:
        """A text for each image that stays the same in a copy; none for images in one file."""
        return ()

    def split(self, held_out_identities: int, *, seed: int = 0) -> tuple[Self, Self]:
        """Splits by person: all images of a person are in the same part.

        Args:
            held_out_identities: number of random identities in the second part.
            seed: non-negative integer.

        Returns:
            Two objects of this class, each with its own labels from 0. Images are not checked
            again.

        Raises:
            ValueError: a part would have fewer than two identities.
        """
        if not 2 <= held_out_identities <= self.num_classes - 2:
            raise ValueError(
                f"`held_out_identities` must be in 2..{self.num_classes - 2}, so that both parts "
                f"of {self.num_classes} identities have at least two. "
                f"Received: held_out_identities={held_out_identities}"
            )
        drawn = np.random.default_rng(seed).permutation(self.num_classes)[:held_out_identities]
        held_out = np.isin(self.labels, drawn)
        parts = self._take(~held_out), self._take(held_out)
        for part in parts:
            kept, labels = np.unique(part.labels, return_inverse=True)
            part.identities = [self.identities[label] for label in kept]
            part.labels = labels.astype("int32")
        return parts

    def split_images(self, held_out_per_identity: int, *, seed: int = 0) -> tuple[Self, Self]:
        """Splits the images of each person: both parts have the same identities and labels.

        At least one image of each identity stays in the first part. An identity with
        `held_out_per_identity` images or fewer stays there completely.

        Args:
            held_out_per_identity: number of random images of each identity in the second part.
            seed: non-negative integer.

        Returns:
            Two objects of this class. Images are not checked again.

        Raises:
            ValueError: `held_out_per_identity` is less than 1, or no identity has more images.
        """
        counts = np.bincount(self.labels, minlength=self.num_classes)
        if not 1 <= held_out_per_identity < counts.max():
            raise ValueError(
                "`held_out_per_identity` must be at least 1 and less than the images of the "
                f"largest identity, {counts.max()}. "
                f"Received: held_out_per_identity={held_out_per_identity}"
            )
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self), "bool")
        by_identity = np.argsort(self.labels, kind="stable")
        for images in np.split(by_identity, np.cumsum(counts)[:-1]):
            if len(images) > held_out_per_identity:
                held_out[rng.choice(images, held_out_per_identity, replace=False)] = True
        return self._take(~held_out), self._take(held_out)

    def _take(self, chosen: npt.NDArray[Any]) -> Self:
        """The images of a mask or of indices."""
        part = copy.copy(self)
        part.paths = _compress(self.paths, chosen)
        part.labels = self.labels[chosen]
        part.skipped = []
        part._plain = self._plain[chosen]
        return part


def _compress(paths: Any, chosen: npt.NDArray[Any]) -> Any:
    if isinstance(paths, list):
        return list(itertools.compress(paths, chosen))
    return paths.compress(chosen)


def identity_order(identity: str) -> tuple[int, int, str, str]:
    """Sort key of identities: whole numbers by value, then other texts by code point.

    All containers have this order, so that labels are the same in each. Whole numbers are texts of
    the digits 0 to 9. `7` and `007` are two identities; `007` comes first.

    Args:
        identity: a text.

    Example:
        >>> sorted(["Bo", "10", "9", "Ada"], key=identity_order)
        ['9', '10', 'Ada', 'Bo']
    """
    if not (identity.isascii() and identity.isdigit()):
        return 1, 0, "", identity
    digits = identity.lstrip("0")  # compared as texts: `int` refuses thousands of digits
    return 0, len(digits), digits, identity
