"""A neutral graph becomes a Functional Keras model of stock layers, channels last.

A network in the layout (N, C, H, W) is rebuilt in (N, H, W, C): kernels are turned, and a linear
layer after a flattened map gets its rows in the new order. Batch normalisation in the graph becomes
a trainable `BatchNormalization`. Where an exporter folded it into a convolution, the convolution
keeps its bias, which trains as well; on request it is put back, and `unfold` gives it statistics.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_facemargin.backbones.preprocessing import preprocess
from keras_facemargin.zoo.readers.contents import Graph, Node, Tensor
from keras_facemargin.zoo.simplify import simplify

_EPSILON = 1e-5  # of batch normalisation that is put back


class UnknownOperator(ValueError):
    """The graph has an operation that has no Keras layer here."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A model, and the names of its batch normalisations that an exporter had folded."""

    model: keras.Model
    folded: tuple[str, ...]


def build(
    graph: Graph,
    *,
    size: tuple[int, int],
    preprocessing: typing.Any = "inside",
    restore_normalization: bool = False,
    name: str = "embedder",
) -> Built:
    """Rebuilds a graph in Keras layers.

    Args:
        graph: from a reader.
        size: (height, width) of the crop, for graphs that leave it open.
        preprocessing: the pixels that the graph takes, as in `build_embedder`: "inside" for RGB
            0..255, or (mean, std, order).
        restore_normalization: whether a convolution with a bias gets a batch normalisation in its
            place, with mean 0 and variance 1: the same function, but `unfold` must give it
            statistics of real faces before it is trained.
        name: of the model.

    Returns:
        A `Built`. The model maps (B, height, width, 3), RGB 0..255, to the graph's embedding. Its
        `folded` are the batch normalisations that need `unfold`. Convolutions on pooled maps
        (squeeze-and-excitation) and linear layers keep their bias in every case.

    Raises:
        UnknownOperator: an operation that is not known; the message names it.
        ValueError: the graph does not map one image to one embedding, or a known operation has
            settings that are not converted.
    """
    return _Builder(simplify(graph), size, preprocessing, restore_normalization).build(name)


