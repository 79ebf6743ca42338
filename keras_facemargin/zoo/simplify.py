"""Graphs in fewer words: operations that a converter spelled out become one operator again.

Converters write PReLU, a linear layer or a normalisation to unit length as several nodes.
"""

import collections
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import Graph, Node, Tensor

# Operators that may stand between a norm and the division by it: they keep it away from zero.
_BETWEEN = ("Add", "Clip", "Expand", "Identity", "Max", "Reshape", "Unsqueeze")


def simplify(graph: Graph) -> Graph:
    """The same function, with `PRelu`, `Gemm` and `LpNormalization` in place of their parts.

    Args:
        graph: as a reader gives it. It is not changed.

    Returns:
        A `Graph` without nodes whose results are not used.
    """
    constants = dict(graph.constants)
    view = _View(graph.nodes, constants)
    nodes = []
    for node in graph.nodes:
        for rule in (_prelu, _linear, _unit_length):
            node = rule(node, view) or node
        nodes.append(node)
        view.replace(node)
    kept = _used(nodes, graph.outputs)
    return Graph(
        kept, constants, graph.input, graph.input_shape, graph.outputs, graph.channels_first
    )


class _View:
    """Which node makes a tensor, and which tensors are constant."""

    def __init__(self, nodes: list[Node], constants: dict[str, Tensor]):
        self.constants = constants
        self.makers = {name: node for node in nodes for name in node.outputs}
        self.uses = collections.Counter(name for node in nodes for name in node.inputs)

    def replace(self, node: Node) -> None:
        self.makers.update(dict.fromkeys(node.outputs, node))

    def made_by(self, name: str, op: str) -> Node | None:
        node = self.makers.get(name)
        return node if node is not None and node.op == op else None

    def factor(self, node: Node) -> tuple[Tensor, str] | None:
        """Constant and variable input of a node of two inputs."""
        if len(node.inputs) == 2:
            for constant, other in (node.inputs, node.inputs[::-1]):
                if constant in self.constants and other not in self.constants:
                    return self.constants[constant], other
        return None

    def constant(self, name: str, value: Tensor) -> str:
        self.constants[name] = value
        return name


def _prelu(node: Node, view: _View) -> Node | None:
    """relu(x) + h (x - |x|) has the slope 2 h; relu(x) + h relu(-x) has the slope -h."""
    if node.op != "Add" or len(node.inputs) != 2:
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        relu = view.made_by(first, "Relu")
        found = _negative_part(second, view) if relu is not None else None
        if relu is not None and found is not None and found[0] == relu.inputs[0]:
            slopes = view.constant(f"{node.name} slopes", found[1])
            return Node("PRelu", node.name, [found[0], slopes], node.outputs)
    return None


def _negative_part(name: str, view: _View) -> tuple[str, Tensor] | None:
    """x and the slopes, if the tensor is slopes * min(x, 0)."""
    slopes = np.float32(1.0) * np.ones((), "f4")
    while (multiply := view.made_by(name, "Mul")) is not None:
        found = view.factor(multiply)
        if found is None:
            return None
        slopes, name = slopes * found[0], found[1]
    if (subtract := view.made_by(name, "Sub")) is not None:
        x, magnitude = subtract.inputs
        absolute = view.made_by(magnitude, "Abs")
        return (x, 2 * slopes) if absolute is not None and absolute.inputs[0] == x else None
    relu = view.made_by(name, "Relu")
    negated = view.made_by(relu.inputs[0], "Neg") if relu is not None else None
    return (negated.inputs[0], -slopes) if negated is not None else None


def _linear(node: Node, view: _View) -> Node | None:
    """A product with a matrix, and the sum of it and a vector, as a linear layer."""
    if node.op == "MatMul" and node.inputs[1] in view.constants:
        weights = view.constants[node.inputs[1]]
        if weights.ndim == 2:
            name = view.constant(f"{node.name} weights", weights.T)
            return Node("Gemm", node.name, [node.inputs[0], name], node.outputs, {"transB": 1})
    if node.op == "Add" and (found := view.factor(node)) is not None:
        bias, name = found
        linear = view.made_by(name, "Gemm") or view.made_by(name, "Conv")
        if linear is not None and len(linear.inputs) == 2 and view.uses[name] == 1:
            filters = view.constants[linear.inputs[1]].shape[0]
            if bias.size == filters:
                flat = view.constant(f"{node.name} bias", bias.ravel())
                inputs = [*linear.inputs, flat]
                return Node(linear.op, linear.name, inputs, node.outputs, linear.attributes)
    return None


def _unit_length(node: Node, view: _View) -> Node | None:
    """x / max(|x|, epsilon) as a normalisation."""
    if node.op != "Div":
        return None
    x, name = node.inputs
    while (maker := view.makers.get(name)) is not None and maker.op in _BETWEEN:
        name = next((each for each in maker.inputs if each not in view.constants), "")
    norm = view.made_by(name, "ReduceL2")
    if norm is None or norm.inputs[0] != x:
        return None
    return Node("LpNormalization", node.name, [x], node.outputs, {"axis": -1, "p": 2})


def _used(nodes: list[Node], outputs: typing.Iterable[str]) -> list[Node]:
    """The nodes that the outputs depend on."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]
