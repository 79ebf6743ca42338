"""Deployment: an embedder becomes one file for a phone or a server, judged before it is used.

`export_tflite` and `export_onnx` write the embedder with L2 normalisation behind it and return a
`Verdict`: how close the file comes to Keras, how large and how fast it is. A file that misses its
`Tolerance` raises `ExportError` and never takes the place of a good one.
"""

from keras_facemargin.export.onnx import export_onnx
from keras_facemargin.export.tflite import export_tflite
from keras_facemargin.export.verdict import ExportError, Tolerance, Verdict

__all__ = ["ExportError", "Tolerance", "Verdict", "export_onnx", "export_tflite"]
