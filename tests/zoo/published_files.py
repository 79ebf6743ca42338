"""Cards for published files, for tests, and where the files are."""

import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_facemargin import zoo
from keras_facemargin.zoo.card import Card

CARD = zoo.load_card("spherenet_distilled")
IMAGENET = {
    "mean": [255 * mean for mean in (0.485, 0.456, 0.406)],
    "scale": [255 * std for std in (0.229, 0.224, 0.225)],
}
ARCFACE = {"height": 112, "width": 112, "template": "arcface"}
DLIB = "dlib_face_recognition_resnet_model_v1.dat"


def rule(mean, scale):
    return {"mean": [mean] * 3, "scale": [scale] * 3}


def card_of(converter, dim, pixels, *, crop=ARCFACE, order="RGB", network=None, **fields) -> Card:
    """A card with these facts; the rest is of another card."""
    record = CARD.to_dict()
    record["input"] = {
        "crop": {"points": None, **crop},
        "channel_order": order,
        "range": [0, 255],
        "pixel_rule": pixels,
    }
    record |= {
        "name": f"a-{converter}",
        "converter": converter,
        "embedding_dim": dim,
        "network": network or {"kind": "graph"},
        "parameters": None,
        "golden": None,
    }
    del record["embedding_id"], record["schema_version"]
    parts = Card.model_construct(**record | {"schema_version": 2})
    record["input"] = zoo.Input.model_validate_json(json.dumps(record["input"]))
    record["weights"] = zoo.Weights(**record["weights"])
    draft = Card.model_construct(**record)
    whole = parts.model_dump(mode="json", warnings=False)
    whole |= {"schema_version": 2, "embedding_id": draft.id_of()} | fields
    return Card.model_validate_json(json.dumps(whole))


# (file, card) of the files among the measured data.
PUBLISHED = {
    "foamliu_MobileFaceNet.onnx": ("onnx", 128, IMAGENET, ARCFACE),
    "foamliu_mobilefacenet.pt": ("mobilefacenet_foamliu", 128, IMAGENET, ARCFACE),
    "xiaoccer_mobilefacenet_068.ckpt": (
        "mobilefacenet_xiaoccer",
        128,
        rule(127.5, 128.0),
        {"height": 112, "width": 96, "template": "sphereface"},
    ),
    "edgeface_xs_q.pt": ("edgeface_xs", 512, rule(127.5, 127.5), ARCFACE),
    "visassist_mobilefacenet.tflite": ("tflite", 128, rule(127.5, 128.0), ARCFACE),
    "insightface_model-y1-test2_model-0000.params": ("mxnet", 128, None, ARCFACE),
    DLIB: ("dlib", 128, None, {"height": 150, "width": 150, "template": "dlib"}),
    "MobileFaceNet.tflite": ("tflite", 192, rule(127.5, 128.0), ARCFACE),
}


def published_card(name) -> Card:
    converter, dim, pixels, crop = PUBLISHED[name]
    return card_of(converter, dim, pixels, crop=crop)


def find_file(name, shared_data) -> Path:
    """A published file: among the measured data, in FACEMARGIN_ZOO_FILES, or installed."""
    places = [shared_data / "weights" / name]
    if own := os.environ.get("FACEMARGIN_ZOO_FILES"):
        places += sorted(Path(own).rglob(name))
    if name == DLIB:
        try:
            parts = metadata.files("face_recognition_models") or []
        except metadata.PackageNotFoundError:
            parts = []
        places += [Path(part.locate()) for part in parts if part.name == name]
    for place in places:
        if place.is_file():
            return place
    pytest.skip(f"needs the published file {name}; set FACEMARGIN_ZOO_FILES to its folder")


def real_crops(shared_data, count=8):
    """uint8 (count, 112, 112, 3)."""
    files = sorted((shared_data / "lfw" / "aligned").glob("A*/*_0001.jpg"))[:count]
    return np.stack([np.array(Image.open(file).convert("RGB")) for file in files])
