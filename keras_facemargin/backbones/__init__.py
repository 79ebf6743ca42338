"""Networks that keras.applications lacks, each up to its last feature map, pixels scaled inside."""

from keras_facemargin.backbones.ghostfacenet import GhostFaceNetV1
from keras_facemargin.backbones.inception_resnet_v1 import InceptionResNetV1
from keras_facemargin.backbones.iresnet import (
    IResNet,
    IResNet18,
    IResNet34,
    IResNet50,
    IResNet100,
)
from keras_facemargin.backbones.mobilefacenet import MobileFaceNet, MobileFaceNetLarge
from keras_facemargin.backbones.spherenet import SphereNet

__all__ = [
    "GhostFaceNetV1",
    "IResNet",
    "IResNet18",
    "IResNet34",
    "IResNet50",
    "IResNet100",
    "InceptionResNetV1",
    "MobileFaceNet",
    "MobileFaceNetLarge",
    "SphereNet",
]
