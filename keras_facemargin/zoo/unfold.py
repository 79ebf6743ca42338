"""Statistics for batch normalisation that an exporter had folded away.

A folded batch normalisation is a scale and an offset. With mean 0 and variance 1 the layer computes
the same in inference, but a training step normalises by the batch instead, and ruins the network:
dlib's then has a cosine of 0.92 to its own embedding. So each layer gets mean and variance of its
own input on real faces, and they are taken out of its scale and offset: the function is the same,
and training starts from it. Drawn faces do not serve: their statistics differ (0.98 for dlib's
network, 0.82 for a MobileFaceNet).
"""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

_BATCH = 8

# Mean and variance of each channel.
Statistics = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def unfold(model: keras.Model, names: Sequence[str], crops: npt.NDArray[np.uint8]) -> None:
    """Gives batch normalisations the statistics of their inputs.

    Args:
        model: Functional, of images.
        names: of the `BatchNormalization` layers to change.
        crops: (N, H, W, 3) faces as the model takes them; 64 or more.
    """
    give_statistics(model, names, measure_statistics(model, names, crops))


def measure_statistics(
    model: keras.Model, names: Sequence[str], crops: npt.NDArray[np.uint8]
) -> list[Statistics]:
    """Mean and variance of the inputs of layers.

    Args:
        model, names, crops: as `unfold`.
    """
    tensors = [model.get_layer(name).input for name in names]
    watch = keras.Model(model.input, tensors)
    sums = [np.zeros((2, tensor.shape[-1])) for tensor in tensors]
    for start in range(0, len(crops), _BATCH):
        batch = crops[start : start + _BATCH].astype("float32")
        maps = watch(batch, training=False)
        for total, values in zip(sums, maps, strict=True):
            flat = ops.convert_to_numpy(values).astype("float64").reshape(-1, values.shape[-1])
            total += np.stack([flat.mean(0), np.square(flat).mean(0)]) * len(batch)
    moments = [total / len(crops) for total in sums]
    return [(mean, np.maximum(square - np.square(mean), 0)) for mean, square in moments]


def give_statistics(
    model: keras.Model, names: Sequence[str], statistics: Sequence[Statistics]
) -> None:
    """Sets mean and variance of batch normalisations; their function stays the same.

    Args:
        model, names: as `unfold`.
        statistics: one pair a layer.
    """
    for name, (mean, variance) in zip(names, statistics, strict=True):
        layer = model.get_layer(name)
        gamma, beta, old_mean, old_variance = layer.get_weights()
        scale = gamma / np.sqrt(old_variance.astype("float64") + layer.epsilon)
        gamma = scale * np.sqrt(variance + layer.epsilon)
        layer.set_weights([gamma, beta + scale * (mean - old_mean), mean, variance])
