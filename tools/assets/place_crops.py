"""Places aligned 112x112 crops in another template, as crops of a second folder.

    python tools/assets/place_crops.py CROPS OUTPUT --template dlib

One similarity maps the points of ArcFace's template onto those of the other; the edges of a crop
are repeated where it ends. OUTPUT gets the same names. The LFW figures of the card `dlib_resnet`
are of such crops.
"""

import argparse
from pathlib import Path

from keras_facemargin.images import read_face
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import encode_face
from keras_facemargin.zoo.parity import place


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("crops", type=Path, help="folder of 112x112 crops, .jpg")
    parser.add_argument("output", type=Path)
    parser.add_argument("--template", default="dlib", help="dlib or sphereface")
    options = parser.parse_args()
    crop = Crop.of(None, options.template)
    for file in sorted(options.crops.rglob("*.jpg")):
        copy = options.output / file.relative_to(options.crops)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(encode_face(place(read_face(file), crop)))


if __name__ == "__main__":
    main()