@dataclasses.dataclass(frozen=True)
class _Value:
    """A tensor of the graph.

    Attributes:
        tensor: the Keras tensor; a map is always (B, H, W, C).
        first: the graph sees a map as (N, C, H, W).
        flat: the graph sees the map as a vector; it is flattened by the next layer.
        pooled: it comes from global pooling, without a full map since.
    """

    tensor: keras.KerasTensor
    first: bool
    flat: bool = False
    pooled: bool = False

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape without the batch, as Keras has it."""
        return tuple(self.tensor.shape[1:])

    def becomes(self, tensor: keras.KerasTensor, **changes: bool) -> "_Value":
        return dataclasses.replace(self, tensor=tensor, **changes)


class _Builder:
    def __init__(
        self, graph: Graph, size: tuple[int, int], preprocessing: typing.Any, restore: bool
    ):
        self.graph = graph
        self.restore = restore
        self.size = self._image_size(size)
        self.preprocessing = preprocessing
        self.values: dict[str, _Value | Tensor] = dict(graph.constants)
        self.counts: dict[str, int] = {}
        self.folded: list[str] = []
        self.node = Node("", "", [], [])
        self.normalized = {
            node.inputs[0] for node in graph.nodes if node.op == "BatchNormalization"
        }

    def _image_size(self, size: tuple[int, int]) -> tuple[int, int]:
        shape = self.graph.input_shape
        sides = shape[2:4] if self.graph.channels_first else shape[1:3]
        channels = shape[1:2] if self.graph.channels_first else shape[3:4]
        fixed = len(sides) == 2 and all(b in (0, a) for a, b in zip(size, sides, strict=True))
        if len(shape) != 4 or channels not in ((3,), (0,)) or not fixed:
            raise ValueError(
                "The graph must take images of three channels and of the crop's size, "
                f"{size[0]}x{size[1]}. Received: a graph for the shape {shape}."
            )
        return size

    def build(self, name: str) -> Built:
        image = keras.Input((*self.size, 3), name="image")
        start = preprocess(image, self.preprocessing)
        self.values[self.graph.input] = _Value(start, self.graph.channels_first)
        for node in self.graph.nodes:
            self.node = node
            self._run(node)
        found = [self.values.get(each) for each in self.graph.outputs]
        vectors = [
            tensor
            for value in found
            if isinstance(value, _Value) and len((tensor := self._vector(value)).shape) == 2
        ]
        wide = [each for each in vectors if each.shape[-1] > 1]  # some also return the norm
        if len(wide) != 1:
            raise ValueError(
                "The graph must return one embedding. Received: "
                f"{len(wide)} vectors among {len(found)} outputs."
            )
        model = keras.Model(image, wide[0], name=name)
        kept = {layer.name for layer in model.layers}
        return Built(model, tuple(each for each in self.folded if each in kept))

    def _run(self, node: Node) -> None:
        arguments = [self.values[each] if each else None for each in node.inputs]
        if node.op in _FOLDS and all(not isinstance(each, _Value) for each in arguments):
            self.values[node.outputs[0]] = _FOLDS[node.op](node.attributes, *arguments)
            return
        step = _OPERATORS.get(node.op)
        if step is None:
            raise UnknownOperator(
                f"The operator {node.op!r} has no Keras layer here. Received: the node "
                f"{node.name!r}. Known operators: {', '.join(sorted(_OPERATORS))}."
            )
        made = step(self, *arguments, **node.attributes)
        self.values[node.outputs[0]] = made

    # Help for the operators.

    def refuse(self, what: str) -> ValueError:
        return ValueError(
            f"An operator has a setting that is not converted. Received: {self.node.op}, node "
            f"{self.node.name!r}, {what}."
        )

    def name(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}_{self.counts[kind]}"

    def apply(
        self,
        value: _Value,
        layer: layers.Layer,
        weights: Sequence[Tensor] = (),
        **changes: bool,
    ) -> _Value:
        tensor = layer(value.tensor)
        if weights:
            shapes = [tuple(each.shape) for each in layer.weights]
            found = [tuple(each.shape) for each in weights]
            if shapes != found:
                raise self.refuse(f"weights of shapes {found} for {shapes}")
            layer.set_weights([np.asarray(each, "float32") for each in weights])
        return value.becomes(tensor, **changes)

    def variable(self, value: typing.Any) -> _Value:
        if not isinstance(value, _Value):
            raise self.refuse("a constant in place of a map")
        return value

    def constant(self, value: typing.Any) -> Tensor:
        if not isinstance(value, np.ndarray):
            raise self.refuse("a computed tensor in place of weights")
        return value

    def map(self, value: typing.Any) -> _Value:
        """A map, not a vector."""
        found = self.variable(value)
        if len(found.sides) != 3 or found.flat:
            raise self.refuse(f"an input of shape {found.sides} in place of a map")
        return found

    def per_channel(self, value: _Value, constant: Tensor) -> Tensor:
        """A constant that is one number, or one a channel, as a vector or a number."""
        shape = list(constant.shape)
        if len(value.sides) == 3 and not value.flat and value.first:
            shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
            others = shape[1:] if len(shape) == 3 else shape
        else:
            others = shape[:-1]
        size = constant.size
        if size > 1 and (math.prod(others) != 1 or size != value.sides[-1]):
            raise self.refuse(f"a constant of shape {constant.shape} on {value.sides}")
        return constant.ravel() if size > 1 else constant.reshape(())

    def _vector(self, value: _Value) -> keras.KerasTensor:
        """The tensor as the graph sees it, with a pending flattening done."""
        if not value.flat:
            return value.tensor
        tensor = value.tensor
        if value.first and math.prod(value.sides[:2]) > 1:
            tensor = layers.Permute((3, 1, 2), name=self.name("permute"))(tensor)
        return layers.Flatten(name=self.name("flatten"))(tensor)

    def padded(
        self,
        value: _Value,
        size: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        pads: Sequence[int] | None,
        auto_pad: str,
    ) -> tuple[_Value, str]:
        """The map with zeros around it if need be, and the `padding` of the layer."""
        if auto_pad == "SAME_UPPER":
            return value, "same"
        pads = list(pads or (0, 0, 0, 0))
        if auto_pad not in ("NOTSET", "VALID") or len(pads) != 4 or min(pads) < 0:
            raise self.refuse(f"auto_pad {auto_pad!r} and pads {pads}")
        if not any(pads):
            return value, "valid"
        reach = [(n - 1) * step for n, step in zip(size, dilations, strict=True)]
        halves = [each // 2 for each in reach]
        if set(strides) == {1} and pads == halves * 2 and not any(each % 2 for each in reach):
            return value, "same"
        layer = layers.ZeroPadding2D(
            ((pads[0], pads[2]), (pads[1], pads[3])), name=self.name("zero_padding")
        )
        return self.apply(value, layer), "valid"

    def scale(self, value: _Value, scale: npt.ArrayLike, offset: npt.ArrayLike) -> _Value:
        """scale * x + offset; two in a row become one."""
        tensor = value.tensor if not value.flat else self._vector(value)
        before = tensor._keras_history.operation
        if isinstance(before, layers.Rescaling):
            scale = np.asarray(scale, "f4")
            scale, offset = before.scale * scale, before.offset * scale + np.asarray(offset, "f4")
            tensor = before.input
        pair = np.broadcast_arrays(np.asarray(scale, "f4"), np.asarray(offset, "f4"))
        numbers = [each.tolist() for each in pair]
        layer = layers.Rescaling(numbers[0], offset=numbers[1], name=self.name("rescale"))
        return value.becomes(layer(tensor), flat=False)


Step = Callable[..., _Value | Tensor]


def _conv(
    b: _Builder,
    x: typing.Any,
    kernel: typing.Any,
    bias: typing.Any = None,
    *,
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
) -> _Value:
    value, weights = b.map(x), b.constant(kernel)
    filters, of_group, *size = weights.shape
    channels = value.sides[2]
    if len(size) != 2 or of_group * group != channels or filters % group:
        raise b.refuse(f"a kernel of shape {weights.shape} on {channels} channels")
    padded, padding = b.padded(value, size, strides, dilations, pads, auto_pad)
    folded = b.restore and bias is not None and not value.pooled
    folded = folded and b.node.outputs[0] not in b.normalized
    settings = {
        "strides": tuple(strides),
        "padding": padding,
        "dilation_rate": tuple(dilations),
        "use_bias": bias is not None and not folded,
    }
    if group == channels and group > 1:
        multiplier = filters // group
        # Keras takes one stride for both sides of a depthwise convolution.
        layer = layers.DepthwiseConv2D(
            tuple(size), depth_multiplier=multiplier, name=b.name("depthwise"), **settings
        )
        turned = weights.reshape(channels, multiplier, *size).transpose(2, 3, 0, 1)
    else:
        layer = layers.Conv2D(filters, tuple(size), groups=group, name=b.name("conv"), **settings)
        turned = weights.transpose(2, 3, 1, 0)
    vectors = [] if bias is None else [b.constant(bias)]
    made = b.apply(padded, layer, [turned, *([] if folded else vectors)])
    if folded:
        zeros = np.zeros(filters, "f4")
        variance = np.full(filters, 1 - _EPSILON, "f4")
        made = _normalization(b, made, [1 + zeros, *vectors, zeros, variance], _EPSILON, True)
    return made


def _normalization(
    b: _Builder,
    value: _Value,
    weights: Sequence[Tensor],
    epsilon: float,
    folded: bool,
    scale: bool = True,
) -> _Value:
    name = b.name("bn")
    layer = layers.BatchNormalization(epsilon=epsilon, scale=scale, name=name)
    if folded:
        b.folded.append(name)
    return b.apply(value, layer, weights if scale else weights[1:])


def _batch_normalization(
    b: _Builder,
    x: typing.Any,
    *vectors: typing.Any,
    epsilon: float = 1e-5,
    folded: int = 0,
    fixed_scale: int = 0,
    **_: typing.Any,
) -> _Value:
    value = b.variable(x)
    if value.flat:
        value = value.becomes(b._vector(value), flat=False)
    if len(vectors) != 4:
        raise b.refuse(f"{len(vectors)} vectors")
    weights = [b.constant(each).ravel() for each in vectors]
    return _normalization(b, value, weights, epsilon, bool(folded), not fixed_scale)


def _layer(make: Callable[[str], layers.Layer]) -> Step:
    """An operator without weights and settings."""

    def step(b: _Builder, x: typing.Any, **_: typing.Any) -> _Value:
        return b.apply(b.variable(x), make(b.name(b.node.op.lower())))

    return step


def _clip(
    b: _Builder, x: typing.Any, low: typing.Any = None, high: typing.Any = None, **limits: float
) -> _Value:
    bounds = [
        float(limits[key]) if key in limits else None if bound is None else float(b.constant(bound))
        for key, bound in (("min", low), ("max", high))
    ]
    if bounds[0] != 0:
        raise b.refuse(f"limits {bounds}; only ReLU and ReLU6, which start at 0, are converted")
    return b.apply(b.variable(x), layers.ReLU(max_value=bounds[1], name=b.name("relu")))


def _prelu(b: _Builder, x: typing.Any, slopes: typing.Any) -> _Value:
    value = b.variable(x)
    channels = value.sides[-1]
    each = np.broadcast_to(b.per_channel(value, b.constant(slopes)), (channels,))
    shared = [1, 2] if len(value.sides) == 3 else None
    shape = (1, 1, channels) if shared else (channels,)
    return b.apply(
        value, layers.PReLU(shared_axes=shared, name=b.name("prelu")), [each.reshape(shape)]
    )


def _leaky_relu(b: _Builder, x: typing.Any, *, alpha: float = 0.01) -> _Value:
    return b.apply(b.variable(x), layers.LeakyReLU(negative_slope=alpha, name=b.name("leaky_relu")))


def _hard_sigmoid(b: _Builder, x: typing.Any, *, alpha: float = 0.2, beta: float = 0.5) -> _Value:
    value = b.scale(b.variable(x), np.float32(alpha), np.float32(beta))
    return b.apply(value, layers.ReLU(max_value=1.0, name=b.name("gate")))


def _two(merge: type[layers.Layer] | None, affine: Callable[..., typing.Any]) -> Step:
    """An operator on two maps, or on a map and a constant that is one number a channel."""

    def step(b: _Builder, left: typing.Any, right: typing.Any, **_: typing.Any) -> _Value:
        if isinstance(left, _Value) and isinstance(right, _Value):
            one, two = left, right
            if merge is None or one.flat != two.flat or len(one.sides) != len(two.sides):
                raise b.refuse(f"inputs of shapes {one.sides} and {two.sides}")
            if len(one.sides) == 3 and one.first != two.first:
                raise b.refuse("inputs of two layouts")
            tensor = merge(name=b.name(b.node.op.lower()))([one.tensor, two.tensor])
            return one.becomes(tensor, pooled=one.pooled and two.pooled)
        value = b.variable(left if isinstance(left, _Value) else right)
        other = b.constant(right if isinstance(left, _Value) else left).astype("float32")
        number = b.per_channel(value, other)
        scale, offset = affine(number, isinstance(left, _Value))
        if scale is None:
            raise b.refuse("a constant divided by a map")
        return b.scale(value, scale, offset)

    return step


def _global_pool(b: _Builder, x: typing.Any, **_: typing.Any) -> _Value:
    layer = layers.GlobalAveragePooling2D(keepdims=True, name=b.name("pool"))
    return b.apply(b.map(x), layer, pooled=True)


def _reduce_mean(
    b: _Builder,
    x: typing.Any,
    axes_input: typing.Any = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    **_: typing.Any,
) -> _Value:
    value = b.map(x)
    chosen = b.constant(axes_input).tolist() if axes_input is not None else axes
    if {each % 4 for each in chosen or ()} != ({2, 3} if value.first else {1, 2}):
        raise b.refuse(f"axes {chosen}; only the mean over a map is converted")
    made = _global_pool(b, value)
    return made if keepdims else made.becomes(made.tensor, flat=True)


def _pool(kind: type[layers.Layer]) -> Step:
    def step(
        b: _Builder,
        x: typing.Any,
        *,
        kernel_shape: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] | None = None,
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
        count_include_pad: int = 0,
        **_: typing.Any,
    ) -> _Value:
        value = b.map(x)
        pads = list(pads or (0, 0, 0, 0))
        if any(pads):
            raise b.refuse(f"pads {pads}; pooling with padding is not converted")
        rest = [
            (side - width) % step
            for side, width, step in zip(value.sides[:2], kernel_shape, strides, strict=True)
        ]
        if ceil_mode and any(rest):
            raise b.refuse("sizes rounded up")
        padding = "same" if auto_pad == "SAME_UPPER" else "valid"
        layer = kind(tuple(kernel_shape), tuple(strides), padding, name=b.name("pool"))
        whole = tuple(kernel_shape) == value.sides[:2] and padding == "valid"
        return b.apply(value, layer, pooled=whole or value.pooled)

    return step


def _pad(
    b: _Builder,
    x: typing.Any,
    pads_input: typing.Any = None,
    constant: typing.Any = None,
    *,
    pads: Sequence[int] | None = None,
    mode: str = "constant",
    value: float = 0.0,
) -> _Value:
    found = b.map(x)
    numbers = [int(n) for n in (b.constant(pads_input) if pads_input is not None else pads or ())]
    filler = value if constant is None else float(b.constant(constant))
    if len(numbers) != 8 or mode != "constant" or filler != 0 or min(numbers) < 0:
        raise b.refuse(f"pads {numbers}, mode {mode!r}, value {filler}")
    sides = list(zip(numbers[:4], numbers[4:], strict=True))
    batch, rows, columns, channels = (
        (sides[0], sides[2], sides[3], sides[1]) if found.first else sides
    )
    if any(batch):
        raise b.refuse("more images")
    if any(rows + columns):
        found = b.apply(found, layers.ZeroPadding2D((rows, columns), name=b.name("zero_padding")))
    if any(channels):
        found = found.becomes(ops.pad(found.tensor, [[0, 0], [0, 0], [0, 0], list(channels)]))
    return found


def _flatten(b: _Builder, x: typing.Any, *, axis: int = 1) -> _Value:
    value = b.variable(x)
    if axis != 1:
        raise b.refuse(f"axis {axis}")
    return value.becomes(value.tensor, flat=True) if len(value.sides) == 3 else value


def _reshape(b: _Builder, x: typing.Any, target: typing.Any, **_: typing.Any) -> _Value:
    value = b.variable(x)
    wanted = [int(each) for each in b.constant(target).ravel()][1:]
    count = math.prod(value.sides)
    if wanted in ([-1], [count]):
        return _flatten(b, value)
    if (wanted.count(-1), math.prod(each for each in wanted if each > 0)) == (1, count):
        wanted[wanted.index(-1)] = 1
    channels = wanted[-3] if len(wanted) == 3 and b.graph.channels_first else wanted[-1]
    if len(wanted) == 3 and channels == count and wanted.count(1) == 2:
        if len(value.sides) == 3:  # a map of one place that was flattened
            return value.becomes(value.tensor, flat=False)
        layer = layers.Reshape((1, 1, count), name=b.name("reshape"))
        return b.apply(value, layer, first=b.graph.channels_first)
    raise b.refuse(f"the shape {wanted} from {value.sides}")


def _squeeze(b: _Builder, x: typing.Any, *_: typing.Any, **__: typing.Any) -> _Value:
    value = b.map(x)
    if math.prod(value.sides[:2]) != 1:
        raise b.refuse(f"an input of shape {value.sides}")
    return value.becomes(value.tensor, flat=True)


def _unsqueeze(b: _Builder, x: typing.Any, *_: typing.Any, **__: typing.Any) -> _Value:
    """A vector as a map of one place; two of them in a row add one axis each."""
    value = b.variable(x)
    if len(value.sides) == 3:
        return value.becomes(value.tensor, flat=False)
    layer = layers.Reshape((1, 1, value.sides[-1]), name=b.name("reshape"))
    return b.apply(value, layer, first=b.graph.channels_first)


def _linear(
    b: _Builder,
    x: typing.Any,
    weights: typing.Any,
    bias: typing.Any = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> _Value:
    value, matrix = b.variable(x), b.constant(weights)
    kernel = matrix.T if transB else matrix
    if (alpha, beta, transA) != (1.0, 1.0, 0) or kernel.ndim != 2:
        raise b.refuse(f"alpha {alpha}, beta {beta}, weights of shape {matrix.shape}")
    if kernel.shape[0] != math.prod(value.sides):
        raise b.refuse(f"weights of shape {kernel.shape} on {value.sides}")
    if len(value.sides) == 3:
        rows, columns, channels = value.sides
        if value.first:
            by_place = kernel.reshape(channels, rows, columns, -1).transpose(1, 2, 0, 3)
            kernel = by_place.reshape(kernel.shape)
        flat = layers.Flatten(name=b.name("flatten"))(value.tensor)
        value = value.becomes(flat, flat=False)
    vectors = [] if bias is None else [b.constant(bias).ravel()]
    layer = layers.Dense(kernel.shape[1], use_bias=bool(vectors), name=b.name("linear"))
    return b.apply(value, layer, [kernel, *vectors])


def _transpose(b: _Builder, x: typing.Any, *, perm: Sequence[int]) -> _Value:
    """Only the graph's view of a map changes: the Keras tensor is always channels last."""
    value = b.map(x)
    if (value.first, list(perm)) not in ((True, [0, 2, 3, 1]), (False, [0, 3, 1, 2])):
        raise b.refuse(f"the order {list(perm)}")
    return value.becomes(value.tensor, first=not value.first)


