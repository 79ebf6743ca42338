"""TFLite files, read with the schema of the package `ai_edge_litert`."""

import os
import pathlib
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import (
    Graph,
    Node,
    Problem,
    Tensor,
    checked_count,
    reading,
)

_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 9: "i1"}  # the schema's TensorType
_MOST_PARTS = 100_000
_ACTIVATIONS = {0: None, 1: "Relu", 3: "Clip"}  # the schema's ActivationFunctionType
_SAME = 0  # the schema's Padding
# Operators of TFLite that have one of ONNX with the same inputs.
_PLAIN = {
    "ABS": "Abs",
    "ADD": "Add",
    "DIV": "Div",
    "HARD_SWISH": "HardSwish",
    "LOGISTIC": "Sigmoid",
    "MUL": "Mul",
    "PRELU": "PRelu",
    "RELU": "Relu",
    "RESHAPE": "Reshape",
    "SUB": "Sub",
    "TANH": "Tanh",
}


def read(path: str | os.PathLike[str]) -> Graph:
    """Reads the first graph of a file, with float32 or float16 weights.

    Args:
        path: the `.tflite` file.

    Returns:
        A `Graph` in the layout (N, H, W, C). float16 becomes float32; an activation inside another
        operator becomes a node of its own.

    Raises:
        BadFile: the file is damaged or of another kind, or its weights are integers.
        ImportError: the package `ai_edge_litert` is missing.
        OSError: the file cannot be read.
    """
    schema = _schema()
    data = pathlib.Path(path).read_bytes()
    with reading(path, "a TFLite file"):
        if data[4:8] != b"TFL3":
            raise Problem("a file without the mark TFL3. Copy or download it again.")
        return _Network(schema, data).graph()


def _schema() -> typing.Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ImportError(
            "Reading a TFLite file needs the package ai-edge-litert. Received: it is not "
            "installed. `pip install keras_facemargin[export]` installs it."
        ) from error
    return schema_py_generated


