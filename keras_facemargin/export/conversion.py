"""Errors of converters and runtimes in terms of the embedder: layer and op."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from keras_facemargin.export.console import quiet
from keras_facemargin.export.verdict import ExportError


@contextlib.contextmanager
def converting(format: str, embedder: Any) -> Iterator[None]:
    """Hides the output of converters and turns their errors into an `ExportError`.

    Args:
        format: "ONNX" or "TFLite", for the message.
        embedder: the converted model; the error names its layer if it is known.

    Raises:
        ExportError: the block raised an error other than of the operating system.
    """
    try:
        with quiet():
            yield
    except (ExportError, OSError, MemoryError):
        raise
    except Exception as error:
        text = str(error)
        path = re.search(r"[\w.-]+(/[\w.-]+)+", text)
        layer = path and _layer(embedder, path[0])
        where = f" in {layer}" if layer else ""
        raise ExportError(
            f"The embedder cannot be written as {format}. Received: the converter's "
            f"{type(error).__name__}{where}: {' '.join(text.split())[:300]} Please report it with "
            "the embedder's summary()."
        ) from error


def unsupported(format: str, embedder: Any, found: Iterable[tuple[str, str]]) -> ExportError:
    """The error for ops that a format does not have.

    Args:
        format: "ONNX" or "TFLite".
        embedder: the model that was converted.
        found: (op, path in the TensorFlow graph) of each op, such as
            `("Erf", "face_1/gelu_1/Erf")`.

    Returns:
        An `ExportError` that names the ops and their Keras layers.
    """
    where = dict.fromkeys(
        f"{op} in {_layer(embedder, path) or f'an op outside layers ({path})'}"
        for op, path in found
    )
    return ExportError(
        f"{format} has no form for an op of this embedder. Received: {', '.join(where)}. Replace "
        "the layer with one of other ops and train again."
    )


def unrunnable(
    format: str, embedder: Any, op: str, paths: Iterable[str], error: Exception
) -> ExportError:
    """The error for an op of a converted file that its runtime refuses.

    Args:
        format: "TFLite int8", for the message.
        embedder: the model that was converted.
        op: its name.
        paths: its name scopes in the TensorFlow graph; several if layers were fused into it.
        error: of the runtime.

    Returns:
        An `ExportError` that names the op and its Keras layer.
    """
    layers = [layer for path in paths if (layer := _layer(embedder, path))]
    kind = f"({op.replace('_', '')})"  # of the layer that gave the op its name
    named = [layer for layer in layers if layer.upper().endswith(kind)]
    where = next(iter([*named, *layers]), "an op outside layers")
    return ExportError(
        f"The runtime of {format} refuses an op of this embedder. Received: {op} in {where}: "
        f"{' '.join(str(error).split())[:200]} Export tflite-dynamic_int8, "
        "which is as small, or tflite-float16."
    )


def _layer(embedder: Any, path: str) -> str | None:
    """The innermost Keras layer whose name scope is in a path of the TensorFlow graph, or None."""
    layers = {layer.name: layer for layer in embedder._flatten_layers(include_self=False)}
    for scope in reversed(path.split("/")):
        # In a traced call the scope of a layer is its name with _1 appended.
        for name in (scope.removesuffix("_1"), scope):
            if name in layers:
                return f"layer {name!r} ({type(layers[name]).__name__})"
    return None
