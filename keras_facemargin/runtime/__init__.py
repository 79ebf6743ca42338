"""ONNX and TFLite files, run as they are: no conversion, neither Keras nor TensorFlow.

`open_file` opens a file in its own runtime and hides its habits: NCHW or NHWC, a fixed batch, uint8
input, int8 output. `Pixels` is the rule from RGB 0..255 to the numbers that a file takes. A file
that `keras_facemargin.export` writes carries its crop and its pixels, in `Carried`; of other files
they are not known, and never guessed. `keras_facemargin.zoo.open_embedder` makes an embedder of
both.
"""

from keras_facemargin.runtime.carried import Carried
from keras_facemargin.runtime.file import ModelFile, open_file, runs
from keras_facemargin.runtime.pixels import Pixels

__all__ = ["Carried", "ModelFile", "Pixels", "open_file", "runs"]
