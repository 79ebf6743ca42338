"""Backbone + neck -> embedder: a plain Functional `keras.Model` from raw pixels to embeddings.

An embedder has stock Keras layers only, and its preprocessing inside: a saved one opens with Keras
alone, and an exported one takes raw RGB.
"""

import difflib
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_facemargin import backbones
from keras_facemargin.backbones.necks import NECKS
from keras_facemargin.backbones.preprocessing import (
    applications,
    preprocess,
    preprocessing_of,
    preprocessing_of_family,
)

Preprocessing = str | Sequence[Any]
_MAP = 7  # every strong face network keeps a 7x7 map to its last stage
# Arguments of a backbone's function that `build_embedder` sets.
SET_BY_BUILD_EMBEDDER = (
    *("name", "input_shape", "input_tensor", "include_top", "include_preprocessing"),
    *("pooling", "classes", "classifier_activation"),
)


def build_embedder(
    backbone: str | keras.Model,
    embedding_dim: int = 512,
    *,
    weights: str | os.PathLike[str] | None = None,
    backbone_arguments: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: Sequence[int] = (112, 112, 3),
    neck: str = "gdc",
    dropout: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Builds a face embedder on a backbone.

    `image -> pixel preprocessing -> backbone -> neck -> embedding`

    Networks of `keras.applications` halve the image five times and end at 4x4 or less on a 112x112
    crop, which costs a face embedder points of accuracy. The graph therefore enlarges the crop to
    the size whose last map is 7x7 (224x224 for most). Maps, compute and the use of ImageNet weights
    equal those of a network with one stride less. Networks that reach 7x7 on the crop are not
    enlarged. A network of `keras_facemargin.backbones` that is given by name is not enlarged
    either; an instance of it is, if its map is smaller.

    Every neck ends in batch normalisation in float32. The embedding is *not* normalised to unit
    length: heads and scores do that, and some losses read its norm.

    Args:
        backbone: a name in `keras_facemargin.backbones` or `keras.applications` ("MobileNetV2",
            "ResNet50", ...), or a `keras.Model` without its top, such as
            `keras.applications.MobileNetV2(include_top=False, weights="imagenet")`. A model's
            output is a map (B, H, W, C), tokens (B, T, C), as of a vision transformer, or a vector
            (B, C). For tokens and vectors the crop is resized to the model's input size, if that
            is fixed. A backbone of keras-hub is such a model; a saved embedder then opens only
            where keras-hub is installed.
        embedding_dim: D, length of the embedding.
        weights: for a name in `keras.applications`: "imagenet" (Keras downloads them), a path, or
            None for random weights.
        backbone_arguments: for a name: dict of arguments of the backbone's function, such as
            `{"widths": (32, 64, 128, 256)}` for "SphereNet".
        preprocessing: the pixels that the backbone expects; None where they are known. Networks of
            `keras.applications` are known if they are complete and keep their names: an instance
            is compared, layer by layer, with a newly made one. A model that begins with a
            `Rescaling` or `Normalization` layer for RGB 0..255 scales its pixels itself. For any
            other model, and for one that was trained on other pixels than its family, pass "tf"
            (-1..1), "caffe" (BGR minus the ImageNet mean), "torch" (ImageNet mean and standard
            deviation), "inside" (the model takes RGB 0..255), or `(mean, std, order)`: RGB mean
            and standard deviation on the scale 0..255, a number or three each, and the channel
            order that the model takes, "RGB" or "BGR". InsightFace's networks, for example, take
            `(127.5, 127.5, "RGB")`.
        input_shape: (height, width, 3) of the crops. Grey and near-infrared images also have three
            channels: the readers of this package repeat the one channel.
        neck: the layers after the backbone. "gdc" is MobileFaceNet's (arXiv:1804.07573, section
            3.1): a depthwise convolution as large as the map, which weighs each place of the face,
            and a linear layer. "fc" is ArcFace's option E (arXiv:1801.07698, section 3.2.2): batch
            normalisation and a linear layer over the whole map; its last batch normalisation has
            no scale. "gap" is FaceNet's: global average pooling and a linear layer. Tokens are a
            map of T x 1 places, a vector is a map of one place.
        dropout: share of the neck's values that training drops before the linear layer, in [0, 1).
        name: name of the model.

    Returns:
        Functional `keras.Model`: (B, 112, 112, 3) float32 RGB 0..255 -> (B, D) float32.

    Raises:
        ValueError: an unknown name or neck; a model with its top or with several inputs or outputs;
            a model whose pixels are unknown; an impossible `input_shape`, `embedding_dim`,
            `dropout`, `backbone_arguments` or `preprocessing`.

    Example:

    >>> embedder = build_embedder("MobileFaceNet", embedding_dim=128)
    >>> embedder.output_shape
    (None, 128)
    """
    _check_arguments(embedding_dim, input_shape)
    _check_neck(neck, dropout)
    own = isinstance(backbone, str) and backbone in backbones.__all__
    if isinstance(backbone, str):
        arguments = dict(backbone_arguments or {})
        backbone, preprocessing = _by_name(backbone, weights, arguments, preprocessing, input_shape)
    else:
        _check_instance(backbone, weights, backbone_arguments)
    if preprocessing is None:
        preprocessing = preprocessing_of(backbone)

    image = keras.Input(input_shape, name="image")
    x = preprocess(image, preprocessing)
    if own or len(backbone.output_shape) != 4:
        network = backbone
    else:
        network = _ending_at_7x7(backbone, input_shape)
    size = network.input_shape[1:3]
    if None not in size and size != tuple(input_shape[:2]):
        # The op, not `layers.Resizing`, which makes Keras 3.15 record training=True in the graph:
        # every batch normalisation after it would then normalise by the batch in `embedder(x)`.
        x = ops.image.resize(x, size, interpolation="bilinear")
    embedding = NECKS[neck](_as_map(network(x)), embedding_dim, dropout)
    return keras.Model(image, embedding, name=name or f"{backbone.name}_embedder")


def _check_arguments(embedding_dim: Any, input_shape: Any) -> None:
    if not _is_count(embedding_dim):
        raise ValueError(
            "`embedding_dim` must be a whole number of at least 1. "
            f"Received: embedding_dim={embedding_dim!r}"
        )
    shape = tuple(input_shape) if isinstance(input_shape, tuple | list) else ()
    if not (len(shape) == 3 and all(map(_is_count, shape)) and shape[2] == 3):
        if shape[2:] == (1,):
            advice = " Grey images also come as three channels: the readers repeat the one channel."
        elif shape[:1] == (3,):
            advice = f" Channels come last: {(*shape[1:], 3)}."
        else:
            advice = ""
        raise ValueError(
            "`input_shape` must be (height, width, 3), whole numbers. "
            f"Received: input_shape={input_shape!r}.{advice}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Keras' `image_data_format` must be 'channels_last'. Received: "
            f"{keras.config.image_data_format()!r}. Call "
            "keras.config.set_image_data_format('channels_last') first."
        )


def _check_neck(neck: Any, dropout: Any) -> None:
    if neck not in NECKS:
        raise ValueError(f"`neck` must be one of {', '.join(map(repr, NECKS))}. Received: {neck!r}")
    number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not (number and 0 <= float(dropout) < 1):
        raise ValueError(f"`dropout` must be a number in [0, 1). Received: dropout={dropout!r}")


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) > 0


def _check_instance(backbone: Any, weights: Any, arguments: Any) -> None:
    for argument, value in (("weights", weights), ("backbone_arguments", arguments)):
        if value is not None:
            raise ValueError(
                f"`{argument}` needs the name of a backbone; a model instance is complete. "
                f"Received: {argument}={value!r} with {backbone!r}. Leave it out."
            )
    if not (
        isinstance(backbone, keras.Model)
        and getattr(backbone, "inputs", None)
        and getattr(backbone, "outputs", None)
    ):
        raise ValueError(
            "`backbone` must be a name or a built Functional keras.Model. Received: "
            f"backbone={backbone!r}. Call the constructor: "
            "keras.applications.MobileNetV2(include_top=False)."
        )
    sequential = isinstance(backbone, keras.Sequential)  # one tensor by definition
    sides = [] if sequential else [backbone.input, backbone.output]
    if any(isinstance(side, dict) for side in sides):
        keys = [list(side) if isinstance(side, dict) else "one tensor" for side in sides]
        raise ValueError(
            "`backbone` must map one image tensor to one tensor, without dicts. Received: "
            f"{backbone.name!r} with inputs {keys[0]} and outputs {keys[1]}. Make a model of its "
            "image part: keras.Model(image, features)."
        )
    inputs, outputs = (
        [tuple(tensor.shape) for tensor in side] for side in (backbone.inputs, backbone.outputs)
    )
    if (
        [len(shape) for shape in inputs] != [4]
        or len(outputs) != 1
        or len(outputs[0]) not in (2, 3, 4)
        or _ends_in_softmax(backbone)
    ):
        raise ValueError(
            "`backbone` must map one image batch to one feature map (batch, height, width, "
            "channels), tokens (batch, tokens, channels) or vectors (batch, channels). Received: "
            f"{backbone.name!r} with inputs {inputs} and outputs {outputs}"
            + (", which are classes. " if _ends_in_softmax(backbone) else ". ")
            + "Make it with include_top=False."
        )
    if inputs[0][3] != 3:
        raise ValueError(
            "`backbone` must take RGB images (batch, height, width, 3). Received: "
            f"{backbone.name!r} with input shape {inputs[0]}. Make it with "
            "input_shape=(112, 112, 3)."
        )


def _ends_in_softmax(model: keras.Model) -> bool:
    last = model.layers[-1]
    return isinstance(last, layers.Softmax) or (
        getattr(last, "activation", None) is keras.activations.softmax
    )


def _as_map(features: keras.KerasTensor) -> keras.KerasTensor:
    """Tokens as a map of T x 1 places, vectors as a map of one place."""
    if len(features.shape) == 4:
        return features
    *tokens, channels = features.shape[1:]
    places = [-1 if size is None else size for size in tokens or [1]]
    return layers.Reshape((*places, 1, channels), name="as_map")(features)


def _by_name(
    name: str,
    weights: str | os.PathLike[str] | None,
    arguments: dict[str, Any],
    preprocessing: Preprocessing | None,
    input_shape: Sequence[int],
) -> tuple[keras.Model, Preprocessing]:
    """The backbone and its preprocessing."""
    taken = [each for each in arguments if each in SET_BY_BUILD_EMBEDDER]
    if taken:
        raise ValueError(
            f"`backbone_arguments` must not have {', '.join(SET_BY_BUILD_EMBEDDER)}, which "
            f"build_embedder sets. Received: {', '.join(taken)}. Leave them out."
        )
    if name in backbones.__all__:
        for argument, value in (("weights", weights), ("preprocessing", preprocessing)):
            if value is not None:
                raise ValueError(
                    f"{name} has no ImageNet weights and scales its pixels inside. Received: "
                    f"{argument}={value!r}. For a trained embedder see load_embedder."
                )
        return getattr(backbones, name)(input_shape=input_shape, **arguments), "inside"
    known = applications()
    if name not in known:
        folded = {each.lower(): each for each in (*backbones.__all__, *known)}
        near = difflib.get_close_matches(name.lower(), folded, 1)
        guess = f" Did you mean {folded[near[0]]!r}?" if near else ""
        raise ValueError(
            f"`backbone` must be one of {', '.join(backbones.__all__)} or a network of "
            f"keras.applications. Received: backbone={name!r}.{guess} "
            "dir(keras.applications) lists the others."
        )
    # ImageNet weights come for 224x224; the map is adapted in build_embedder.
    arguments = {"weights": weights, **arguments}
    model = known[name](include_top=False, input_shape=(224, 224, 3), **arguments)
    return model, preprocessing or preprocessing_of_family(known[name])


def _ending_at_7x7(model: keras.Model, input_shape: Sequence[int]) -> keras.Model:
    """The network as it is if it ends at 7x7, else on the smallest input size on which it does."""
    height, width = input_shape[:2]
    own, last = model.input_shape[1:3], model.output_shape[1:3]
    if None not in own and min(last) == _MAP and own[0] * width == own[1] * height:
        return model
    for factor in (1.0, *(2.0 + 0.125 * i for i in range(9))):
        resized = _accepting(model, (round(height * factor), round(width * factor), 3))
        rows, columns = resized.output_shape[1:3]
        if min(rows, columns) >= _MAP:
            return resized
    raise ValueError(
        f"`backbone` must reach a {_MAP}x{_MAP} map from a crop of {height}x{width} enlarged up to "
        f"three times. Received: {model.name!r}, which ends at {rows}x{columns}"
    )


def _accepting(model: keras.Model, input_shape: Sequence[int]) -> keras.Model:
    """The same network with the same weights on another input size."""
    if tuple(model.input_shape[1:]) == tuple(input_shape):
        return model
    try:
        resized = keras.models.clone_model(model, input_tensors=keras.Input(input_shape))
    except ValueError as error:  # some families fix the size inside
        raise ValueError(
            f"`backbone` must be of a size whose last map is {_MAP}x{_MAP}, or be one that can be "
            f"rebuilt for another. Received: {model.name!r} for {model.input_shape[1:]}, which "
            "cannot. Make it with input_shape=(224, 224, 3)."
        ) from error
    resized.set_weights(model.get_weights())
    return resized
