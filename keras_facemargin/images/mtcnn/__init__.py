"""MTCNN in NumPy: three small networks that find faces and five points on each.

Zhang, Zhang, Li, Qiao, *Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks*, IEEE Signal Processing Letters 23 (2016). The weights are in the package `mtcnn`, whose
files are read here without running its code.
"""

from keras_facemargin.images.mtcnn.detector import MtcnnDetector

__all__ = ["MtcnnDetector"]
