"""Verifies faces with an ONNX file that another project made.

    python examples/evaluate_a_foreign_model.py model.onnx --mean 127.5 --std 128 \\
        --images lfw/aligned --pairs lfw/pairs.txt

`evaluate` takes any callable from RGB images to embeddings. This script makes one of an ONNX file
and runs LFW's protocol. `--mean`, `--std` and `--bgr` say which pixels the network expects: the
model's documentation names them. Without `--images` and `--pairs` it verifies faces of people who
do not exist. `--report page.html` writes a page with intervals.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from keras_facemargin.evaluate import all_pairs, embed, evaluate_pairs, read_pairs, verify
from keras_facemargin.images import synthesize_faces
from keras_facemargin.report import report_verification


class OnnxEmbedder:
    """An ONNX file as a callable: float32 RGB 0..255, `(B, H, W, 3)` -> embeddings `(B, D)`.

    Args:
        file: the ONNX file; its first input takes images, its first output is the embedding.
        mean, std: the network sees `(pixel - mean) / std`; one number or one for each channel.
        bgr: whether the network takes BGR; then mean and std are in that order too.
    """

    def __init__(self, file, mean=0.0, std=1.0, bgr=False):
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.image = self.session.get_inputs()[0]
        self.mean, self.std, self.bgr = mean, std, bgr
        self.channels_first = self.image.shape[1] == 3
        height = self.image.shape[2 if self.channels_first else 1]
        size = height if isinstance(height, int) else 112
        self.input_shape = (None, size, size, 3)  # `embed` reads files at this size
        self.batch = self.image.shape[0] if isinstance(self.image.shape[0], int) else None

    def __call__(self, images):
        if self.bgr:
            images = images[..., ::-1]
        images = ((images - self.mean) / self.std).astype("float32")
        if self.channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        step = self.batch or len(images)
        parts = [images[start : start + step] for start in range(0, len(images), step)]
        return np.concatenate([self.session.run(None, {self.image.name: x})[0] for x in parts])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("--images", type=Path, help="folder of aligned crops, a folder a person")
    parser.add_argument("--pairs", type=Path, help="LFW's pairs.txt, or a list in its format")
    parser.add_argument("--mean", type=float, nargs="+", default=[0.0], help="of pixels 0..255")
    parser.add_argument("--std", type=float, nargs="+", default=[1.0], help="of pixels 0..255")
    parser.add_argument("--bgr", action="store_true", help="the network takes BGR")
    parser.add_argument("--report", type=Path, help="HTML page to write; needs --pairs")
    options = parser.parse_args(arguments)
    if (options.images is None) != (options.pairs is None):
        parser.error("--images and --pairs go together")
    if options.report and options.pairs is None:
        parser.error("--report needs --images and --pairs")

    embedder = OnnxEmbedder(options.model, options.mean, options.std, options.bgr)
    if options.pairs is None:
        images, labels = synthesize_faces(num_identities=10, images_per_identity=4)
        result = verify(*all_pairs(embed(embedder, images, batch_size=16), labels))
    else:
        pairs = read_pairs(options.pairs, options.images, on_missing="reject")
        result = evaluate_pairs(embedder, pairs, batch_size=16)
        if options.report:
            scores = {options.model.stem: result.scores}
            report_verification(options.report, pairs, scores, title="Pairs")
    for measure, value in result.rows():
        print(f"{measure}: {value}")
    return result


if __name__ == "__main__":
    main()
