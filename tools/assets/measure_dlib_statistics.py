"""Writes `zoo/maps/dlib_statistics.npz`: statistics of the folded layers of dlib's network.

Mean and variance of each channel of the inputs of its 29 layers `affine_`, over one crop of each of
256 people, none of LFW: 14 thousand numbers, from which no image can be made.
`keras_facemargin.zoo.unfold` states their use.

    python tools/assets/measure_dlib_statistics.py dlib_face_recognition_resnet_model_v1.dat FACES

FACES was celeb/train of the data folder, with --names "[ap]_*.jpg": its sharp crops.
"""

import argparse
from pathlib import Path

import numpy as np

import keras_facemargin
from keras_facemargin.images import read_face
from keras_facemargin.images.crop import Crop
from keras_facemargin.zoo import graph
from keras_facemargin.zoo.parity import place
from keras_facemargin.zoo.readers import dlib
from keras_facemargin.zoo.unfold import measure_statistics

OUTPUT = Path(keras_facemargin.__file__).parent / "zoo" / "maps" / "dlib_statistics.npz"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="the .dat file")
    parser.add_argument("faces", type=Path, help="folder of 112x112 crops, in folders of people")
    parser.add_argument("--names", default="*.jpg", help="names of the crops to choose from")
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    crop = Crop(150, 150, "dlib")
    people = (sorted(folder.glob(options.names)) for folder in sorted(options.faces.iterdir()))
    files = [crops[0] for crops in people if crops]
    files = files[:: max(1, len(files) // options.people)][: options.people]
    crops = np.stack([place(read_face(file), crop) for file in files])
    built = graph.build(dlib.read(options.network), size=crop.shape)
    statistics = measure_statistics(built.model, built.folded, crops)
    means, variances = zip(*statistics, strict=True)
    np.savez(
        options.output,
        mean=np.concatenate(means).astype("float32"),
        variance=np.concatenate(variances).astype("float32"),
        ends=np.cumsum([len(mean) for mean in means])[:-1],
    )


if __name__ == "__main__":
    main()
