"""The pixels that a backbone expects: known from its first layer, its family or an argument.

The name of a model proves nothing. An instance belongs to a family of `keras.applications` only if
each of its layers equals a layer of a newly made network of that name.
"""

import math
import numbers
import re
from collections import Counter

import keras
import numpy as np
from keras import layers, ops

# (mean, std, order): RGB mean and standard deviation on the scale 0..255, and the channel order
# that the network takes.
_FORMS = {
    "tf": (127.5, 127.5, "RGB"),
    "caffe": ((123.68, 116.779, 103.939), 1.0, "BGR"),
    "torch": (
        tuple(255 * mean for mean in (0.485, 0.456, 0.406)),
        tuple(255 * std for std in (0.229, 0.224, 0.225)),
        "RGB",
    ),
}
# The modules of keras.applications and the form of their `preprocess_input`.
_FAMILIES = {
    "convnext": "inside",
    "densenet": "torch",
    "efficientnet": "inside",
    "efficientnet_v2": "inside",
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "inside",
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}
_LARGEST = 256.0  # a first layer that takes bytes returns no larger values
_CHOICES = (
    "'tf' (-1..1), 'caffe' (BGR minus the ImageNet mean), 'torch' (ImageNet mean and standard "
    "deviation), 'inside' (the model scales RGB 0..255 itself), or (mean, std, order): RGB mean "
    "and standard deviation on the scale 0..255, and 'RGB' or 'BGR'"
)


def applications():
    """The networks of `keras.applications`, name -> constructor."""
    found = vars(keras.applications).items()
    return {name: make for name, make in found if name[0].isupper() and callable(make)}


def preprocessing_of_family(make):
    """The `preprocessing` of a constructor of `keras.applications`; None for an unknown family."""
    return _FAMILIES.get(make.__module__.rpartition(".")[2])


def preprocessing_of(model):
    """The `preprocessing` that a model instance needs.

    Args:
        model: `keras.Model` of RGB images without its top.

    Returns:
        "inside" if a `Rescaling` or `Normalization` layer takes its pixels 0..255; the form of its
        family if it is a complete network of `keras.applications`.

    Raises:
        ValueError: neither is true.
    """
    if _scales_its_pixels(model):
        return "inside"
    make, arguments = _application_of_name(model.name)
    preprocessing = make and preprocessing_of_family(make)
    if preprocessing in _FORMS:
        original = make(include_top=False, weights=None, input_shape=(224, 224, 3), **arguments)
        if _fingerprint(model) == _fingerprint(original):
            return preprocessing
    raise ValueError(
        "The pixels that `backbone` expects are unknown: it does not begin with a Rescaling or "
        "Normalization layer for RGB 0..255 and is not a complete network of keras.applications "
        f"under its own name. Received: a model named {model.name!r}. Pass `preprocessing`: "
        f"{_CHOICES}."
    )


def preprocess(image, preprocessing):
    """Converts RGB 0..255 to the pixels that the backbone expects.

    It uses layers that export to integer arithmetic.

    Args:
        image: Keras tensor `(B, H, W, 3)`, RGB 0..255.
        preprocessing: "tf", "caffe", "torch", "inside" or `(mean, std, order)`.

    Raises:
        ValueError: another `preprocessing`.
    """
    if isinstance(preprocessing, str) and preprocessing == "inside":
        return image
    mean, std, order = _form(preprocessing)
    if order == "BGR":
        image, mean, std = ops.take(image, [2, 1, 0], axis=-1), mean[::-1], std[::-1]
    scale = [1 / s for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    if len(set(zip(scale, offset, strict=True))) == 1:  # one number for the three channels
        scale, offset = scale[0], offset[0]
    return layers.Rescaling(scale, offset=offset, name="rescale")(image)


def _form(preprocessing):
    """The three means, the three standard deviations and the order of a `preprocessing`."""
    form = preprocessing
    if isinstance(form, str):
        form = _FORMS.get(form)
    if isinstance(form, tuple | list) and len(form) == 3 and form[2] in ("RGB", "BGR"):
        mean, std = _three(form[0]), _three(form[1])
        if mean and std and min(std) > 0:
            return mean, std, form[2]
    raise ValueError(
        f"`preprocessing` must be {_CHOICES}. Received: preprocessing={preprocessing!r}"
    )


def _three(values):
    """One number or three as three floats; None if they are something else."""
    if isinstance(values, numbers.Real):
        values = [values] * 3
    try:
        values = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return values if len(values) == 3 and all(map(math.isfinite, values)) else None


def _scales_its_pixels(model):
    """True if a Rescaling or Normalization for bytes comes before the first layer with weights."""
    for operation in _operations(model):
        if isinstance(operation, layers.Rescaling | layers.Normalization):
            extremes = np.array([0.0, 255.0], "float32").reshape(2, 1, 1, 1).repeat(3, axis=-1)
            made = ops.convert_to_numpy(ops.cast(operation(extremes), "float32"))
            return bool(np.abs(made).max() <= _LARGEST)
        if getattr(operation, "weights", None):
            return False
    return False


def _operations(model):
    """Layers and ops of a model in the order of computation, those of inner models included."""
    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        else:
            yield operation


def _application_of_name(name):
    """Constructor and arguments of the network that has this name; (None, {}) for other names."""
    width = re.fullmatch(r"(mobilenet|mobilenetv2)_(\d\.\d+)_\w+", name)  # name_ALPHA_SIZE
    known = re.sub(r"[^a-z0-9]", "", (width[1] if width else name).lower())
    for each, make in applications().items():
        if each.lower() == known:
            return make, {"alpha": float(width[2])} if width else {}
    return None, {}


def _fingerprint(model):
    """Class, name and weight shapes of every layer, without the counters that Keras adds to names.

    Global pooling does not count: it may be the end that `pooling="avg"` adds.
    """
    return Counter(
        (
            type(layer).__name__,
            re.sub(r"_\d+$", "", layer.name),
            tuple(sorted(tuple(weight.shape) for weight in layer.weights)),
        )
        for layer in model.layers
        if not isinstance(
            layer,
            layers.InputLayer | layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D,
        )
    )
