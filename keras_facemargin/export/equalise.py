"""Channels of one range, so that eight bits for a whole tensor suffice.

A quantised file has one scale for all channels of an activation. Channels with a small range then
have few of its 256 steps: in MobileFaceNet and its kin some have one or two. But a convolution, a
dense layer and a batch normalisation take any factor for each channel into their weights, and what
lies between them passes a positive factor on: PReLU, ReLU, sums, padding, averages. So each channel
is divided by the square root of its range where it is made and multiplied by it where it is used
(Nagel et al., Data-Free Quantization, arXiv:1906.04721). The function stays the same.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_facemargin.export.rewrite import LINEAR, Step, flatten

Floats = npt.NDArray[np.floating]
_BATCH = 32
_LEAST = 1e-3  # a channel that is always zero has no range
_PASS_ON = (
    keras.layers.Add,
    keras.layers.AveragePooling2D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling2D,
    keras.layers.PReLU,
    keras.layers.ZeroPadding2D,
)
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu)


def equalise(embedder: Any, images: npt.NDArray[Any]) -> Any:
    """An embedder of the same function whose channels have similar ranges.

    Args:
        embedder: a Functional `keras.Model`, as `float32_embedder` returns it. It is not changed.
        images: float32 (N, H, W, 3), RGB 0..255, whose activations have the ranges.

    Returns:
        A Functional `keras.Model` of new layers.
    """
    model, steps = flatten(embedder)
    channels = _Channels(steps, [*model.inputs, *model.outputs])
    tensors = [
        each.output
        for each in steps
        if isinstance(each.output, keras.KerasTensor) and channels.is_free(each.output)
    ]
    if not tensors:
        return model
    probe = keras.Model(model.inputs[0], tensors)
    ranges: list[Floats] = []
    for start in range(0, len(images), _BATCH):
        found = probe.predict_on_batch(images[start : start + _BATCH])
        rows = found if isinstance(found, list) else [found]
        largest = [np.abs(each).max(axis=tuple(range(each.ndim - 1))) for each in rows]
        ranges = [*map(np.maximum, ranges, largest)] if ranges else largest
    channels.set_factors(tensors, ranges)
    for step in steps:
        channels.apply(step)
    return model


class _Channels:
    """Which tensors of a flat model share the factors of their channels, and these factors."""

    def __init__(self, steps: Sequence[Step], fixed: Sequence[Any]) -> None:
        self._parent: dict[int, int] = {}
        self._fixed: set[int] = set()
        self._factors: dict[int, Floats] = {}
        calls = [step.layer for step in steps]
        for tensor in fixed:
            self._fix(tensor)
        for layer, inputs, output in steps:
            once = sum(each is layer for each in calls) == 1
            if once and _passes_on(layer) and len({each.shape[-1] for each in inputs}) == 1:
                for tensor in inputs:
                    self._join(tensor, output)
                continue
            takes, gives = _takes_and_gives(layer) if once else (False, False)
            for tensor in () if takes else inputs:
                self._fix(tensor)
            for tensor in () if gives else keras.tree.flatten(output):
                self._fix(tensor)

    def is_free(self, tensor: Any) -> bool:
        return self._find(tensor) not in self._fixed

    def set_factors(self, tensors: Sequence[Any], ranges: Sequence[Floats]) -> None:
        """Sets the factors from the largest value of each channel of each tensor."""
        counts: dict[int, int] = {}
        for tensor in tensors:
            root = self._find(tensor)
            counts[root] = min(counts.get(root, tensor.shape[-1]), tensor.shape[-1])
        shares: dict[int, Floats] = {}
        for tensor, largest in zip(tensors, ranges, strict=True):
            root = self._find(tensor)
            # Behind a Flatten the channels repeat with each place.
            largest = largest.reshape(-1, counts[root]).max(axis=0)
            share = np.maximum(largest / max(float(largest.max()), 1e-30), _LEAST)
            shares[root] = np.maximum(shares[root], share) if root in shares else share
        self._factors = {root: np.sqrt(share) for root, share in shares.items()}

    def apply(self, step: Step) -> None:
        """Takes the factors of its input and its output into the weights of a layer."""
        layer = step.layer
        if not any(_takes_and_gives(layer)):
            return
        taken, given = (
            self._factors.get(self._find(each)) for each in (step.inputs[0], step.output)
        )
        names = [weight.name for weight in layer.weights]
        weights = dict(zip(names, layer.get_weights(), strict=True))
        if taken is not None:
            # Behind a Flatten the channels repeat with each place.
            factors = np.tile(taken, weights["kernel"].shape[-2] // len(taken))
            weights["kernel"] = weights["kernel"] * factors[:, None]
        if given is not None:
            depthwise = type(layer) is keras.layers.DepthwiseConv2D
            for name in set(names) & {"kernel", "bias", "gamma", "beta"}:
                by_row = depthwise and name == "kernel"
                weights[name] = weights[name] / (given[:, None] if by_row else given)
        layer.set_weights([weights[name] for name in names])

    def _find(self, tensor: Any) -> int:
        key = id(tensor)
        while self._parent.get(key, key) != key:
            key = self._parent[key]
        return key

    def _fix(self, tensor: Any) -> None:
        self._fixed.add(self._find(tensor))

    def _join(self, tensor: Any, other: Any) -> None:
        first, second = self._find(tensor), self._find(other)
        if first != second:
            self._parent[first] = second
            if first in self._fixed:
                self._fixed.add(second)


def _passes_on(layer: Any) -> bool:
    """Whether a positive factor of a channel of its input is one of its output."""
    if getattr(layer, "data_format", "") == "channels_first":
        return False
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.threshold
    if type(layer) is keras.layers.Activation:
        return layer.activation in _ACTIVATIONS
    return type(layer) in _PASS_ON


def _takes_and_gives(layer: Any) -> tuple[bool, bool]:
    """Whether its weights can take factors of its input, and of its output."""
    if type(layer) is keras.layers.BatchNormalization:
        # One that no linear layer precedes: the others are merged.
        return False, layer.scale and layer.axis in (-1, 3)
    if type(layer) not in LINEAR or getattr(layer, "data_format", "") == "channels_first":
        return False, False
    single = getattr(layer, "depth_multiplier", 1) == 1
    takes = single and getattr(layer, "groups", 1) == 1
    return takes, single and layer.activation in _ACTIVATIONS
