"""Deployment: an embedder becomes one file for a phone or a server, tested before it is used.

`export_tflite`, `export_onnx` and, by the ending of the file, `export_embedder` write the embedder
with L2 normalisation at its end and return a `Verdict`: the file's agreement with Keras, its size
and its latency. A file that misses its `Tolerance` raises `ExportError` and never replaces a good
one.
"""

from keras_facemargin.export.formats import export_embedder, export_onnx, export_tflite
from keras_facemargin.export.verdict import ExportError, Tolerance, Verdict

__all__ = ["ExportError", "Tolerance", "Verdict", "export_embedder", "export_onnx", "export_tflite"]
