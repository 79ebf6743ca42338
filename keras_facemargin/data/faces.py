"""Labelled faces, wherever their bytes lie -> checked lists, splits, batches for `fit`.

Each container knows how to find its images and labels. What is done with them afterwards is written
here, once: the report on what is bad, the order of an epoch, the share of a worker, decoding,
augmentation, splitting.
"""

import copy
import hashlib
import itertools

import numpy as np

from keras_facemargin.data.epochs import Plan
from keras_facemargin.data.pipeline import Batches, make_dataset
from keras_facemargin.data.problems import report_bad_files, require_two_identities
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import read_bytes

_SAMPLED = 64  # images whose bytes go into a fingerprint


class Faces:
    """What every container of labelled faces offers; made by `FaceFolder` and its like.

    Attributes:
        source: the folder or file, a string.
        crop: the `Crop` that the images are read at.
        image_size: its height in pixels, or `(height, width)` if it is not square.
        paths: sequence of the images; each is read by `read_face`.
        labels: int32 array `(N,)`, the identity of each image, 0..`num_classes - 1`.
        identities: list; `identities[label]` is what the container calls the person of a label.
        num_classes: number of identities.
        skipped: list of `BadImage`, each with its `path` and `reason`.
    """

    def _set(self, source, image_size, paths, labels, identities, plain, skipped):
        """Fills the object: `source` names the container, `plain` is as in `check_face`."""
        self.source = source
        self.crop = Crop.of(image_size)
        self.image_size = self.crop.size
        self.paths = paths
        self.labels = np.asarray(labels, "int32")
        self.identities = identities
        self._plain = np.asarray(plain, "bool")
        self.skipped = skipped

    def _report_bad_files(self, on_bad):
        """Refuses bad files, or warns of them; refuses fewer than two identities."""
        if on_bad == "refuse":
            report_bad_files(self.source, self.skipped, on_bad)
        require_two_identities(self.num_classes, self.source, self.skipped)
        report_bad_files(self.source, self.skipped, on_bad, stacklevel=4)

    @property
    def num_classes(self):
        return len(self.identities)

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        counts = np.bincount(self.labels, minlength=self.num_classes)
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return (
            f"<{type(self).__name__} {self.source!r}: {len(self):,} images of "
            f"{self.num_classes:,} identities, {counts.min()} to {counts.max()} each{skipped}>"
        )

    def dataset(
        self,
        batch_size,
        training=False,
        seed=0,
        shard=(0, 1),
        sampler=None,
        augmentation=None,
        start=(0, 0),
    ):
        """A `tf.data.Dataset` of `(images, labels)` batches; any Keras backend can be fed with it.

        Without `training` the images come in the order of `paths`, with exactly the pixels of
        `read_face`. With it, all images are shuffled anew in every epoch and lightly augmented:
        mirrored, shifted, and changed in brightness, contrast and saturation. The n-th pass over a
        dataset depends on `seed` and n alone, not on TensorFlow's global seed. The last batch may
        be smaller. Hand it to `fit` with `shuffle=False`: Keras warns otherwise about a shuffle
        that it would not do anyway.

        With `shard=(index, count)` the dataset is the share of one of `count` workers: images
        `index`, `index + count`, ... of the order. In training all workers draw the same order and
        take equally many images, so that none waits for another at the end of an epoch: where
        `count` does not divide their number, the first of the order are seen once more at its end,
        `count - 1` of them at most. Without `training` each image is seen once. Batches of B /
        count show all workers together the images that one is shown in a batch of B, and
        augmentation does the same to them. Under a strategy of `tf.distribute` leave `shard` out:
        `fit` deals the batches of a whole dataset out to its workers.

        With `start=(epoch, step)` the first pass is the rest of that epoch, as it would have gone
        on; the images before it are not read. So a run that was interrupted goes on:
        `callbacks.ExactResume` knows the place.

        Args:
            batch_size: images per batch.
            training: whether to shuffle and augment.
            seed: non-negative integer, the seed of order and augmentation.
            shard: `(index, count)`, this worker and the number of workers.
            sampler: in training, which images an epoch shows: a `Sampler`, by default each once.
            augmentation: in training, a list of `FaceAugmentation` layers, applied one after the
                other in place of the light augmentation; an empty list changes nothing. Their
                numbers are drawn here, by `seed` and epoch, and not by the layers' own seeds.
            start: in training, `(epoch, step)` from 0, the step one of this dataset's batches.

        Returns:
            Dataset of float32 `(B, height, width, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: `shard` is no worker of so many, `batch_size` is not whole batches of the
                sampler, `start` is no step of an epoch, or `sampler`, `augmentation` or `start` is
                given without training.
            ImportError: TensorFlow is missing.
        """
        plan = Plan(
            self,
            batch_size=batch_size,
            training=training,
            seed=seed,
            shard=shard,
            sampler=sampler,
            augmentation=augmentation,
        )
        return make_dataset(
            self, plan, start=start, plain=self._plain, bytes_in_graph=self._bytes_in_graph
        )

    def _bytes_in_graph(self):
        """Where a TensorFlow graph gets the bytes of the images from, in two steps.

        Returns:
            A function from indices, int64 `(n,)`, to as many keys, and one from a key to the bytes
            of an image file. What is dear for one image and cheap for many goes into the first.
        """
        raise NotImplementedError

    def py_dataset(
        self,
        batch_size,
        training=False,
        seed=0,
        shard=(0, 1),
        sampler=None,
        augmentation=None,
        **options,
    ):
        """The batches of `dataset` as a `keras.utils.PyDataset`: numpy and Pillow, no TensorFlow.

        For Keras on jax or torch without TensorFlow at hand; where it is, `dataset` decodes faster.
        Epochs have the order of `dataset` for the same `seed` and `shard`; what augmentation draws
        for an image differs, for any batch can be made alone. The next order comes with
        `on_epoch_begin` and `on_epoch_end`, which `fit` calls; on jax and torch it begins one epoch
        more, to look at a batch, if the model is not built yet.

        Args:
            batch_size, training, seed, shard, sampler, augmentation: as `dataset`.
            **options: of `keras.utils.PyDataset`: `workers`, `use_multiprocessing`,
                `max_queue_size`. Images are read safely from threads and from forked processes.

        Returns:
            A `PyDataset` of float32 `(B, height, width, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: as `dataset`.
        """
        plan = Plan(
            self,
            batch_size=batch_size,
            training=training,
            seed=seed,
            shard=shard,
            sampler=sampler,
            augmentation=augmentation,
        )
        return Batches(self, plan, **options)

    def fingerprint(self):
        """Fingerprint of these faces, so that a resumed run can check that it has the same ones.

        It covers the labels of all images, the names of all identities, in a folder the name and
        the size of each file, and the bytes of 64 images spread evenly. It does not cover the bytes
        of the others, nor the place and the times of files: a copy has the fingerprint of its
        original.

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

    def _entries(self):
        """A text for each image that a copy keeps; none where only a reader knows the images."""
        return ()

    def split(self, held_out_identities, seed=0):
        """Splits by person: nobody is on both sides.

        Args:
            held_out_identities: how many identities, drawn by `seed`, go to the second part.
            seed: non-negative integer.

        Returns:
            Two objects of this class, each with its own labels from 0. No image is checked again.

        Raises:
            ValueError: a side would have fewer than two identities.
        """
        if not 2 <= held_out_identities <= self.num_classes - 2:
            raise ValueError(
                "Both sides of a split need at least two identities, so `held_out_identities` must "
                f"lie in 2..{self.num_classes - 2} for {self.num_classes} identities. "
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

    def split_images(self, held_out_per_identity, seed=0):
        """Splits within each person: the same identities and labels on both sides.

        An identity gives up images only if at least one remains, so one with
        `held_out_per_identity` images or fewer stays wholly in the first part.

        Args:
            held_out_per_identity: how many images of each identity, drawn by `seed`, go to the
                second part.
            seed: non-negative integer.

        Returns:
            Two objects of this class. No image is checked again.

        Raises:
            ValueError: `held_out_per_identity` is below 1, or no identity has more images than it.
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

    def _take(self, chosen):
        part = copy.copy(self)
        part.paths = _compress(self.paths, chosen)
        part.labels = self.labels[chosen]
        part.skipped = []
        part._plain = self._plain[chosen]
        return part


def _compress(paths, chosen):
    if isinstance(paths, list):
        return list(itertools.compress(paths, chosen))
    return paths.compress(chosen)


def identity_order(identity):
    """The key by which identities are sorted: whole numbers by value, then texts by code point.

    Every container has the same order, so that labels are the same in each. Whole numbers are texts
    of the digits 0 to 9; of `7` and `007`, which are two identities, `007` comes first.

    Args:
        identity: a text.

    Example:
        >>> sorted(["Bo", "10", "9", "Ada"], key=identity_order)
        ['9', '10', 'Ada', 'Bo']
    """
    if not (identity.isascii() and identity.isdigit()):
        return 1, 0, "", identity
    digits = identity.lstrip("0")  # compared as texts, for `int` refuses thousands of digits
    return 0, len(digits), digits, identity
