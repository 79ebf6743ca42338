"""An embedder small enough to train in a second, and sound enough to distinguish drawn faces."""

import functools

import keras
from inference import infer

from keras_facemargin.images.crop import Crop
from keras_facemargin.images.synthetic import synthesize_faces


def tiny_embedder(size=None):
    """(B, H, W, 3) RGB 0..255 -> (B, 24): random features, centred on synthetic faces.

    Args:
        size: the crop, as `Crop.of` takes it; default 112x112.
    """
    original = _original(Crop.of(size))
    model = keras.models.clone_model(original)
    model.set_weights(original.get_weights())
    return model


@functools.cache
def _original(crop):
    generator = keras.random.SeedGenerator(0)
    image = keras.Input((*crop.shape, 3))
    x = keras.layers.AveragePooling2D(8)(image)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    initializer = keras.initializers.GlorotUniform(seed=generator)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer=initializer)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(24, use_bias=False, kernel_initializer=initializer)(x)
    normalization = keras.layers.BatchNormalization(name="normalization")
    model = keras.Model(image, normalization(x), name="tiny")

    features = infer(keras.Model(image, x), synthesize_faces(16, 2, seed=1, size=crop)[0])
    normalization.moving_mean.assign(features.mean(axis=0))
    normalization.moving_variance.assign(features.var(axis=0))
    return model
