"""Registers every class of this package that a saved model may contain with Keras."""

import os

try:
    import keras  # noqa: F401
except (ModuleNotFoundError, ValueError) as error:  # Keras: ValueError for an unknown backend
    raise ImportError(
        "Keras needs an installed backend: tensorflow, jax or torch. Received: "
        f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND', '')!r}, {error}. Run pip install "
        "'keras_facemargin[tensorflow]' (or [jax], [torch]) and set KERAS_BACKEND to its name."
    ) from error

from keras_facemargin import augmentation, classifier, heads, losses, pooling  # noqa: F401
