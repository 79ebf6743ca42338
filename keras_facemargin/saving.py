"""Keras models on disk: opened without running what is in the file, written in one step."""

import os

import keras
from keras.src.saving.serialization_lib import SafeModeScope  # Keras has no public name for it

from keras_facemargin.files import draft_of


def open_model(path):
    """Opens a `.keras` file, uncompiled, and never runs pickled Python that is in it.

    Keras' own `safe_mode=True` gives way to `keras.config.enable_unsafe_deserialization()`, which
    a program may have called for another file. Here the file is opened in safe mode whatever that
    switch says, and the switch keeps its value.

    Args:
        path: the file.

    Returns:
        The model.

    Raises:
        Exception: of many types: Keras raises a different one for each way to be broken.

    Example:

    >>> save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]), "model.keras")
    >>> open_model("model.keras").output_shape
    (None, 3)
    """
    with SafeModeScope(True):
        return keras.saving.load_model(path, compile=False)


def save_model(model, path):
    """Writes a model as a `.keras` file that is complete whenever it is there.

    Args:
        model: a `keras.Model`.
        path: the file to write or replace, ending in `.keras`.

    Raises:
        OSError: it cannot be written; of a full disk the error names `path`.

    Example:

    >>> save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]), "model.keras")
    """
    with draft_of(path, ".draft.keras") as draft:
        model.save(draft)
        with open(draft, "r+b") as file:
            os.fsync(file.fileno())  # the content before the name
