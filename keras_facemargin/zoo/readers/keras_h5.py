"""Weights in Keras' older HDF5 form (`.h5`), of a model or of weights alone."""

import os
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import Problem, State, checked_count, reading


def read(path: str | os.PathLike[str]) -> State:
    """Reads the weights of all layers, in the order in which the file lists them.

    The network that such a file may also describe is not built: its description may hold pickled
    Python.

    Args:
        path: the `.h5` file.

    Returns:
        Weights by "layer/weight" as the file names them.

    Raises:
        BadFile: the file is not of this form, or is damaged.
        OSError: it cannot be read.
    """
    import h5py

    size = os.stat(path).st_size
    with reading(path, "Keras weights in an .h5 file"):
        try:
            with h5py.File(path, "r") as file:
                return _weights(file.get("model_weights", file), size)
        except OSError as error:  # h5py's for damage; that the file can be read is known
            raise Problem(
                "a file that is damaged or of another kind. Copy or download it again."
            ) from error


def _weights(root: typing.Any, size: int) -> State:
    state: State = {}
    if "layer_names" not in root.attrs:
        raise Problem("a file that does not list its layers.")
    for layer in _texts(root.attrs, "layer_names"):
        group = root[layer]
        for name in _texts(group.attrs, "weight_names"):
            data = group[name]
            # Compressed data may be larger than the file, and a link may lead elsewhere.
            if data.dtype.kind not in "fiu" or data.external or data.is_virtual:
                raise Problem(f"the weight {name!r:.80} of type {data.dtype}.")
            checked_count(data.shape, size // data.dtype.itemsize, f"the weight {name!r:.80}")
            state[f"{layer}/{name}"] = np.asarray(data)
    if not state:
        raise Problem("a file without weights.")
    return state


def _texts(attributes: typing.Any, name: str) -> list[str]:
    """A list of names; Keras splits a long one over `name0`, `name1` and so on."""
    parts: list[typing.Any] = list(attributes[name]) if name in attributes else []
    number = 0
    while f"{name}{number}" in attributes:
        parts += list(attributes[f"{name}{number}"])
        number += 1
    return [each.decode("utf-8") if isinstance(each, bytes) else str(each) for each in parts]
