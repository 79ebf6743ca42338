"""The three networks of MTCNN as ONNX files, for the page of a bundle.

`images.mtcnn` computes the same networks in NumPy and describes the cascade;
`web/face_detector.mjs` is the cascade in JavaScript. The weights are read from the package `mtcnn`
when a bundle is written.
"""

from pathlib import Path
from typing import Any

import numpy as np

from keras_facemargin.images.mtcnn.weights import Arrays, read_networks

_OPSET, _IR_VERSION = 15, 8  # as old as the embedder's file, so that every runtime opens both
# Side of each maximum, every 2 pixels, and whether it is padded so that the last pixels count.
_POOLS = {
    "pnet": ((2, True),),
    "rnet": ((3, True), (3, False)),
    "onet": ((3, True), (3, False), (2, True)),
}
_SIDES: dict[str, int | None] = {"pnet": None, "rnet": 24, "onet": 48}


def write_detector(directory: Path) -> None:
    """Writes `pnet.onnx`, `rnet.onnx` and `onet.onnx`.

    Each takes `image`, float32 (N, 3, H, W), RGB, -1..1, and gives `offsets` and `classes`, whose
    softmax is the score; the last one gives `points`, x of all five before y. Those of the first
    network are maps, the others' are (N, 4), (N, 2) and (N, 10).

    Args:
        directory: the folder.

    Raises:
        ImportError, ValueError: as `read_networks`.
    """
    for name, arrays in read_networks().items():
        (directory / f"{name}.onnx").write_bytes(_Network(name, arrays).serialize())


class _Network:
    """One network as an ONNX graph, built layer by layer."""

    def __init__(self, name: str, arrays: Arrays) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._name = name
        maps = name == "pnet"  # its outputs are convolutions, too
        convolutions = 3 if maps else sum(array.ndim == 4 for array in arrays)
        x = "image"
        for number in range(convolutions):
            kernel, bias, slope = arrays[3 * number : 3 * number + 3]
            x = self._add("Conv", x, _kernel(kernel), bias)
            x = self._add("PRelu", x, slope.reshape(-1, 1, 1))
            if number < len(_POOLS[name]):
                side, padded = _POOLS[name][number]
                pads = [0, 0, 1, 1] if padded else [0, 0, 0, 0]
                x = self._add("MaxPool", x, kernel_shape=[side, side], strides=[2, 2], pads=pads)
        rest = arrays[3 * convolutions :]
        if not maps:
            # Columns first, as the authors' Matlab has them.
            x = self._add("Flatten", self._add("Transpose", x, perm=[0, 3, 2, 1]))
            x = self._add("PRelu", self._add("Gemm", x, rest[0], rest[1]), rest[2])
            rest = rest[3:]
        for output, weights, bias in zip(_outputs(name), rest[::2], rest[1::2], strict=True):
            if maps:
                self._add("Conv", x, _kernel(weights), bias, to=output)
            else:
                self._add("Gemm", x, weights, bias, to=output)

    def _add(self, op: str, x: str, *constants: Any, to: str | None = None, **options: Any) -> str:
        """Adds a node and returns the name of its output."""
        import onnx

        output = to or f"{op}_{len(self._nodes)}"
        names = [f"{output}_{index}" for index in range(len(constants))]
        for each, value in zip(names, constants, strict=True):
            array = np.ascontiguousarray(value, "float32")
            self._constants.append(onnx.numpy_helper.from_array(array, each))
        self._nodes.append(onnx.helper.make_node(op, [x, *names], [output], **options))
        return output

    def serialize(self) -> bytes:
        """The bytes of the file."""
        import onnx

        def tensor(name: str, shape: list[int | str]) -> Any:
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

        side = _SIDES[self._name]
        ends: list[int | str] = ["rows", "columns"] if side is None else []
        outputs = _outputs(self._name)
        graph = onnx.helper.make_graph(
            self._nodes,
            self._name,
            [tensor("image", ["batch", 3, side or "height", side or "width"])],
            [tensor(name, ["batch", count, *ends]) for name, count in outputs.items()],
            self._constants,
        )
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="keras_facemargin",
            doc_string="MTCNN (Zhang et al., 2016). The weights are those of the package mtcnn "
            "1.0, MIT licence, Copyright (c) 2019-2024 Ivan de Paz Centeno.",
        )
        found: bytes = model.SerializeToString()
        return found


def _kernel(kernel: Any) -> Any:
    """A kernel (height, width, in, out) as ONNX has it, (out, in, height, width)."""
    return kernel.transpose(3, 2, 0, 1)


def _outputs(name: str) -> dict[str, int]:
    """The outputs of a network and their numbers, in the order of its arrays."""
    points = {"points": 10} if name == "onet" else {}
    return {"offsets": 4} | points | {"classes": 2}
