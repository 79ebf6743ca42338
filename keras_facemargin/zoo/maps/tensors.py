"""The tensors of a state on their way into layers, each used exactly once."""

from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_facemargin.zoo.readers.contents import State, Tensor

# Buffers that PyTorch counts in, and parts that only training needs.
_UNUSED = ("num_batches_tracked",)


class Tensors:
    """A state of PyTorch; kernels are (out, in / groups, height, width).

    Args:
        state: tensors by name.
        anchor: the name of a tensor that the network must have; what precedes it in the state's
            names ("module.", "net_state_dict.") is dropped, and names without that prefix are not
            used.
        ignored: beginnings of names that the network does not use.

    Raises:
        ValueError: no name ends with `anchor`.
    """

    def __init__(self, state: State, anchor: str, ignored: Sequence[str] = ()):
        found = [name for name in state if name == anchor or name.endswith(f".{anchor}")]
        if not found:
            raise ValueError(
                f"The file must hold the weights of this network, with a tensor {anchor!r}. "
                f"Received: {len(state):,} tensors, {', '.join(state)!s:.150}."
            )
        prefix = min(found, key=len).removesuffix(anchor)
        self._state = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        self._left = {
            name
            for name in self._state
            if not name.startswith(tuple(ignored)) and not name.endswith(_UNUSED)
        }

    def take(self, name: str) -> Tensor:
        if name not in self._state:
            raise ValueError(
                f"The file must hold the tensor {name!r}. Received: a file without it."
            )
        self._left.discard(name)
        return self._state[name].astype("float32")

    def has(self, name: str) -> bool:
        return name in self._state

    def convolution(self, layer: layers.Layer, name: str) -> None:
        kernel = self.take(f"{name}.weight")
        if kernel.ndim != 4:
            raise ValueError(f"The tensor {name!r} must be a kernel. Received: {kernel.shape}.")
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        bias = [self.take(f"{name}.bias")] if layer.use_bias else []
        fill(layer, [kernel.transpose(order), *bias])

    def normalization(self, layer: layers.BatchNormalization, name: str) -> None:
        mean, variance = self.take(f"{name}.running_mean"), self.take(f"{name}.running_var")
        affine = [np.ones_like(mean), np.zeros_like(mean)]
        if self.has(f"{name}.weight"):
            affine = [self.take(f"{name}.weight"), self.take(f"{name}.bias")]
        if not layer.scale and not np.array_equal(affine[0], np.ones_like(mean)):
            raise ValueError(
                f"The scale {name}.weight must be 1, as it is published. Received: other numbers."
            )
        fill(layer, [*(affine if layer.scale else affine[1:]), mean, variance])

    def prelu(self, layer: layers.PReLU, name: str) -> None:
        slopes = self.take(f"{name}.weight")
        channels = layer.weights[0].shape[-1]
        # PyTorch's PReLU without a number of channels has one slope.
        fill(layer, [np.broadcast_to(slopes.reshape(1, 1, -1), (1, 1, channels))])

    def linear(self, layer: layers.Dense, name: str, places: tuple[int, int] = (1, 1)) -> None:
        """A linear layer on a flattened map of `places`, whose channels PyTorch counts first."""
        weights = self.take(f"{name}.weight")
        weights = weights.reshape(len(weights), -1, *places)
        kernel = weights.transpose(2, 3, 1, 0).reshape(-1, len(weights))
        bias = [self.take(f"{name}.bias")] if layer.use_bias else []
        fill(layer, [kernel, *bias])

    def finish(self) -> None:
        """Refuses a file with tensors that no layer took.

        Raises:
            ValueError: there are such tensors.
        """
        if self._left:
            raise ValueError(
                "Every tensor of the file must belong to a layer. "
                f"Received: {len(self._left):,} others, {', '.join(sorted(self._left))!s:.150}."
            )


def by_layer(state: State) -> dict[str, list[Tensor]]:
    """The weights of each layer of a Keras `.h5` file, in the file's order.

    Args:
        state: as `keras_h5.read` returns it, by "layer/weight".
    """
    found: dict[str, list[Tensor]] = {}
    for name, value in state.items():
        found.setdefault(name.split("/")[0], []).append(value.astype("float32"))
    return found


def fill(layer: layers.Layer, weights: Sequence[Tensor]) -> None:
    """Sets the weights of a layer.

    Raises:
        ValueError: their number or their shapes are others than the layer's.
    """
    wanted = [tuple(each.shape) for each in layer.weights]
    found = [tuple(each.shape) for each in weights]
    if wanted != found:
        raise ValueError(
            f"The weights of the layer {layer.name!r} must have the shapes {wanted}. "
            f"Received: {found}. The file belongs to a network of another size."
        )
    layer.set_weights(weights)


def swap_channels(layer: layers.Conv2D) -> None:
    """Makes the first convolution take RGB where its weights want BGR; the function is the same."""
    kernel, *bias = layer.get_weights()
    layer.set_weights([kernel[:, :, ::-1], *bias])
