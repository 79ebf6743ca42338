"""A sheet of drawn faces, each augmentation layer a row: look at it before you train with one.

    python tools/figures/draw_augmentations.py augmentations.png

The people do not exist (`synthesize_faces`). The first row is what the layers get; in the others
every face is changed, whatever the layer's own rate.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

from keras_facemargin.augmentation import layers
from keras_facemargin.images import synthesize_faces

LABELS = 150  # pixels left of the faces


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--faces", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    draw_sheet(options.faces, options.seed).save(options.output)


def draw_sheet(count, seed):
    faces, _ = synthesize_faces(count, 1, seed)
    rows = {"as they are": faces.astype("float32")}
    for name in sorted(vars(layers)):
        if name.startswith("Random"):
            layer = getattr(layers, name)(rate=1.0, seed=seed)
            rows[name] = keras.ops.convert_to_numpy(layer(faces, training=True))
    side = faces.shape[1]
    sheet = Image.new("RGB", (LABELS + count * side, len(rows) * side), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        draw.text((6, row * side + side // 2 - 6), name, fill="black")
        strip = np.concatenate(np.round(images).astype("uint8"), axis=1)
        sheet.paste(Image.fromarray(strip), (LABELS, row * side))
    return sheet


if __name__ == "__main__":
    main()
