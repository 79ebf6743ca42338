"""Networks of the same function, written so that the runtime of a file computes them well.

- `merge_normalisation`: each batch normalisation becomes part of the layer before. Converters merge
  it with that one or with the layer behind it, and then a tensor between the two, whose channels
  differ in range, is rounded to the steps of its widest channel.
- `split_prelu`: LiteRT computes PReLU of integers one number at a time, outside its delegate, which
  takes convolutions of 1x1 and a sum. ONNX Runtime is as fast without.
- `drop_last_normalisation`: a file normalises its embedding itself, and integers normalise badly.
- `guard_normalisation`: LiteRT's delegate computes 1 / sqrt(0) as NaN.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

# The operation of `keras.ops.normalize`, which has no public name.
_NORMALIZE = type(keras.ops.normalize(keras.KerasTensor((1, 1)))._keras_history.operation)
LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


class Step(NamedTuple):
    """A call of a layer, or of an operation, in a flat model."""

    layer: Any
    inputs: list[Any]
    output: Any


def flatten(embedder: Any) -> tuple[Any, list[Step]]:
    """A copy without models of layers inside, and its calls in order.

    Args:
        embedder: a Functional `keras.Model`, as `float32_embedder` returns it. It is not changed.

    Returns:
        A Functional `keras.Model` of new layers, and its steps.
    """
    steps: list[Step] = []
    copies: dict[int, Any] = {}  # by the id of the layer
    originals: dict[int, Any] = {}  # by the id of the copy, until its weights are set

    def copied(layer: Any) -> Any:
        if isinstance(layer, keras.Model) or not isinstance(layer, keras.layers.Layer):
            return layer  # a model is copied when it is called, and an operation has no weights
        if id(layer) not in copies:
            copy = _copied(layer)
            copies[id(layer)], originals[id(copy)] = copy, layer
        return copies[id(layer)]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Sequential):
            output = args[0]
            for each in layer.layers:
                output = call(copied(each), output)
            return output
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            # As `keras.models.clone_model` does, which returns a model of its own.
            return layer._run_through_graph(args[0], operation_fn=copied, call_fn=call)
        output = layer(*args, **kwargs)
        if (original := originals.pop(id(layer), None)) is not None:
            layer.set_weights(original.get_weights())
        given = keras.tree.flatten((args, kwargs))
        tensors = [each for each in given if isinstance(each, keras.KerasTensor)]
        steps.append(Step(layer, tensors, output))
        return output

    image = keras.Input(embedder.input_shape[1:])
    return keras.Model(image, call(embedder, image), name=embedder.name), steps


def _copied(layer: Any) -> Any:
    """A layer of the same configuration, without its weights."""
    if type(layer) is keras.layers.Lambda:
        # Its configuration holds code, which Keras does not run. Here the function is at hand.
        shape = layer._output_shape
        return keras.layers.Lambda(
            layer.function, shape, layer.mask, layer.arguments, name=layer.name
        )
    return layer.__class__.from_config(layer.get_config())


def merge_normalisation(embedder: Any) -> Any:
    """An embedder of the same function whose linear layers have their batch normalisation inside.

        BN(W x + b) = (s W) x + s (b - mean) + beta,   s = gamma / sqrt(variance + epsilon)

    Args:
        embedder: as `flatten`.

    Returns:
        A Functional `keras.Model` of new layers. A normalisation that no such layer precedes stays.
    """
    model, steps = flatten(embedder)
    calls = Counter(id(step.layer) for step in steps)
    uses = Counter(id(each) for step in steps for each in step.inputs)
    uses.update(map(id, model.outputs))
    makers: dict[int, Any] = {id(step.output): step.layer for step in steps}
    merged = {}  # id of a linear layer -> its normalisation
    for layer, inputs, _ in steps:
        before: Any = makers.get(id(inputs[0])) if len(inputs) == 1 else None
        if (
            type(layer) is keras.layers.BatchNormalization
            and type(before) in LINEAR
            and before.activation is keras.activations.linear
            and getattr(before, "data_format", "channels_last") == "channels_last"
            and layer.axis in (-1, inputs[0].ndim - 1)
            and calls[id(layer)] == calls[id(before)] == uses[id(inputs[0])] == 1
        ):
            merged[id(before)] = layer
    gone = set(map(id, merged.values()))

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) in gone:
            return _tensor(args, kwargs)
        if id(layer) not in merged:
            return layer(*args, **kwargs)
        whole = type(layer).from_config({**layer.get_config(), "use_bias": True})
        output = whole(*args, **kwargs)
        whole.set_weights(_merged(layer, merged[id(layer)]))
        return output

    return called(model, call)


def _merged(layer: Any, normalisation: Any) -> list[npt.NDArray[Any]]:
    """Kernel and bias of a layer with its normalisation."""
    kernel, *bias = (each.astype("float64") for each in layer.get_weights())
    mean, variance, gamma, beta = (
        default if weight is None else keras.ops.convert_to_numpy(weight).astype("float64")
        for weight, default in (
            (normalisation.moving_mean, 0.0),
            (normalisation.moving_variance, 1.0),
            (normalisation.gamma, 1.0),
            (normalisation.beta, 0.0),
        )
    )
    scale = gamma / np.sqrt(variance + normalisation.epsilon)
    # The last axes of a kernel are its output channels, of a depthwise one together.
    depthwise = type(layer) is keras.layers.DepthwiseConv2D
    kernel *= scale.reshape(kernel.shape[-2:]) if depthwise else scale
    return [kernel, ((bias[0] if bias else 0.0) - mean) * scale + beta]


def split_prelu(embedder: Any) -> Any:
    """An embedder of the same function, with PReLU as a sum of two convolutions of 1x1.

        PReLU(x) = ReLU(x) - sign(a) ReLU(-|a| x)

    Each part has a range of its own, so that nothing is lost to rounding.

    Args:
        embedder: as `flatten`.

    Returns:
        A Functional `keras.Model`. Slopes that differ from place to place stay a PReLU.
    """

    numbers = itertools.count()  # in the names: a layer may be called more than once

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if type(layer) is not keras.layers.PReLU:
            return layer(*args, **kwargs)
        x = _tensor(args, kwargs)
        slopes = _slopes(layer, x)
        if slopes is None:
            return layer(*args, **kwargs)
        name = f"prelu{next(numbers)}_of_{layer.name}"
        above = _scaled(x, np.ones_like(slopes), f"{name}_above", "relu")
        if not slopes.any():
            return above
        # A kernel of zeros would have no scale.
        negative = np.where(slopes == 0, -1.0, -np.abs(slopes))
        below = _scaled(x, negative, f"{name}_below", "relu")
        if (slopes > 0).all():
            return keras.layers.Subtract(name=name)([above, below])
        if not (slopes < 0).all():
            below = _scaled(below, -np.sign(slopes), f"{name}_signed", None)
        return keras.layers.Add(name=name)([above, below])

    return called(flatten(embedder)[0], call)


def drop_last_normalisation(embedder: Any) -> Any:
    """An embedder whose embeddings keep their direction, without a normalisation at its end.

    Args:
        embedder: as `flatten`.

    Returns:
        A Functional `keras.Model`; `embedder` itself if it does not end so.
    """
    if not _normalises(embedder):
        return embedder
    model, steps = flatten(embedder)
    makers = {id(step.output): step for step in steps}
    output = model.output
    while (
        (step := makers.get(id(output)))
        and _epsilon_of(step.layer) is not None
        and step.layer.axis in (-1, 1)
    ):
        (output,) = step.inputs
    if output is model.output:
        return embedder
    return keras.Model(model.input, output, name=model.name)


def guard_normalisation(embedder: Any, smallest: float) -> Any:
    """An embedder of the same function whose vectors of zeros stay zeros in every runtime.

        x / |x| = x / sqrt(max(sum x^2, s))

    Keras takes the minimum of 1 / sqrt(sum x^2) and 1 / epsilon instead, and a file of float16 has
    no number that is as large or as small.

    Args:
        embedder: as `flatten`.
        smallest: s is the square of the layer's epsilon, but at least this.

    Returns:
        A Functional `keras.Model`; `embedder` itself if it normalises nothing.
    """
    if not _normalises(embedder):
        return embedder

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        epsilon = _epsilon_of(layer)
        if epsilon is None:
            return layer(*args, **kwargs)
        ops, x = keras.ops, _tensor(args, kwargs)
        squares = ops.sum(ops.square(x), axis=layer.axis, keepdims=True)
        return x * ops.rsqrt(ops.maximum(squares, max(epsilon**2, smallest)))

    return called(flatten(embedder)[0], call)


def _normalises(model: Any) -> bool:
    """Whether a model, or one of the models in it, divides by an L2 norm."""
    parts = getattr(model, "operations", getattr(model, "layers", ()))
    return any(_epsilon_of(each) is not None or _normalises(each) for each in parts)


def _epsilon_of(layer: Any) -> float | None:
    """The epsilon of a layer or operation that divides by the L2 norm; None of another."""
    if type(layer) is keras.layers.UnitNormalization:
        return 1e-12  # Keras' constant
    if type(layer) is _NORMALIZE and layer.order == 2:
        return float(keras.config.epsilon() if layer.epsilon is None else layer.epsilon)
    return None


def _tensor(args: Any, kwargs: Any) -> Any:
    """The input of a call of a layer with one input."""
    (tensor,) = (each for each in (*args, *kwargs.values()) if isinstance(each, keras.KerasTensor))
    return tensor


def _slopes(layer: Any, tensor: Any) -> npt.NDArray[Any] | None:
    """One slope for each channel of `(B, H, W, C)`; None where there is none."""
    if tensor.ndim != 4:
        return None
    alpha = np.broadcast_to(layer.get_weights()[0], (*tensor.shape[1:],))
    rows = alpha.reshape(-1, alpha.shape[-1])
    return rows[0] if (rows == rows[0]).all() else None


def _scaled(tensor: Any, factors: npt.NDArray[Any], name: str, activation: str | None) -> Any:
    layer = keras.layers.DepthwiseConv2D(1, use_bias=False, activation=activation, name=name)
    output = layer(tensor)
    layer.set_weights([factors.reshape(1, 1, -1, 1)])
    return output


def called(model: Any, call: Callable[..., Any]) -> Any:
    """A flat model whose layers are called by `call(layer, *args, **kwargs)`."""
    image = keras.Input(model.input_shape[1:])
    output = model._run_through_graph(image, operation_fn=lambda layer: layer, call_fn=call)
    return keras.Model(image, output, name=model.name)
