"""The student: its loss, its state in a file, and its forms for measuring and for saving."""

import io
import json
import os
import zipfile

import cv2
import h5py
import keras
import networks
import numpy as np
from keras import ops

from keras_facemargin import CosFace
from keras_facemargin.files import draft_of
from keras_facemargin.saving import save_model
from keras_facemargin.zoo import digest_of

SIZE = 112
RELATION_WEIGHT = 1.0
LABEL_WEIGHT = 0.02  # the loss of the labels is in nats, 10 at first; that of the targets 0 to 1
MARGIN, SCALE = 0.2, 32.0
AVERAGE = 0.999  # of the weights, a step
_AVERAGED_EVERY = 10  # steps


class Student(keras.Model):
    r"""An embedder with the loss of its views.

    With the unit embeddings :math:`s_i` of views and the targets :math:`t_i` of the clean crops,

    .. math::
        \frac{1}{B} \sum_i (1 - s_i \cdot t_i)
        + \frac{\lambda}{v B (B - 1)} \sum_{i \ne j} \max(s_i \cdot s_j - t_i \cdot t_j, 0)^2
        + \mu L_i

    where v is the variance of the cosines of targets: the second term pushes apart strangers who
    became more similar than their clean crops are (as `robustify` does). :math:`L_i` is CosFace's
    loss of labelled crops against fixed prototypes, the means of each person's targets: nothing
    more to learn, and the embedding stays in the teacher's space.

    Call: views uint8 or float (B, size, size, 3) -> (B, D). The truth is (targets, labels), label
    -1 of an unknown person.
    """

    def __init__(self, embedder, prototypes=None):
        super().__init__()
        self.embedder = embedder
        self.head = None
        if prototypes is not None:
            self.head = CosFace(len(prototypes), margin=MARGIN, scale=SCALE, trainable=False)
            self.head.build((None, prototypes.shape[1]))
            self.head.set_prototypes(prototypes)

    def call(self, views, training=None):
        return self.embedder(ops.cast(views, "float32"), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets, labels = y
        targets = ops.cast(targets, "float32")
        units = ops.normalize(ops.cast(y_pred, "float32"), axis=1)
        loss = ops.mean(1.0 - ops.sum(units * targets, axis=1))
        count = ops.shape(targets)[0]
        others = 1.0 - ops.eye(count)
        pairs = ops.cast(count * (count - 1), "float32")
        wanted = ops.matmul(targets, ops.transpose(targets))
        mean = ops.sum(wanted * others) / pairs
        variance = ops.sum(ops.square(wanted - mean) * others) / pairs
        excess = ops.relu(ops.matmul(units, ops.transpose(units)) - wanted) * others
        loss += RELATION_WEIGHT * ops.sum(ops.square(excess)) / (pairs * variance)
        if self.head is not None:
            losses, _ = self.head.compute_losses(y_pred, labels, training=training)
            loss += LABEL_WEIGHT * ops.mean(losses)
        return loss


class State:
    """Weights, their running average and the optimizer's variables, as arrays by name.

    Args:
        network: name in `networks.CANDIDATES`.
        origin: digest of the file whose weights it began with, "" if they were random.
        images: number of views seen.
        cpu_hours: CPU time of all runs.
        arrays: dict from name to array; None at the start.
    """

    def __init__(self, network, origin="", images=0, cpu_hours=0.0, arrays=None):
        self.network, self.origin = network, origin
        self.images, self.cpu_hours = images, cpu_hours
        self.arrays = arrays or {}

    def begin_with(self, file):
        """Takes the weights of an earlier embedder, a .keras file, as `networks.grow` does."""
        embedder = networks.CANDIDATES[self.network]()
        networks.grow(embedder, keras.saving.load_model(file))
        self.origin = digest_of(file)
        self.arrays = {
            name: ops.convert_to_numpy(variable).copy()
            for kind in ("weights", "average")
            for name, variable in _named(kind, embedder.weights)
        }

    def student(self, size, learning_rate, prototypes):
        """A compiled student in mixed bfloat16 that continues from here at a size of crop."""
        keras.config.set_dtype_policy("mixed_bfloat16")
        embedder = networks.CANDIDATES[self.network](size)
        keras.config.set_dtype_policy("float32")
        student = Student(embedder, prototypes)
        student.compile(keras.optimizers.AdamW(learning_rate, weight_decay=0.02))
        student.optimizer.build(student.embedder.trainable_variables)
        self._put("weights", embedder.weights)
        self._put("optimizer", student.optimizer.variables)
        self.take(student)
        return student

    def take(self, student):
        """Copies of the student's weights and of its optimizer; the average where it has none."""
        for kind, variables in (
            ("weights", student.embedder.weights),
            ("optimizer", student.optimizer.variables),
        ):
            for name, variable in _named(kind, variables):
                self.arrays[name] = ops.convert_to_numpy(variable)
        for name, variable in _named("average", student.embedder.weights):
            array = self.arrays.get(name)
            if array is None or array.shape != variable.shape:
                array = _resized(array, variable.shape) if array is not None else None
                self.arrays[name] = (
                    ops.convert_to_numpy(variable).copy() if array is None else array
                )

    def average(self, student, step):
        """Moves the average towards the weights; short at first, when the weights move fast."""
        if step % _AVERAGED_EVERY:
            return
        keep = min(AVERAGE**_AVERAGED_EVERY, step / (step + 100))
        for name, variable in _named("average", student.embedder.weights):
            array = self.arrays[name]
            array *= keep
            array += (1 - keep) * ops.convert_to_numpy(variable)

    def measured(self, size):
        """The averaged network in float32 for 112x112 crops, which it shrinks to its size."""
        embedder = self.saved(size)
        if size == SIZE:
            return embedder
        image = keras.Input((SIZE, SIZE, 3))
        small = ops.image.resize(image, (size, size), interpolation="bilinear", antialias=True)
        return keras.Model(image, embedder(small))

    def saved(self, size=SIZE):
        """The averaged network in its plain form."""
        embedder = networks.CANDIDATES[self.network](size)
        self._put("average", embedder.weights)
        return networks.plain(embedder)

    def save(self, path, about):
        """Exact: the run resumes as if it had not stopped."""
        self._write(path, self.arrays, about, np.savez)

    def save_small(self, path, about):
        """Half precision, without the first moments, which ten steps make again."""
        small = {}
        for name, array in self.arrays.items():
            if name.endswith("_momentum"):
                continue
            if array.dtype == np.float32 and array.ndim:
                array = np.sqrt(array) if name.endswith("_velocity") else array
                scale = np.abs(array).max(initial=1e-30)
                small[f"{name}/scale"] = scale
                array = (array / scale).astype(np.float16)
            small[name] = array
        self._write(path, small, about, np.savez_compressed)

    @classmethod
    def load(cls, path):
        """A state and what was written about it."""
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        for name in [name for name in arrays if name.endswith("/scale")]:
            scale, name = arrays.pop(name), name.removesuffix("/scale")
            array = arrays[name].astype(np.float32) * scale
            arrays[name] = array**2 if name.endswith("_velocity") else array
        names = ("network", "origin", "images", "cpu_hours")
        return cls(*(about[name] for name in names), arrays), about

    def _write(self, path, arrays, about, write):
        about = {
            **about,
            "network": self.network,
            "origin": self.origin,
            "images": self.images,
            "cpu_hours": self.cpu_hours,
        }
        with draft_of(path) as draft, open(draft, "wb") as file:
            write(file, about=json.dumps(about), **arrays)
            file.flush()
            os.fsync(file.fileno())

    def _put(self, kind, variables):
        for name, variable in _named(kind, variables):
            if name in self.arrays:
                variable.assign(_resized(self.arrays[name], variable.shape))


def save_half(embedder, path):
    """A .keras file with float16 weights, which Keras opens in float32: half as large."""
    save_model(embedder, path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    whole, half = io.BytesIO(files["model.weights.h5"]), io.BytesIO()
    with h5py.File(whole) as source, h5py.File(half, "w") as target:
        _copy_half(source, target)
    files["model.weights.h5"] = half.getvalue()
    with draft_of(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _copy_half(source, target):
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_half(item, target.create_group(name))
        elif item.dtype == np.float32:
            target.create_dataset(name, data=item[()].astype(np.float16))
        else:
            source.copy(item, target, name)


def _named(kind, variables):
    """(name, variable) in order; a name is the same in each build of the network.

    It has only the end of the variable's: Keras numbers the layers of a process that have no name.
    """
    for number, variable in enumerate(variables):
        yield f"{kind}/{number:03}_{variable.name.rpartition('_')[2]}", variable


def _resized(array, shape):
    """The array; a kernel as large as the map is stretched to another size of crop."""
    shape = tuple(shape)
    if array.shape == shape:
        return array
    along = [
        cv2.resize(np.eye(old, dtype=np.float32), (old, new))
        for old, new in zip(array.shape[:2], shape[:2], strict=True)
    ]
    stretched = np.einsum("ia,jb,ab...->ij...", *along, array)
    return stretched * (array[..., 0, 0].size / stretched[..., 0, 0].size)
