"""Deployment: an embedder becomes one file for a phone or a server, tested before it is used.

`export_tflite`, `export_onnx` and, by the ending of the file, `export_embedder` write the embedder
with L2 normalisation at its end and return a `Verdict`: the file's agreement with Keras, its size
and its latency. A file that misses its `Tolerance` raises `ExportError` and never replaces a good
one. `with_decisions` adds what becomes of the answers about pairs, `write_verdicts` writes a page.
`export_bundle` writes a folder that proves itself: the files, their manifest and self-test,
and code for the app; `check_bundle` verifies it, without Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_facemargin.export.formats import FORMATS, Format, Tolerance

if TYPE_CHECKING:
    from keras_facemargin.export.bundle.check import CheckedBundle, check_bundle
    from keras_facemargin.export.bundle.manifest import Manifest, read_manifest
    from keras_facemargin.export.bundle.write import export_bundle
    from keras_facemargin.export.costs import Costs, with_costs
    from keras_facemargin.export.decisions import Decisions, compare_decisions, with_decisions
    from keras_facemargin.export.page import write_verdicts
    from keras_facemargin.export.verdict import ExportError, Verdict
    from keras_facemargin.export.write import export_embedder, export_onnx, export_tflite

__all__ = [
    "FORMATS",
    "CheckedBundle",
    "Costs",
    "Decisions",
    "ExportError",
    "Format",
    "Manifest",
    "Tolerance",
    "Verdict",
    "check_bundle",
    "compare_decisions",
    "export_bundle",
    "export_embedder",
    "export_onnx",
    "export_tflite",
    "read_manifest",
    "with_costs",
    "with_decisions",
    "write_verdicts",
]

# The help reads the table of formats and opens no library; the conversion needs Keras, the check of
# a bundle does not.
_HOMES = {
    "CheckedBundle": "bundle.check",
    "Costs": "costs",
    "Decisions": "decisions",
    "ExportError": "verdict",
    "Manifest": "bundle.manifest",
    "Verdict": "verdict",
    "check_bundle": "bundle.check",
    "compare_decisions": "decisions",
    "export_bundle": "bundle.write",
    "export_embedder": "write",
    "export_onnx": "write",
    "export_tflite": "write",
    "read_manifest": "bundle.manifest",
    "with_costs": "costs",
    "with_decisions": "decisions",
    "write_verdicts": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
