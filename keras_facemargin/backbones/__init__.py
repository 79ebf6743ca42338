"""Networks that keras.applications lacks, each up to its last feature map, pixels scaled inside."""

from keras_facemargin.backbones.mobilefacenet import MobileFaceNet

__all__ = ["MobileFaceNet"]
