"""LiteRT for the stand-ins of its interfaces: embed.py MODEL IMAGE writes the embedding."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

model, image = sys.argv[1:]
run = Interpreter(model_path=model).get_signature_runner("serving_default")
details = run.get_input_details()["image"]
pixels = np.fromfile(image, details["dtype"]).reshape(details["shape"])
sys.stdout.buffer.write(run(image=pixels)["embedding"].tobytes())