def _concat(b: _Builder, *inputs: typing.Any, axis: int) -> _Value:
    values = [b.variable(each) for each in inputs]
    maps = len(values[0].sides) == 3
    last = {1, -3} if maps and values[0].first else {3, -1} if maps else {1, -1}
    if axis not in last or any(each.flat or each.first != values[0].first for each in values):
        raise b.refuse(f"axis {axis}")
    layer = layers.Concatenate(name=b.name("concat"))
    return values[0].becomes(layer([each.tensor for each in values]), pooled=False)


def _unit_length(b: _Builder, x: typing.Any, *, axis: int = -1, p: int = 2) -> _Value:
    value = b.variable(x)
    vector = value.becomes(b._vector(value), flat=False)
    if p != 2 or axis not in (-1, 1) or len(vector.sides) != 1:
        raise b.refuse(f"p {p}, axis {axis} on {vector.sides}")
    return b.apply(vector, layers.UnitNormalization(name=b.name("unit_length")))


def _same(b: _Builder, x: typing.Any, *_: typing.Any, **__: typing.Any) -> _Value:
    return b.variable(x)


def _shape(b: _Builder, x: typing.Any, **_: typing.Any) -> Tensor:
    """The shape as the graph sees it; the batch, which is free, is -1."""
    value = b.variable(x)
    sides = value.sides
    if value.flat:
        sides = (math.prod(sides),)
    elif len(sides) == 3 and value.first:
        sides = (sides[2], *sides[:2])
    return np.array([-1, *sides], "int64")


