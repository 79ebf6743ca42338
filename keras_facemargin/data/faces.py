"""Labelled faces, wherever their bytes lie -> checked lists, splits, batches for `fit`.

Each container knows how to find its images and labels. What is done with them afterwards is written
here, once: the report on what is bad, the order of an epoch, the share of a worker, decoding,
augmentation, splitting.
"""

import collections.abc
import copy
import dataclasses
import functools
import hashlib
import itertools
import math
import operator
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_facemargin.augmentation.light import (
    Augmentation,
    augment,
    draw_augmentation,
    move,
    recolour,
)
from keras_facemargin.images.image import decode_face, read_bytes, read_face
from keras_facemargin.progress import progress_bar

_NAMED = 10  # bad entries that an error or a warning spells out
_MOST_BAD = 100_000  # damaged places that are kept of a file
_BLOCK = 256  # images that a checking thread takes at a time
_DRAWN = 4096  # images whose augmentation is drawn at a time
_SAMPLED = 64  # images whose bytes go into a fingerprint
_HANDED = 256  # images that the pipeline hands on at a time before it decodes each


class Faces:
    """What every container of labelled faces offers; made by `FaceFolder` and its like.

    Attributes:
        source: the folder or file, a string.
        image_size: side of the crops in pixels.
        paths: sequence of the images; each is read by `read_face`.
        labels: int32 array `(N,)`, the identity of each image, 0..`num_classes - 1`.
        identities: list; `identities[label]` is what the container calls the person of a label.
        num_classes: number of identities.
        skipped: list of `BadImage`, each with its `path` and `reason`.
    """

    def _set(self, source, image_size, paths, labels, identities, plain, skipped):
        """Fills the object: `source` names the container, `plain` is as in `check_face`."""
        self.source = source
        self.image_size = image_size
        self.paths = paths
        self.labels = np.asarray(labels, "int32")
        self.identities = identities
        self._plain = np.asarray(plain, "bool")
        self.skipped = skipped

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
            Dataset of float32 `(B, image_size, image_size, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: `shard` is no worker of so many, `batch_size` is not whole batches of the
                sampler, `start` is no step of an epoch, or `sampler`, `augmentation` or `start` is
                given without training.
            ImportError: TensorFlow is missing.
        """
        plan = _Plan(self, batch_size, training, seed, shard, sampler, augmentation)
        epoch, skipped = plan.place(start)
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                "The input pipeline is made of tf.data: pip install 'keras_facemargin[tensorflow]'"
            ) from error

        labels = tf.constant(self.labels)
        plain = tf.constant(self._plain)
        shape = (self.image_size, self.image_size, 3)

        def decode_plain(encoded):
            # Reads PNG as well. The default transform is off by up to 12 levels from libjpeg's own.
            return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

        def decode_odd(encoded, index):
            return tf.numpy_function(
                lambda encoded, index: decode_face(encoded, shape[0], name=self.paths[index]),
                [encoded, index],
                tf.uint8,
            )

        def decode(index, label, key):
            encoded = read(key)
            if self._plain.all():
                image = decode_plain(encoded)
            else:
                image = tf.cond(
                    plain[index], lambda: decode_plain(encoded), lambda: decode_odd(encoded, index)
                )
            return tf.ensure_shape(image, shape), label

        def to_float(images, labels):
            return tf.cast(images, tf.float32), labels

        def decode_and_move(index, label, key, parameters):
            image, _ = decode(index, label, key)
            moved = move(image, parameters.corner, parameters.mirror)
            return moved, label, parameters.colour, parameters.offset

        def recolour_batch(images, labels, colour, offset):
            return recolour(images, colour, offset), labels

        def augment_batch(images, labels, numbers):
            return plan.augment(tf.cast(images, tf.float32), numbers), labels

        def decode_with(index, label, key, numbers):
            return *decode(index, label, key), numbers

        if training:
            numbers = tf.TensorSpec((None, plan.numbers), tf.float32)
            light = Augmentation(
                corner=tf.TensorSpec((None, 3), tf.int32),
                mirror=tf.TensorSpec((None, 3), tf.bool),
                colour=tf.TensorSpec((None, 3, 3), tf.float32),
                offset=tf.TensorSpec((None, 1), tf.float32),
            )
            blocks = tf.data.Dataset.from_generator(
                _EpochDrawer(plan, epoch, skipped),
                output_signature=(
                    tf.TensorSpec((None,), tf.int64),
                    light if augmentation is None else numbers,
                ),
            )
            if augmentation is None:
                prepare, finish = decode_and_move, recolour_batch
            else:
                prepare, finish = decode_with, augment_batch
        else:
            order = range(plan.shard[0], len(self), plan.shard[1])
            blocks = tf.data.Dataset.range(order.start, order.stop, order.step).batch(_HANDED)
            blocks = blocks.map(lambda indices: (indices,))
            prepare, finish = decode, to_float
        keys, read = self._bytes_in_graph()
        blocks = blocks.map(
            lambda indices, *rest: (indices, tf.gather(labels, indices), keys(indices), *rest),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        rows = blocks.unbatch()
        if not skipped:  # else the first pass is shorter than the others
            rows = rows.apply(tf.data.experimental.assert_cardinality(plan.count))
        images = rows.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        batches = images.batch(batch_size).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        if plan.shard[1] > 1:  # tf.distribute would take a worker's share of the share
            options = tf.data.Options()
            options.experimental_distribute.auto_shard_policy = (
                tf.data.experimental.AutoShardPolicy.OFF
            )
            batches = batches.with_options(options)
        batches = batches.prefetch(tf.data.AUTOTUNE)
        batches.start = tuple(start)
        # Not `fingerprint`, which is TensorFlow's, of the graph.
        batches.data_fingerprint = functools.partial(plan.fingerprint, self, "dataset")
        return batches

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
            A `PyDataset` of float32 `(B, image_size, image_size, 3)` RGB 0..255 and int32 `(B,)`.

        Raises:
            ValueError: as `dataset`.
        """
        plan = _Plan(self, batch_size, training, seed, shard, sampler, augmentation)
        return _Batches(self, plan, **options)

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


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image in a container, read when it is wanted; `read_face` takes it like a path.

    Attributes:
        reader: what opened the container; has `read_image(row)` and `place(row)`.
        row: number of the image in it.
    """

    reader: object
    row: int

    def read_bytes(self):
        """The bytes of the image file."""
        return self.reader.read_image(self.row)

    def __str__(self):
        return self.reader.place(self.row)


class StoredImages(collections.abc.Sequence):
    """Some images of a container, made as they are asked for.

    Args:
        reader: as in `StoredImage`.
        rows: int64 array `(N,)`.
    """

    def __init__(self, reader, rows):
        self.reader = reader
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [StoredImage(self.reader, row) for row in self.rows[index].tolist()]
        return StoredImage(self.reader, self.rows.item(index))

    def compress(self, chosen):
        return StoredImages(self.reader, self.rows[chosen])

    def payloads(self, indices):
        """The images' bytes, an object array."""
        images = [self.reader.read_image(row) for row in self.rows[indices].tolist()]
        return np.array([*images, None], object)[:-1]  # an array of objects, however many


class StoredFaces(Faces):
    """Faces whose `paths` are `StoredImages`."""

    def _bytes_in_graph(self):
        import tensorflow as tf

        def read(indices):
            payloads = tf.numpy_function(self.paths.payloads, [indices], tf.string)
            return tf.ensure_shape(payloads, (None,))

        return read, lambda encoded: encoded


class _Plan:
    """What a training pipeline was asked for, checked, and the epochs that follow from it."""

    def __init__(self, faces, batch_size, training, seed, shard, sampler, augmentation):
        if not training and (sampler is not None or augmentation is not None):
            raise ValueError(
                "`sampler` and `augmentation` are for training. "
                f"Received: training={training} with sampler={sampler} and "
                f"augmentation={augmentation}"
            )
        for layer in augmentation or []:
            if not hasattr(layer, "transform"):
                raise ValueError(
                    "`augmentation` must be a list of FaceAugmentation layers. "
                    f"Received: {layer!r} in it"
                )
        self._labels = faces.labels
        self._sampler = sampler
        self._seed = seed
        self._layers = augmentation
        self.batch_size = batch_size
        self.training = training
        self._unit = 1 if sampler is None else sampler.unit
        if batch_size % self._unit:
            raise ValueError(
                f"`batch_size` must be a multiple of the {self._unit} images of one batch of "
                f"{sampler!r}. Received: batch_size={batch_size}"
            )
        drawn = len(faces) if sampler is None else len(sampler.draw(self._labels, self._rng(0)))
        self.drawn = drawn
        self.shard = _checked_shard(shard, drawn, self._unit)
        index, count = self.shard
        if training:
            self.count = math.ceil(drawn / self._unit / count) * self._unit
        else:
            self.count = len(range(index, drawn, count))

    def fingerprint(self, faces, pipeline):
        """As `Faces.fingerprint`, with what decides the order and the pixels of the batches."""
        layers = [_settings(layer) for layer in self._layers or []]
        return {
            **faces.fingerprint(),
            "pipeline": pipeline,
            "training": self.training,
            "batch_size": self.batch_size,
            "seed": self._seed,
            "shard": list(self.shard),
            "sampler": repr(self._sampler),
            "augmentation": "light" if self._layers is None else repr(layers),
        }

    @property
    def numbers(self):
        """Numbers that are drawn for an image; one at least: TensorFlow crashes on empty rows."""
        return max(1, sum(layer.numbers for layer in self._layers or []))

    def _rng(self, epoch):
        return np.random.default_rng([self._seed, epoch])

    def order(self, epoch):
        """This worker's images of an epoch, and the place of each in the order of all workers."""
        index, count = self.shard
        if not self.training:
            rows = np.arange(index, len(self._labels), count)
            return rows, rows
        rng = self._rng(epoch)
        if self._sampler is None:
            order = rng.permutation(len(self._labels))
        else:
            order = self._sampler.draw(self._labels, rng)
        places = _share(np.arange(len(order)), self.shard, self._unit)
        return order[places], places

    def place(self, start):
        """Epoch and number of this worker's images in it that come before `start`."""
        try:
            epoch, step = map(operator.index, start)
        except (TypeError, ValueError):
            epoch, step = -1, -1
        steps = math.ceil(self.count / self.batch_size)
        if epoch < 0 or not 0 <= step < steps or (not self.training and (epoch or step)):
            raise ValueError(
                "`start` is for training and must be (epoch, step), the epoch from 0 and the step "
                f"0..{steps - 1}. Received: start={start!r} with training={self.training}"
            )
        return epoch, step * self.batch_size

    def draw_block(self, epoch, block):
        """What augmentation needs for the images at places `block * _DRAWN`, ... of an epoch.

        The same for every worker, and drawn without those before it.
        """
        # Not from 0 on: numpy takes [seed, epoch, 0] for [seed, epoch], which drew the order.
        rng = np.random.default_rng([self._seed, epoch, block + 1])
        return self.draw(rng, min(_DRAWN, self.drawn - block * _DRAWN))

    def worker_rng(self, epoch, *rest):
        return np.random.default_rng([self._seed, epoch, self.shard[0], *rest])

    def draw(self, rng, count):
        """What augmentation needs for so many images."""
        if self._layers is None:
            return draw_augmentation(rng, count)
        return rng.random((count, self.numbers), "float32")

    def augment(self, images, numbers):
        """The layers one after the other, each with its own columns of the numbers."""
        start = 0
        for layer in self._layers:
            images = layer.transform(images, numbers[:, start : start + layer.numbers])
            start += layer.numbers
        return images

    def augment_arrays(self, images, drawn):
        """As `augment` and as the light augmentation, of uint8 arrays."""
        if self._layers is None:
            return augment(images, drawn)
        images, drawn = map(keras.ops.convert_to_tensor, (images.astype("float32"), drawn))
        return keras.ops.convert_to_numpy(self.augment(images, drawn))


class _Batches(keras.utils.PyDataset):
    """What `Faces.py_dataset` gives."""

    def __init__(self, faces, plan, **options):
        super().__init__(**options)
        self._faces = faces
        self._plan = plan
        self._epoch = 0
        self._begun = False
        self._order, _ = plan.order(0)

    def data_fingerprint(self):
        """As that of `Faces.dataset`."""
        return self._plan.fingerprint(self._faces, "py_dataset")

    # Keras also calls the end of an epoch before the first, and begins an epoch when its workers
    # read already: so the begin is noted and the end draws the next order.
    def on_epoch_begin(self):
        self._begun = True

    def on_epoch_end(self):
        if self._begun:
            self._epoch += 1
            self._begun = False
            self._order, _ = self._plan.order(self._epoch)

    def __len__(self):
        return math.ceil(len(self._order) / self._plan.batch_size)

    def __getitem__(self, step):
        faces, plan = self._faces, self._plan
        chosen = self._order[step * plan.batch_size : (step + 1) * plan.batch_size]
        images = np.stack([read_face(faces.paths[index], faces.image_size) for index in chosen])
        if plan.training:
            rng = plan.worker_rng(self._epoch, step)
            images = plan.augment_arrays(images, plan.draw(rng, len(chosen)))
        return images.astype("float32", copy=False), faces.labels[chosen]


def _settings(layer):
    """The class of an augmentation and its arguments, without the name that Keras counts up."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        config = {}
    return type(layer).__name__, {k: v for k, v in config.items() if k not in ("name", "dtype")}


class _EpochDrawer:
    """Each call is an epoch: blocks of indices in their order, with their augmentation."""

    def __init__(self, plan, epoch, skipped):
        self._plan = plan
        self._epochs = itertools.count(epoch)
        self._skipped = skipped

    def __call__(self):
        plan, epoch = self._plan, next(self._epochs)
        rows, places = (each[self._skipped :] for each in plan.order(epoch))
        self._skipped = 0  # the next epoch is a whole one
        ends = np.flatnonzero(np.diff(places // _DRAWN)) + 1
        for its_rows, its_places in zip(np.split(rows, ends), np.split(places, ends), strict=True):
            drawn = plan.draw_block(epoch, int(its_places[0]) // _DRAWN)
            for first in range(0, len(its_rows), _HANDED):
                part = slice(first, first + _HANDED)
                chosen = its_places[part] % _DRAWN
                if isinstance(drawn, Augmentation):
                    yield its_rows[part], Augmentation(*(field[chosen] for field in drawn))
                else:
                    yield its_rows[part], drawn[chosen]


def _checked_shard(shard, images, unit):
    try:
        index, count = map(operator.index, shard)
    except (TypeError, ValueError):
        index, count = 0, 0
    if not 0 <= index < count <= images // unit:
        what = "images" if unit == 1 else f"images in batches of {unit:,}"
        raise ValueError(
            "`shard` must be (index, count) with index 0..count-1 and an image (of a sampler: a "
            f"batch) for each of the count workers. Received: shard={shard!r} for {images:,} {what}"
        )
    return index, count


def _share(order, shard, unit):
    """A worker's part of an epoch, as long as every other's: the order begins again at its end.

    What the sampler put into one batch stays together.
    """
    index, count = shard
    batches = math.ceil(len(order) / unit / count) * count
    return np.resize(order, batches * unit).reshape(batches, unit)[index::count].reshape(-1)


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


def check_all(check, count, doing="Checking"):
    """`check(0)` .. `check(count - 1)`, called on all cores, with a bar when it takes time.

    Args:
        check: function of an index; what it raises ends the checking.
        count: number of images.
        doing: what the bar says.

    Returns:
        List of what `check` returned.
    """

    def check_block(start):
        return [check(index) for index in range(start, min(start + _BLOCK, count))]

    starts = range(0, count, _BLOCK)
    takes_time = len(starts) >= 8  # more than a second
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("images", takes_time, transient=True) as bar,
    ):
        task = bar.add_task(doing, total=count)
        found = []
        for start, block in zip(starts, pool.map(check_block, starts), strict=True):
            found += block
            bar.update(task, completed=min(start + _BLOCK, count))
        return found


def check_on_bad(on_bad, *choices):
    """Raises ValueError unless `on_bad` is one of the choices."""
    if on_bad not in choices:
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"`on_bad` must be {words}. Received: on_bad={on_bad!r}")


def check_count(source, bad):
    """Refuses a file with more damaged places than a damaged file has: they would fill the memory.

    Raises:
        ValueError: there are more than 100,000.
    """
    if len(bad) > _MOST_BAD:
        raise ValueError(
            f"{source} has more than {_MOST_BAD:,} damaged places. Received: the last at {bad[-1]} "
            "It is another kind of file, or the whole file is damaged: copy it again."
        )


def settle_bad(source, bad, on_bad, what="face crop", stacklevel=3):
    """Refuses the bad entries of a container, or warns of them once, in the same words.

    Args:
        source: what the container is called.
        bad: list of `BadImage`.
        on_bad: "refuse" or "skip".
        what: what they are not.
        stacklevel: of the warning, counted from here.

    Raises:
        ValueError: there are bad entries and `on_bad` is "refuse".
    """
    if bad and on_bad == "refuse":
        raise ValueError(
            f"{report(source, bad, what)}\nRepair or remove them, or leave them out with "
            f'on_bad="skip". Received: on_bad={on_bad!r}'
        )
    if bad:
        warnings.warn(f"{report(source, bad, what)}\nThey are left out.", stacklevel=stacklevel)


def report(source, bad, what="face crop"):
    """Counts the bad entries of a container and names up to ten of them, with their reasons."""
    lines = [f"  {each}" for each in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  ... and {len(bad) - _NAMED:,} more.")
    noun = "entry that is" if len(bad) == 1 else "entries that are"
    return "\n".join([f"{source} has {len(bad):,} {noun} no {what}:", *lines])
