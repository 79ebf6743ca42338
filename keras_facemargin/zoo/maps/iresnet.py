"""IResNet as InsightFace for PyTorch and AdaFace publish it."""

import keras

from keras_facemargin.zoo.maps.tensors import Tensors
from keras_facemargin.zoo.readers.contents import State


def fill_insightface(model: keras.Model, state: State) -> None:
    """Fills a model of `IResNet` and the neck "fc" from `backbone.pth` of arcface_torch.

    Args:
        model: of one level, as `convert` builds it.
        state: of the file.

    Raises:
        ValueError: the file belongs to another network.
    """
    tensors = Tensors(state, "conv1.weight")
    get = model.get_layer
    tensors.convolution(get("stem"), "conv1")
    tensors.normalization(get("stem_bn"), "bn1")
    tensors.prelu(get("stem_prelu"), "prelu")
    for prefix, stage, unit in _units(model):
        name = f"layer{stage}.{unit - 1}"
        _unit(
            tensors,
            model,
            prefix,
            [f"{name}.{part}" for part in ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")],
            f"{name}.downsample",
        )
    tensors.normalization(get("neck_bn"), "bn2")
    tensors.linear(get("neck_linear"), "fc", get("neck_bn").output.shape[1:3])
    tensors.normalization(get("embedding"), "features")
    tensors.finish()


def fill_adaface(model: keras.Model, state: State) -> None:
    """Fills a model of `IResNet` and the neck "fc" from AdaFace's checkpoints.

    AdaFace's network takes BGR; the caller swaps the channels of the first convolution. The last
    batch normalisation has neither scale nor offset.

    Args:
        model: of one level, built with `first_shortcut="pooling"`.
        state: of the file.

    Raises:
        ValueError: the file belongs to another network.
    """
    tensors = Tensors(state, "input_layer.0.weight")
    get = model.get_layer
    tensors.convolution(get("stem"), "input_layer.0")
    tensors.normalization(get("stem_bn"), "input_layer.1")
    tensors.prelu(get("stem_prelu"), "input_layer.2")
    for number, (prefix, _, _) in enumerate(_units(model)):
        name = f"body.{number}"
        parts = [f"{name}.res_layer.{part}" for part in range(6)]
        _unit(tensors, model, prefix, parts, f"{name}.shortcut_layer")
    tensors.normalization(get("neck_bn"), "output_layer.0")
    tensors.linear(get("neck_linear"), "output_layer.3", get("neck_bn").output.shape[1:3])
    tensors.normalization(get("embedding"), "output_layer.4")
    tensors.finish()


def _units(model: keras.Model) -> list[tuple[str, int, int]]:
    """Name, stage and number of each residual unit, in the order of computation."""
    names = [
        layer.name.removesuffix("_add") for layer in model.layers if layer.name.endswith("_add")
    ]
    pairs = [name.removeprefix("stage").split("_unit") for name in names]
    return [(name, int(stage), int(unit)) for name, (stage, unit) in zip(names, pairs, strict=True)]


def _unit(
    tensors: Tensors, model: keras.Model, prefix: str, parts: list[str], shortcut: str
) -> None:
    kinds = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
    for kind, part in zip(kinds, parts, strict=True):
        layer = model.get_layer(f"{prefix}_{kind}")
        if kind == "prelu":
            tensors.prelu(layer, part)
        elif kind.startswith("conv"):
            tensors.convolution(layer, part)
        else:
            tensors.normalization(layer, part)
    if tensors.has(f"{shortcut}.0.weight"):
        tensors.convolution(model.get_layer(f"{prefix}_shortcut"), f"{shortcut}.0")
        tensors.normalization(model.get_layer(f"{prefix}_shortcut_bn"), f"{shortcut}.1")
