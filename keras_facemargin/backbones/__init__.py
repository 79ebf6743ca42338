"""Networks that keras.applications lacks, each up to its last feature map, pixels scaled inside."""

from keras_facemargin.backbones.mobilefacenet import MobileFaceNet
from keras_facemargin.backbones.spherenet import SphereNet

__all__ = ["MobileFaceNet", "SphereNet"]
