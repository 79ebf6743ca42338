"""Keras models on disk: opened without running code of the file, written in one step."""

import os

import keras
from keras.src.saving.serialization_lib import SafeModeScope  # Keras has no public name for it

from keras_facemargin.files import draft_of


def open_model(path: str | os.PathLike[str]) -> keras.Model:
    """Opens a `.keras` file, uncompiled, and never runs pickled Python from it.

    `keras.config.enable_unsafe_deserialization()`, which a program may have called for another
    file, overrules Keras' own `safe_mode=True`. This function always opens the file in safe mode,
    and the setting keeps its value.

    Args:
        path: the file.

    Returns:
        The model.

    Raises:
        Exception: of many types: Keras raises a different one for each kind of damage.

    Example:

    >>> save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]), "model.keras")
    >>> open_model("model.keras").output_shape
    (None, 3)
    """
    with SafeModeScope(True):
        return keras.saving.load_model(path, compile=False)


def save_model(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as a `.keras` file in one step: an existing file is complete.

    Args:
        model: a `keras.Model`.
        path: the file to write or replace, ending in `.keras`.

    Raises:
        OSError: the file cannot be written; if the disk is full, the error names `path`.

    Example:

    >>> save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]), "model.keras")
    """
    with draft_of(path, ".draft.keras") as draft:
        model.save(draft)
        with open(draft, "r+b") as file:
            os.fsync(file.fileno())  # the content before the name
