"""Training with the rounding of int8 inside, for networks that lose too much by it.

An int8 file rounds the weights of a layer to 254 steps a channel and each tensor between layers to
255. Here a copy of the network rounds so as it trains, and learns the embeddings of the network
that does not round:

    loss = 1 - cos(f(x; weights), f_rounded(x; weights'))

The gradient passes each rounding as if it were not there (Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv:1712.05877, Eq. 12). The
paper follows the range of a tensor by a moving average; here it is that of the batch, because the
export measures all ranges again.
"""

import math
from collections import Counter
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_facemargin.callbacks import StepBar
from keras_facemargin.export.rewrite import LINEAR, called, drop_last_normalisation, flatten

BATCH = 32
PASSES = 2  # over the images and their mirror images
_RATE = 5e-5  # of Adam, falling to 0 along half a cosine
_LEAST = 1e-9  # half the range of a channel of zeros


def tune_for_int8(embedder: Any, images: npt.NDArray[Any], progress: bool = False) -> Any:
    """An embedder whose embeddings stay nearer to those of the old one when they are rounded.

    Args:
        embedder: a Functional `keras.Model`, as `float32_embedder` returns it, without batch
            normalisation behind its convolutions (`merge_normalisation`). It is not changed.
        images: (N, H, W, 3), RGB 0..255, aligned crops of faces. No labels are needed.
        progress: whether to show progress on standard error.

    Returns:
        A Functional `keras.Model` of plain layers, with other weights. It does not normalise.
    """
    plain = drop_last_normalisation(embedder)
    plain, rounded = _rounded(plain)
    faces = np.concatenate([images, images[:, :, ::-1]])
    targets = plain.predict(faces, batch_size=BATCH, verbose=0)
    steps = PASSES * math.ceil(len(faces) / BATCH)
    rounded.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_RATE, steps)),
        keras.losses.CosineSimilarity(),
        jit_compile=False,  # XLA compiles a MobileFaceNet longer than it trains
    )
    with StepBar(steps, progress) as bar:
        rounded.fit(
            *(faces, targets),
            batch_size=BATCH,
            epochs=PASSES,
            shuffle=False,  # the same file each time
            verbose=0,
            callbacks=[bar],
        )
    return plain


def _rounded(embedder: Any) -> tuple[Any, Any]:
    """A flat copy, and a network of the same layers that rounds as an int8 file does."""
    model, steps = flatten(embedder)
    uses = Counter(id(each) for step in steps for each in step.inputs)
    uses.update(map(id, model.outputs))
    # A runtime computes a linear layer and a ReLU behind it in one op, which rounds once.
    before_relu = {
        id(step.inputs[0])
        for step in steps
        if _is_relu(step.layer) and uses[id(step.inputs[0])] == 1
    }
    round_once = {id(step.layer) for step in steps if type(step.layer) in LINEAR}
    round_once -= {id(step.layer) for step in steps if id(step.output) not in before_relu}
    copies: dict[int, Any] = {}  # a layer may be called more than once

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if type(layer) in LINEAR:
            if id(layer) not in copies:
                copies[id(layer)] = _RoundedWeights(layer)
            output = copies[id(layer)](*args, **kwargs)
        else:
            output = layer(*args, **kwargs)
        if id(layer) in round_once:
            return output
        return keras.tree.map_structure(_round, output)

    return model, called(model, call)


def _is_relu(layer: Any) -> bool:
    if type(layer) is keras.layers.ReLU:
        return not layer.negative_slope and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu


def _round(tensor: Any) -> Any:
    return _RoundedTensor()(tensor) if "float" in tensor.dtype else tensor


class _RoundedTensor(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A tensor rounded to 255 steps of its range, which has 0 as one of its values."""

    def call(self, x: Any) -> Any:
        low = ops.minimum(ops.min(x), 0.0)
        high = ops.maximum(ops.max(x), low + _LEAST)
        ends = (ops.stop_gradient(end) for end in (low, ops.maximum(high, 0.0)))
        return keras.quantizers.fake_quant_with_min_max_vars(x, *ends)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class _RoundedWeights(keras.layers.Layer):  # type: ignore[misc]
    """A linear layer whose kernel is rounded to 254 steps of the range of each output channel."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def call(self, x: Any) -> Any:
        kernel = self.layer.kernel
        shape = kernel.shape
        depthwise = type(self.layer) is keras.layers.DepthwiseConv2D
        channels = math.prod(shape[-2:]) if depthwise else shape[-1]
        rows = ops.reshape(kernel, (-1, channels))
        most = ops.stop_gradient(ops.maximum(ops.max(ops.abs(rows), axis=0), _LEAST))
        rows = keras.quantizers.fake_quant_with_min_max_vars(
            rows, -most, most, narrow_range=True, axis=1
        )
        values = {id(each): each.value for each in self.layer.variables}
        values[id(kernel)] = ops.reshape(rows, shape)
        state = [(each, values[id(each)]) for each in self.layer.variables]
        with keras.StatelessScope(state):
            return self.layer(x)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.layer.compute_output_shape(shape)