class _Network:
    def __init__(self, schema: typing.Any, data: bytes):
        self.schema = schema
        self.data = data
        self.model = schema.Model.GetRootAsModel(data, 0)
        self.part = self.model.Subgraphs(0)
        self.ops = {
            value: name
            for name, value in vars(schema.BuiltinOperator).items()
            if isinstance(value, int)
        }
        self.constants: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.names: list[str] = []
        self.shapes: list[tuple[int, ...]] = []

    def graph(self) -> Graph:
        part = self.part
        counts = part.TensorsLength(), part.OperatorsLength()
        if part.InputsLength() != 1 or part.OutputsLength() < 1 or max(counts) > _MOST_PARTS:
            raise Problem(
                f"a graph of {part.InputsLength():,} inputs, {counts[0]:,} tensors and "
                f"{counts[1]:,} operators."
            )
        total = 0
        for number in range(counts[0]):
            total += self._tensor(number)
            if total > 4 * len(self.data):
                raise Problem("tensors that share their data too often.")
        for number in range(counts[1]):
            self._operator(number)
        image = part.Inputs(0)
        outputs = [self.names[part.Outputs(k)] for k in range(part.OutputsLength())]
        shape = (0, *self.shapes[image][1:])
        return Graph(self.nodes, self.constants, self.names[image], shape, outputs, False)

    def _tensor(self, number: int) -> int:
        """Notes a tensor; returns the bytes of its constant."""
        tensor = self.part.Tensors(number)
        name = f"{number} {(tensor.Name() or b'').decode('utf-8', 'replace')[:100]}"
        self.names.append(name)
        shape = tensor.ShapeAsNumpy()
        sides = tuple(int(side) for side in shape) if isinstance(shape, np.ndarray) else ()
        if len(sides) > 8:
            raise Problem(f"a tensor of {len(sides)} dimensions.")
        self.shapes.append(sides)
        content = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        if not isinstance(content, np.ndarray) or not content.size:
            return 0
        if tensor.Type() not in _TYPES:
            raise Problem(f"the tensor {name!r:.80} of type {tensor.Type()}.")
        dtype = np.dtype(_TYPES[tensor.Type()])
        count = checked_count(sides, content.size // dtype.itemsize, f"the tensor {name!r:.80}")
        array = np.frombuffer(content[: count * dtype.itemsize].tobytes(), dtype).reshape(sides)
        self.constants[name] = array.astype("f4") if dtype == "<f2" else array
        return int(content.size)

    def _operator(self, number: int) -> None:
        operator = self.part.Operators(number)
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        op = self.ops.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        # -1 is an optional input that is absent.
        places = [int(operator.Inputs(k)) for k in range(operator.InputsLength())]
        inputs = [self.names[k] if k >= 0 else "" for k in places]
        outputs = [self.names[operator.Outputs(k)] for k in range(operator.OutputsLength())]
        table = operator.BuiltinOptions()

        def options(kind: str) -> typing.Any:
            made = getattr(self.schema, kind)()
            if table is not None:
                made.Init(table.Bytes, table.Pos)
            return made

        match op:
            case "CONV_2D":
                found = options("Conv2DOptions")
                self._convolution(inputs, outputs, found, 1)
            case "DEPTHWISE_CONV_2D":
                self._depthwise(inputs, outputs, options("DepthwiseConv2DOptions"))
            case "FULLY_CONNECTED":
                found = options("FullyConnectedOptions")
                self._float(inputs[1])
                self._activated("Gemm", inputs, outputs, found, transB=1)
            case "ADD" | "SUB" | "MUL" | "DIV":
                self._activated(_PLAIN[op], inputs, outputs, options(f"{op.title()}Options"))
            case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
                found = options("Pool2DOptions")
                self._activated(
                    "AveragePool" if op == "AVERAGE_POOL_2D" else "MaxPool",
                    inputs,
                    outputs,
                    found,
                    kernel_shape=[found.FilterHeight(), found.FilterWidth()],
                    strides=[found.StrideH(), found.StrideW()],
                    auto_pad="SAME_UPPER" if found.Padding() == _SAME else "VALID",
                )
            case "MEAN":
                axes = [int(axis) for axis in self.constants[inputs[1]].ravel()]
                keep = int(options("ReducerOptions").KeepDims())
                self._add("ReduceMean", inputs[:1], outputs, axes=axes, keepdims=keep)
            case "CONCATENATION":
                found = options("ConcatenationOptions")
                self._activated("Concat", inputs, outputs, found, axis=found.Axis())
            case "RELU6":
                self._add("Clip", inputs, outputs, min=0.0, max=6.0)
            case "LEAKY_RELU":
                self._add("LeakyRelu", inputs, outputs, alpha=options("LeakyReluOptions").Alpha())
            case "PAD":
                pads = self.constants[inputs[1]].reshape(-1, 2).T.ravel()
                self._add("Pad", inputs[:1], outputs, pads=[int(each) for each in pads])
            case "L2_NORMALIZATION":
                self._add("LpNormalization", inputs, outputs, axis=-1, p=2)
            case "SQUEEZE" | "RESHAPE":
                # Only the result's shape counts; the batch is free.
                target = np.array([-1, *self.shapes[operator.Outputs(0)][1:]])
                self.constants[f"{outputs[0]} shape"] = target
                self._add("Reshape", [inputs[0], f"{outputs[0]} shape"], outputs)
            case "DEQUANTIZE" if inputs[0] in self.constants:  # float16 weights
                self._float(inputs[0])
                self.constants[outputs[0]] = self.constants[inputs[0]]
            case _ if op in _PLAIN:
                self._add(_PLAIN[op], inputs, outputs)
            case _:
                self._add(f"TFLite {op}", inputs, outputs)  # the graph converter refuses it

    def _convolution(
        self, inputs: list[str], outputs: list[str], options: typing.Any, group: int
    ) -> None:
        """A convolution; its kernel (out, height, width, in) is turned to ONNX's order."""
        self._float(inputs[1])
        kernel = self.constants[inputs[1]].transpose(0, 3, 1, 2)
        self.constants[f"{inputs[1]} turned"] = kernel
        self._activated(
            "Conv",
            [inputs[0], f"{inputs[1]} turned", *inputs[2:]],
            outputs,
            options,
            kernel_shape=list(kernel.shape[2:]),
            strides=[options.StrideH(), options.StrideW()],
            dilations=[options.DilationHFactor(), options.DilationWFactor()],
            auto_pad="SAME_UPPER" if options.Padding() == _SAME else "VALID",
            group=group,
        )

    def _depthwise(self, inputs: list[str], outputs: list[str], options: typing.Any) -> None:
        """A depthwise convolution; its kernel is (1, height, width, channels * multiplier)."""
        multiplier = options.DepthMultiplier()
        channels = self.constants[inputs[1]].shape[3]
        if multiplier < 1 or channels % multiplier:
            raise Problem(f"a depthwise convolution of {channels} channels by {multiplier}.")
        turned = f"{inputs[1]} depthwise"
        self.constants[turned] = self.constants[inputs[1]].transpose(3, 1, 2, 0)
        self._convolution(
            [inputs[0], turned, *inputs[2:]], outputs, options, channels // multiplier
        )

    def _float(self, name: str) -> None:
        """Refuses weights that are integers, or that are not in the file."""
        if name not in self.constants or self.constants[name].dtype != "f4":
            raise Problem(
                f"the weights {name!r:.80} as integers or computed. Only float32 and float16 "
                "weights are converted; run the file in its own runtime."
            )

    def _activated(
        self,
        op: str,
        inputs: list[str],
        outputs: list[str],
        options: typing.Any,
        **attributes: typing.Any,
    ) -> None:
        """The operator, and its activation as a node of its own."""
        kind = options.FusedActivationFunction()
        if kind not in _ACTIVATIONS:
            raise Problem(f"an operator {op} with the activation {kind}.")
        activation = _ACTIVATIONS[kind]
        if activation is None:
            self._add(op, inputs, outputs, **attributes)
            return
        between = f"{outputs[0]} before its activation"
        self._add(op, inputs, [between], **attributes)
        limits = {"min": 0.0, "max": 6.0} if activation == "Clip" else {}
        self._add(activation, [between], outputs, **limits)

    def _add(
        self, op: str, inputs: list[str], outputs: list[str], **attributes: typing.Any
    ) -> None:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(op, name, inputs, outputs, attributes))
