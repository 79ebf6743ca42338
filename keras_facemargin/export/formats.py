"""The formats of exported files: one table.

The export, the options and the help of the command, the verdict and the documentation read it. It
imports no other module of the package, so that the help opens no library.
"""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Tolerance(NamedTuple):
    """Smallest cosine between the exported and the Keras embedding of an image.

    The cost of a tolerance c: the score of a pair changes by at most sqrt(2 (1 - c)) for each of
    its two images, and by about sqrt(2 (1 - c) / D) if the error points anywhere in D dimensions.
    With c = 0.98, D = 512 that is 0.2 at worst and 0.009 as a rule; thresholds at FAR 1e-3 are near
    0.3.

    Attributes:
        cosine_min: for the worst image.
        cosine_mean: for all images on average.
    """

    cosine_min: float
    cosine_mean: float


class Container(NamedTuple):
    """A kind of file.

    Attributes:
        name: "tflite", "onnx", "savedmodel" or "openvino".
        title: in sentences.
        suffix: ending of the file.
        folder: whether the "file" is a folder.
        runtime: in sentences.
        backends: of Keras, from which it can be written.
        packages: module -> extra that installs it.
    """

    name: str
    title: str
    suffix: str
    folder: bool
    runtime: str
    backends: tuple[str, ...]
    packages: dict[str, str]


class Format(NamedTuple):
    """A row of the table: a kind of file with a precision.

    Attributes:
        container: its `Container`.
        precision: as `export_embedder` takes it.
        tolerance: the default `Tolerance`.
        weights, arithmetic, image: types, in words.
        calibrated: whether images set the ranges of the activations.
        more_packages: as `Container.packages`, those that only this precision needs.
    """

    container: Container
    precision: str
    tolerance: Tolerance
    weights: str
    arithmetic: str
    image: str = "float32 0..255"
    calibrated: bool = False
    more_packages: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """Such as "tflite-int8"; the command takes it."""
        return f"{self.container.name}-{self.precision}"

    @property
    def packages(self) -> dict[str, str]:
        """Module -> extra that installs it."""
        return self.container.packages | (self.more_packages or {})


TFLITE = Container(
    "tflite",
    "TFLite",
    ".tflite",
    False,
    "LiteRT",
    ("tensorflow",),
    {"ai_edge_litert.interpreter": "export"},
)
ONNX = Container(
    "onnx",
    "ONNX",
    ".onnx",
    False,
    "ONNX Runtime",
    ("tensorflow", "torch"),
    {"onnx": "export", "onnxruntime": "export", "tf2onnx": "export"},
)
SAVEDMODEL = Container(
    "savedmodel",
    "SavedModel",
    ".savedmodel",
    True,
    "TensorFlow",
    ("tensorflow", "jax"),
    {"tensorflow": "cpu"},
)
# Written from the ONNX file.
OPENVINO = Container(
    "openvino",
    "OpenVINO",
    ".openvino",
    True,
    "OpenVINO",
    ONNX.backends,
    ONNX.packages | {"openvino": "openvino"},
)

_FLOAT32 = Tolerance(0.9999, 0.99999)  # The order of summation; 1 - 1e-6 is usual.
_FLOAT16 = Tolerance(0.999, 0.9999)  # 11 bits per number.
_INT8_WEIGHTS = Tolerance(0.99, 0.995)  # 8 bits per weight, with a scale for each channel.
_INT8 = Tolerance(0.95, 0.98)  # 8 bits everywhere; the representative images set the ranges.

FORMATS = (
    Format(TFLITE, "float32", _FLOAT32, "float32", "float32"),
    Format(TFLITE, "float16", _FLOAT16, "float16", "float32, or float16 on a GPU"),
    Format(
        TFLITE,
        "weight_int8",
        _INT8_WEIGHTS,
        "int8",
        "float32",
        more_packages={"ai_edge_quantizer": "quantizer"},
    ),
    Format(TFLITE, "dynamic_int8", _INT8_WEIGHTS, "int8", "int8 products, float32 between layers"),
    Format(TFLITE, "int16x8", _INT8_WEIGHTS, "int8", "int16, float32 islands", calibrated=True),
    Format(TFLITE, "int8", _INT8, "int8", "int8 throughout", "uint8 RGB bytes", calibrated=True),
    Format(ONNX, "float32", _FLOAT32, "float32", "float32"),
    Format(ONNX, "float16", _FLOAT16, "float16", "float16"),
    Format(ONNX, "int8", _INT8, "int8", "int8, float32 normalisation", calibrated=True),
    Format(SAVEDMODEL, "float32", _FLOAT32, "float32", "float32"),
    Format(OPENVINO, "float32", _FLOAT32, "float32", "float32"),
    Format(OPENVINO, "float16", _FLOAT16, "float16", "float32, or float16 on a GPU"),
)
CONTAINERS = {each.container.suffix: each.container for each in FORMATS}
NAMES = tuple(each.name for each in FORMATS)


def find_format(name: str) -> Format:
    """The row of a name such as "tflite-int8".

    Raises:
        ValueError: the name is unknown.

    Example:

    >>> find_format("onnx-int8").calibrated
    True
    """
    for each in FORMATS:
        if each.name == name:
            return each
    raise ValueError(f"A format must be one of {', '.join(NAMES)}. Received: {name!r}")


def format_of(path: str | os.PathLike[str], precision: str = "float32") -> Format:
    """The row for the ending of a file and a precision.

    Args:
        path: the file to write.
        precision: the name of a precision.

    Raises:
        ValueError: the ending or the precision is unknown.

    Example:

    >>> format_of("face.tflite", "int8").name
    'tflite-int8'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise ValueError(
            f"The file to write must end in {_either(CONTAINERS)}. Received: {os.fspath(path)!r}"
        )
    rows = {each.precision: each for each in FORMATS if each.container.suffix == suffix}
    if precision in rows:
        return rows[precision]
    others = [each.container.suffix for each in FORMATS if each.precision == precision]
    raise ValueError(
        f"The precision of a {suffix} file must be {_either(rows)}. "
        f"Received: precision={precision!r}."
        + (f" A {others[0]} file can have this precision." if others else "")
    )


def require(format: Format, backend: str) -> None:
    """Checks that the packages of a format are installed.

    Args:
        format: the row.
        backend: the backend of Keras that writes it.

    Raises:
        ImportError: a package is missing; the message has the command that installs it.
    """
    for module, extra in format.packages.items():
        if module == "tf2onnx" and backend != "tensorflow":
            continue
        try:
            importlib.import_module(module)
        except ImportError as error:
            package = module.partition(".")[0].replace("_", "-")
            raise ImportError(
                f"A {format.container.title} file of precision {format.precision} needs {package}. "
                "Received: it is not installed. Run: pip install "
                f"'keras_facemargin[{extra}]'"
            ) from error


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)