def _activation(name: str) -> Step:
    return _layer(lambda layer_name: layers.Activation(name, name=layer_name))


_OPERATORS: dict[str, Step] = {
    "Add": _two(layers.Add, lambda number, _: (1.0, number)),
    "AveragePool": _pool(layers.AveragePooling2D),
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _two(None, lambda number, left: (1 / number, 0.0) if left else (None, None)),
    "Dropout": _same,
    "Flatten": _flatten,
    "Gemm": _linear,
    "GlobalAveragePool": _global_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hard_silu"),
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "LpNormalization": _unit_length,
    "MaxPool": _pool(layers.MaxPooling2D),
    "Mul": _two(layers.Multiply, lambda number, _: (number, 0.0)),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _layer(lambda name: layers.ReLU(name=name)),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _activation("sigmoid"),
    "Squeeze": _squeeze,
    "Sub": _two(layers.Subtract, lambda number, left: (1.0, -number) if left else (-1.0, number)),
    "Tanh": _activation("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


# Operators on constants, which exporters leave around shapes: (attributes, *inputs) -> array.


def _axes(attributes: dict[str, typing.Any], inputs: Sequence[Tensor]) -> tuple[int, ...]:
    found = inputs[0].ravel().tolist() if inputs else attributes.get("axes", ())
    return tuple(int(each) for each in found)


def _slice(_: dict[str, typing.Any], x: Tensor, *bounds: Tensor) -> Tensor:
    starts, stops, *rest = (each.ravel().tolist() for each in bounds)
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    part = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        part[axis] = slice(start, stop, step)
    return x[tuple(part)]


_FOLDS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, x, y: x + y,
    "Cast": lambda _, x: x,
    "Concat": lambda a, *parts: np.concatenate(parts, axis=a["axis"]),
    "Gather": lambda a, x, places: np.take(x, places, axis=a.get("axis", 0)),
    "Identity": lambda _, x: x,
    "Mul": lambda _, x, y: x * y,
    "Reshape": lambda _, x, shape: x.reshape(shape.tolist()),
    "Slice": _slice,
    "Squeeze": lambda a, x, *axes: np.squeeze(x, _axes(a, axes) or None),
    "Sub": lambda _, x, y: x - y,
    "Transpose": lambda a, x: x.transpose(a["perm"]),
    "Unsqueeze": lambda a, x, *axes: np.expand_dims(x, _axes(a, axes)),
}
