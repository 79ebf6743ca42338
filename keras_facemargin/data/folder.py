"""A folder of identities -> checked lists of images and labels -> tf.data pipeline."""

import copy
import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.console import Console
from rich.progress import track

from keras_facemargin.data.augment import Augmentation, draw_augmentation, move, recolour
from keras_facemargin.data.image import BadImage, check_face, read_face

_NAMED = 10  # bad entries that an error or a warning spells out
_BLOCK = 256  # files that a checking thread takes at a time
_DRAWN = 4096  # images whose augmentation is drawn at a time


class FaceFolder:
    """Aligned face crops in `DIRECTORY/IDENTITY/IMAGE`, every file checked once up front.

    Each folder in `directory` is one identity and each file in it one image of that person, read by
    the rules of `read_face`. Identities are sorted by name (by code point, so capitals come first)
    and numbered from 0 in that order; images are sorted within them. Links are followed. Names that
    begin with a dot (`.DS_Store`, `._0001.jpg`) are passed over.

    Anything else is bad and is reported with its reason: a file that is not a whole square image, a
    file beside the identity folders, a folder inside one, an identity without a single good image.
    Every file is decoded to its end when the object is made, on all cores and with a progress bar
    when there are many, so that none fails in the middle of a training run.

    Args:
        directory: folder of identity folders.
        image_size: side of the crops in pixels. Square images of another size are resized.
        on_bad: `"refuse"` raises one error that counts the bad entries and names up to ten.
            `"skip"` leaves them out, warns once in the same words and keeps them in `skipped`.

    Attributes:
        directory: the folder, a string.
        image_size: side of the crops in pixels.
        paths: list of the image files.
        labels: int32 array `(N,)`, the identity of each image, 0..`num_classes - 1`.
        identities: list of the identities' names; `identities[label]` is the name of a label.
        num_classes: number of identities.
        skipped: list of `BadImage`, each with its `path` and `reason`.

    Raises:
        ValueError: `directory` is no folder, has no identity folder, has fewer than two identities
            with an image, or has a bad entry while `on_bad` is `"refuse"`.

    Example:

    ```python
    faces = FaceFolder("faces", on_bad="skip")
    train, held_out = faces.split(held_out_identities=100)
    classifier.fit(train.dataset(128, training=True), shuffle=False, epochs=10)
    ```
    """

    def __init__(self, directory, image_size=112, on_bad="refuse"):
        if on_bad not in ("refuse", "skip"):
            raise ValueError(f'`on_bad` must be "refuse" or "skip". Received: on_bad={on_bad!r}')
        self.directory = os.fspath(directory)
        self.image_size = image_size
        self.identities, self.paths, labels, plain = [], [], [], []
        files, bad = _list_files(self.directory)
        checks = iter(_check_files(list(itertools.chain(*files.values())), image_size))
        for identity, paths in files.items():
            good = []
            for path in paths:
                check = next(checks)
                if isinstance(check, BadImage):
                    bad.append(check)
                else:
                    good.append(path)
                    plain.append(check)
            if not good:
                folder = os.path.join(self.directory, identity)
                bad.append(BadImage(folder, "an identity without a single good image."))
                continue
            labels += [len(self.identities)] * len(good)
            self.paths += good
            self.identities.append(identity)
        self.labels = np.array(labels, "int32")
        self.skipped = bad
        self._plain = np.array(plain, "bool")

        if bad and on_bad == "refuse":
            raise ValueError(
                f"{_report(self.directory, bad)}\nRepair or remove them, or leave them out with "
                f'on_bad="skip". Received: on_bad={on_bad!r}'
            )
        if self.num_classes < 2:
            raise ValueError(
                "Telling people apart needs at least two identities with an image each, in "
                f"DIRECTORY/IDENTITY/IMAGE. Received: {self.num_classes} in {self.directory}"
                + (f"\n{_report(self.directory, bad)}" if bad else "")
            )
        if bad:
            warnings.warn(f"{_report(self.directory, bad)}\nThey are left out.", stacklevel=2)

    @property
    def num_classes(self):
        return len(self.identities)

    def __len__(self):
        return len(self.paths)

    def __repr__(self):
        counts = np.bincount(self.labels, minlength=self.num_classes)
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return (
            f"<FaceFolder {self.directory!r}: {len(self):,} images of {self.num_classes:,} "
            f"identities, {counts.min()} to {counts.max()} each{skipped}>"
        )

    def dataset(self, batch_size, training=False, seed=0):
        """A `tf.data.Dataset` of `(images, labels)` batches; any Keras backend can be fed with it.

        Without `training` the images come in the order of `paths`, with exactly the pixels of
        `read_face`. With it, all images are shuffled anew in every epoch and lightly augmented:
        mirrored, shifted, and changed in brightness, contrast and saturation. The n-th pass over a
        dataset depends on `seed` and n alone, not on TensorFlow's global seed. The last batch may
        be smaller. Hand it to `fit` with `shuffle=False`: Keras warns otherwise about a shuffle
        that it would not do anyway.

        Args:
            batch_size: images per batch.
            training: whether to shuffle and augment.
            seed: non-negative integer, the seed of order and augmentation.

        Returns:
            Dataset of float32 `(B, image_size, image_size, 3)` RGB 0..255 and int32 `(B,)`.
        """
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                "The input pipeline is made of tf.data: pip install 'keras_facemargin[tensorflow]'"
            ) from error

        paths = tf.constant([os.fsencode(path) for path in self.paths])
        labels = tf.constant(self.labels)
        plain = tf.constant(self._plain)
        shape = (self.image_size, self.image_size, 3)

        def decode_plain(path):
            # Reads PNG as well. The default transform is off by up to 12 levels from libjpeg's own.
            return tf.io.decode_jpeg(
                tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE"
            )

        def decode_odd(path):
            return tf.numpy_function(
                lambda path: read_face(os.fsdecode(path), self.image_size), [path], tf.uint8
            )

        def decode(index):
            path = paths[index]
            if self._plain.all():
                image = decode_plain(path)
            else:
                image = tf.cond(plain[index], lambda: decode_plain(path), lambda: decode_odd(path))
            return tf.ensure_shape(image, shape), labels[index]

        def to_float(images, labels):
            return tf.cast(images, tf.float32), labels

        def decode_and_move(index, parameters):
            image, label = decode(index)
            moved = move(image, parameters.corner, parameters.mirror)
            return moved, label, parameters.colour, parameters.offset

        def recolour_batch(images, labels, colour, offset):
            return recolour(images, colour, offset), labels

        if training:
            steps = tf.data.Dataset.from_generator(
                _EpochDrawer(len(self), seed),
                output_signature=(
                    tf.TensorSpec((None,), tf.int64),
                    Augmentation(
                        corner=tf.TensorSpec((None, 3), tf.int32),
                        mirror=tf.TensorSpec((None, 3), tf.bool),
                        colour=tf.TensorSpec((None, 3, 3), tf.float32),
                        offset=tf.TensorSpec((None, 1), tf.float32),
                    ),
                ),
            )
            steps = steps.unbatch().apply(tf.data.experimental.assert_cardinality(len(self)))
            prepare, finish = decode_and_move, recolour_batch
        else:
            steps = tf.data.Dataset.range(len(self))
            prepare, finish = decode, to_float
        images = steps.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        batches = images.batch(batch_size).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def split(self, held_out_identities, seed=0):
        """Splits by person: nobody is on both sides.

        Args:
            held_out_identities: how many identities, drawn by `seed`, go to the second folder.
            seed: non-negative integer.

        Returns:
            Two `FaceFolder`s, each with its own labels from 0. No file is checked again.

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
        `held_out_per_identity` images or fewer stays wholly in the first folder.

        Args:
            held_out_per_identity: how many images of each identity, drawn by `seed`, go to the
                second folder.
            seed: non-negative integer.

        Returns:
            Two `FaceFolder`s. No file is checked again.

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
        for images in np.split(np.arange(len(self)), np.cumsum(counts)[:-1]):
            if len(images) > held_out_per_identity:
                held_out[rng.choice(images, held_out_per_identity, replace=False)] = True
        return self._take(~held_out), self._take(held_out)

    def _take(self, chosen):
        part = copy.copy(self)
        part.paths = list(itertools.compress(self.paths, chosen))
        part.labels = self.labels[chosen]
        part.skipped = []
        part._plain = self._plain[chosen]
        return part


class _EpochDrawer:
    """Each call is an epoch: blocks of shuffled indices with their augmentation."""

    def __init__(self, count, seed):
        self._count = count
        self._seed = seed
        self._epochs = itertools.count()

    def __call__(self):
        rng = np.random.default_rng([self._seed, next(self._epochs)])
        order = rng.permutation(self._count)
        for start in range(0, self._count, _DRAWN):
            block = order[start : start + _DRAWN]
            yield block, draw_augmentation(rng, len(block))


def _list_files(directory):
    """Folder -> files of each identity, in order, and a list of what is neither."""
    if not os.path.isdir(directory):
        raise ValueError(f"A folder of identity folders is needed. Received: {directory!r}")
    files, bad = {}, []
    for entry in _visible(directory):
        if not entry.is_dir():
            bad.append(BadImage(entry.path, "a file beside the identity folders, in none of them."))
            continue
        files[entry.name] = []
        for item in _visible(entry.path):
            if item.is_file():
                files[entry.name].append(item.path)
            else:
                kind = "a folder inside" if item.is_dir() else "a broken link or device in"
                bad.append(BadImage(item.path, f"{kind} an identity folder, not an image file."))
    if not files:
        raise ValueError(
            "Each person's images must lie in a folder of their own: DIRECTORY/IDENTITY/IMAGE. "
            f"Received: {directory!r} without any folder in it, and {len(bad):,} files."
        )
    return files, bad


def _visible(directory):
    with os.scandir(directory) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )


def _check_files(paths, size):
    """Whether each file is plain (see `check_face`), or the `BadImage` that it is."""

    def check(path):
        try:
            return check_face(path, size)
        except BadImage as error:
            return BadImage(path, error.reason)  # afresh: a traceback would keep the pixels alive
        except OSError as error:
            return BadImage(path, f"it cannot be read: {error.strerror}.")

    def check_block(start):
        return [check(path) for path in paths[start : start + _BLOCK]]

    starts = range(0, len(paths), _BLOCK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = track(
            pool.map(check_block, starts),
            total=len(starts),
            description=f"Checking {len(paths):,} images",
            console=Console(stderr=True),
            transient=True,
            disable=len(starts) < 8,  # a second or less
        )
        return list(itertools.chain.from_iterable(blocks))


def _report(directory, bad):
    lines = [f"  {each}" for each in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  ... and {len(bad) - _NAMED:,} more.")
    noun = "entry that is" if len(bad) == 1 else "entries that are"
    return "\n".join([f"{directory} has {len(bad):,} {noun} no face crop:", *lines])
