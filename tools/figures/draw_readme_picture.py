"""Draws docs/demo.png: faces of people who do not exist, and strangers verified before and after.

The demo's faces, split and seed, with the layers trained too (`finetune --layers`), as one picture
for the README's first screen.

    python tools/figures/draw_readme_picture.py docs/demo.png
"""

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_facemargin.data import FaceFolder
from keras_facemargin.demo import IMAGES_EACH, PEOPLE, contact_sheet
from keras_facemargin.evaluate import plot_roc, plot_scores
from keras_facemargin.images import write_synthetic_faces
from keras_facemargin.training.finetune import finetune
from keras_facemargin.zoo import load_embedder

WIDTH = 1344  # twelve crops of 112 pixels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="spherenet_distilled")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        write_synthetic_faces(Path(scratch) / "faces", PEOPLE, IMAGES_EACH, seed=0)
        people = FaceFolder(Path(scratch) / "faces")
        tuned = finetune(load_embedder(arguments.model), people, layers=True, seed=0)
        sheet = contact_sheet(people, rows=4, columns=12)
    before, after = tuned.before.strangers, tuned.after.strangers
    roc = plot_roc({"before": before.curve, "after": after.curve})
    plots = [pixels(roc), pixels(plot_scores(after.scores, after.same))]
    height = min(plot.height * WIDTH // 2 // plot.width for plot in plots)
    picture = Image.new("RGB", (WIDTH, sheet.shape[0] + height), "white")
    picture.paste(Image.fromarray(sheet), (0, 0))
    for column, plot in enumerate(plots):
        plot.thumbnail((WIDTH // 2, height), Image.Resampling.LANCZOS)
        left = column * WIDTH // 2 + (WIDTH // 2 - plot.width) // 2
        picture.paste(plot, (left, sheet.shape[0]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(arguments.output, optimize=True)
    print(f"{arguments.output}: {np.prod(picture.size):,} pixels")


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    main()
