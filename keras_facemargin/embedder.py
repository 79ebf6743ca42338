"""Backbone + neck -> embedder: a plain Functional `keras.Model` from raw pixels to embeddings.

Made of stock Keras layers with the backbone's preprocessing inside, so that a saved embedder opens
in a process that has Keras and not this package, and an exported one takes raw RGB.
"""

import re

import keras
from keras import layers, ops

from keras_facemargin import backbones

# How each family of keras.applications wants its pixels; the others carry their own rescaling.
_PREPROCESSING = (
    (r"resnet\d*v2|resnetv2", "tf"),
    (r"inceptionresnet|inception|xception|nasnet", "tf"),
    (r"mobilenetv3|efficientnet|convnext", "inside"),
    (r"mobilenet", "tf"),
    (r"resnet|vgg", "caffe"),
    (r"densenet", "torch"),
)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MAP = 7  # every strong face network keeps a 7x7 map to its last stage


def build_embedder(
    backbone,
    embedding_dim=512,
    *,
    weights=None,
    preprocessing=None,
    input_shape=(112, 112, 3),
    name=None,
):
    """Builds a face embedder on any convolutional backbone.

    `image -> pixel preprocessing -> backbone -> 7x7 map -> neck -> embedding`

    Networks of `keras.applications` halve the image five times and end at 4x4 or less on a 112x112
    crop, which costs a face embedder points of accuracy. Here the crop is enlarged in the graph to
    the size whose last map is 7x7 (224x224 for most): the same maps, the same compute and the same
    use of ImageNet weights as taking one stride out, for every family alike. Networks that reach
    7x7 by themselves are left alone.

    The neck is MobileFaceNet's (arXiv:1804.07573, section 3.1): a 7x7 depthwise convolution, which
    weighs each place of the face, a linear layer and batch normalisation in float32. The embedding
    is *not* normalised: heads and scores do that, and some losses read its norm.

    Args:
        backbone: name of one of `keras_facemargin.backbones` or `keras.applications`
            ("MobileNetV2", "ResNet50", ...), or a `keras.Model` without its top, such as
            `keras.applications.MobileNetV2(include_top=False, weights="imagenet")`.
        embedding_dim: D, length of the embedding.
        weights: for a name of `keras.applications`: "imagenet" (Keras fetches them), a path, or
            None for random ones.
        preprocessing: for an instance whose family its name does not tell: "tf" (-1..1), "caffe"
            (BGR, ImageNet mean off), "torch" (ImageNet mean and std) or "inside" (the model does
            it).
        input_shape: (height, width, 3) of the crops.
        name: of the model.

    Returns:
        Functional `keras.Model`: (B, 112, 112, 3) float32 RGB 0..255 -> (B, D) float32.

    Raises:
        ValueError: unknown name; a model that has its top on, or whose family is unknown.

    Example:

    >>> embedder = build_embedder("MobileFaceNet", embedding_dim=128)
    >>> embedder.output_shape
    (None, 128)
    """
    if isinstance(backbone, str):
        backbone, preprocessing = _by_name(backbone, weights, preprocessing, input_shape)
    elif weights is not None:
        raise ValueError(
            "`weights` goes with the name of a backbone; a model instance brings its own. "
            f"Received: weights={weights!r} with the instance {backbone.name!r}"
        )
    if len(backbone.output_shape) != 4:
        raise ValueError(
            "`backbone` must end in a feature map (batch, height, width, channels). Received: "
            f"{backbone.name!r} with output shape {backbone.output_shape}. Make it with "
            "include_top=False and pooling=None."
        )
    if preprocessing is None:
        preprocessing = _preprocessing_of(backbone)

    network = _ending_at_7x7(backbone, input_shape)
    size = network.input_shape[1:3]
    image = keras.Input(input_shape, name="image")
    x = _preprocess(image, preprocessing)
    if size != tuple(input_shape[:2]):
        # The op, not `layers.Resizing`, which makes Keras 3.15 record training=True in the graph:
        # every batch normalisation after it would then normalise by the batch in `embedder(x)`.
        x = ops.image.resize(x, size, interpolation="bilinear")
    return keras.Model(
        image, _neck(network(x), embedding_dim), name=name or f"{backbone.name}_embedder"
    )


def _by_name(name, weights, preprocessing, input_shape):
    if name in backbones.__all__:
        if weights is not None:
            raise ValueError(
                f"{name} has no ImageNet weights. Received: weights={weights!r}. For a trained "
                "embedder see keras_facemargin.zoo.load_embedder."
            )
        return getattr(backbones, name)(input_shape), "inside"
    make = getattr(keras.applications, name, None)
    if make is None or not callable(make):
        known = sorted(n for n in dir(keras.applications) if n[0].isupper())
        raise ValueError(
            f"`backbone` must be one of {backbones.__all__} or of keras.applications: {known}. "
            f"Received: backbone={name!r}"
        )
    # ImageNet weights come for 224x224; the map is adapted in build_embedder.
    model = make(include_top=False, weights=weights, input_shape=(224, 224, 3))
    return model, preprocessing


def _preprocessing_of(model):
    name = re.sub(r"[^a-z0-9]", "", model.name.lower())
    for pattern, preprocessing in _PREPROCESSING:
        if re.match(pattern, name):
            return preprocessing
    if any(isinstance(layer, layers.Rescaling | layers.Normalization) for layer in model.layers):
        return "inside"
    raise ValueError(
        "The name of the model does not tell how it wants its pixels. "
        f"Received: a model named {model.name!r}. Pass `preprocessing`: 'tf' (-1..1), 'caffe' "
        "(BGR, ImageNet mean off), 'torch' (ImageNet mean and std) or 'inside' (the model does it)."
    )


def _preprocess(image, preprocessing):
    """RGB 0..255 -> what the family was trained on, in layers that export to integer arithmetic."""
    if preprocessing == "inside":
        return image
    if preprocessing == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)
    if preprocessing == "torch":
        scale = [1 / (255 * std) for std in _TORCH_STD]
        offset = [-mean / std for mean, std in zip(_TORCH_MEAN, _TORCH_STD, strict=True)]
        return layers.Rescaling(scale, offset=offset, name="rescale")(image)
    if preprocessing == "caffe":
        bgr = ops.take(image, [2, 1, 0], axis=-1)
        offset = [-mean for mean in _CAFFE_MEAN_BGR]
        return layers.Rescaling([1.0, 1.0, 1.0], offset=offset, name="rescale")(bgr)
    raise ValueError(
        "`preprocessing` must be 'tf', 'caffe', 'torch' or 'inside'. "
        f"Received: preprocessing={preprocessing!r}"
    )


def _ending_at_7x7(model, input_shape):
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


def _accepting(model, input_shape):
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


def _neck(feature_map, embedding_dim):
    kernel = feature_map.shape[1:3]
    x = layers.DepthwiseConv2D(kernel, use_bias=False, name="neck_depthwise")(feature_map)
    x = layers.BatchNormalization(name="neck_depthwise_bn")(x)
    x = layers.Flatten(name="neck_flatten")(x)
    x = layers.Dense(embedding_dim, use_bias=False, name="neck_linear")(x)
    # Embeddings leave in float32 under a mixed policy: float16 ends at 65,504.
    return layers.BatchNormalization(dtype="float32", name="embedding")(x)
