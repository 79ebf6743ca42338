"""Writes the golden embedding of a file into its card, by the file's own runtime.

The runtime is onnxruntime, LiteRT, dlib, PyTorch's functions on the file's tensors, or Keras for a
`.keras` file. The embedder must agree with it, and gives the card its number of parameters.

    python tools/assets/write_golden.py mobilefacenet_xiaoccer 068.ckpt
"""

import argparse
import json
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import torch_oracles

from keras_facemargin import zoo
from keras_facemargin.zoo.convert import convert, read_state
from keras_facemargin.zoo.parity import golden_crop, golden_of, prove
from keras_facemargin.zoo.parts import Golden
from keras_facemargin.zoo.readers import mxnet

CROP = "synthetic-1"
DLIB = """
import json, sys, dlib, numpy
network = dlib.face_recognition_model_v1(sys.argv[1])
found = network.compute_face_descriptor(numpy.load(sys.argv[2]))
print(json.dumps({"version": dlib.__version__, "embedding": list(found)}))
"""


def run(path, card, crop, dlib_python):
    """(runtime, embedding) of a crop."""
    match card.converter:
        case None | "onnx" | "tflite":
            golden = golden_of(path, card)
            return golden.runtime, golden.embedding
        case "dlib":
            with tempfile.NamedTemporaryFile(suffix=".npy") as file:
                np.save(file.name, crop)
                command = [dlib_python, "-c", DLIB, str(path), file.name]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            return f"dlib {found['version']}", found["embedding"]
        case "mxnet":
            symbol = path.with_name(path.name.replace("-0000.params", "-symbol.json"))
            found = torch_oracles.run_mxnet(symbol, mxnet.read_params(path), crop[None])[0]
        case "mobilefacenet_foamliu":
            found = torch_oracles.run_foamliu(path, crop[None])[0]
        case "mobilefacenet_xiaoccer":
            found = torch_oracles.run_xiaoccer(path, crop[None])[0]
        case "edgeface_xs":
            found = torch_oracles.run_edgeface(read_state(path), crop[None])[0]
        case other:
            raise SystemExit(f"No runtime of the converter is known. Received: {other}")
    return f"torch {metadata.version('torch')}, functions on the file's tensors", found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the card in zoo/")
    parser.add_argument("file", type=Path)
    parser.add_argument("--dlib-python", default="python", help="an interpreter with dlib")
    options = parser.parse_args()
    card = zoo.load_card(options.name)
    runtime, found = run(options.file, card, golden_crop(CROP, card.crop), options.dlib_python)
    embedding = tuple(float(np.float32(each)) for each in found)
    golden = Golden(crop=CROP, runtime=runtime, embedding=embedding)
    model = convert(options.file, card) if card.converter else zoo.load_embedder(options.file)
    card = card.changed(golden=golden, parameters=model.count_params())
    prove(model, card, options.file)
    zoo.write_card(zoo.DIRECTORY / options.name / zoo.CARD, card)
    print(f"{options.name}: {len(embedding)} numbers by {runtime}, {card.parameters:,} parameters")


if __name__ == "__main__":
    main()
