"""Measures the quality limits of an embedder and writes them into its card of the zoo.

    python tools/assets/write_quality.py NAME --faces FACES [--model FILE]

FACES: aligned crops of people outside the training and the test sets, one folder for each person.
"""

import argparse
from pathlib import Path

from keras_facemargin import zoo
from keras_facemargin.data import open_faces


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="name in the zoo")
    parser.add_argument("--faces", type=Path, required=True, help="folder of labelled crops")
    parser.add_argument("--about", help="words for the faces; the default is the folder's name")
    parser.add_argument("--model", help="file of the embedder, if the name alone does not open it")
    options = parser.parse_args()
    embedder = zoo.open_embedder(options.model or options.name)
    faces = open_faces(options.faces, image_size=embedder.crop)
    about = options.about or options.faces.name
    quality = zoo.measure_quality(embedder, faces.paths, faces.labels, data=about)
    file = zoo.DIRECTORY / options.name / zoo.CARD
    zoo.write_card(file, zoo.read_card(file).changed(quality=quality))
    print(quality)


if __name__ == "__main__":
    main()
