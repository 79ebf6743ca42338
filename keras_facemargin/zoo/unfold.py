"""Statistics for batch normalisation that an exporter had folded away.

A folded batch normalisation is a scale and an offset. With mean 0 and variance 1 the layer computes
the same in inference, but the first training step would normalise by the batch instead, and ruin
the network: a cosine of 0.92 to its own embedding for dlib's. So each layer gets mean and variance
of its own input on faces, and they are taken out of scale and offset. The function stays the same.
"""

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

_BATCH = 8


def unfold(model: keras.Model, names: tuple[str, ...], crops: npt.NDArray[np.uint8]) -> None:
    """Gives batch normalisations the statistics of their inputs.

    Args:
        model: Functional, of images.
        names: of the `BatchNormalization` layers to change.
        crops: (N, H, W, 3) faces as the model takes them.
    """
    if not names:
        return
    chosen = [model.get_layer(name) for name in names]
    watch = keras.Model(model.inputs, [layer.input for layer in chosen])
    count, sums = 0, [np.zeros((2, layer.input.shape[-1])) for layer in chosen]
    for start in range(0, len(crops), _BATCH):
        batch = crops[start : start + _BATCH].astype("float32")
        maps = watch(batch, training=False)
        for total, values in zip(sums, maps if len(chosen) > 1 else [maps], strict=True):
            flat = ops.convert_to_numpy(values).astype("float64").reshape(-1, values.shape[-1])
            # The mean of the batch's means: all batches but the last have one size.
            total += np.stack([flat.mean(0), np.square(flat).mean(0)]) * len(batch)
        count += len(batch)
    for layer, total in zip(chosen, sums, strict=True):
        mean, square = total / count
        variance = np.maximum(square - np.square(mean), 0)
        gamma, beta, old_mean, old_variance = layer.get_weights()
        scale = gamma / np.sqrt(old_variance.astype("float64") + layer.epsilon)
        layer.set_weights(
            [
                scale * np.sqrt(variance + layer.epsilon),
                beta + scale * (mean - old_mean),
                mean,
                variance,
            ]
        )
