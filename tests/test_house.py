"""The law of the house: rooms import downwards only, heavy packages open late."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_facemargin"

# From the ground up: a room may import from rooms before it, and from itself.
ORDER = (
    "files",
    "margins",
    "heads",
    "pairwise",
    "backbones",
    "embedder",
    "pooling",
    "batches",
    "fitting",
    "classifier",
    "data",
    "evaluate",
    "callbacks",
    "export",
    "zoo",
    "report",
    "finetune",
    "recipe",
    "demo",
    "cli",
    "__main__",
)
HEAVY = (
    "tensorflow",
    "jax",
    "torch",
    "matplotlib",
    "mtcnn",
    "onnxruntime",
    "ai_edge_litert",
    "tf2onnx",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ([f"{node.module}.{alias.name}" for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_downwards_only(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in ORDER, f"{here} is not in the plan of the house: give it its place in ORDER"
    for name in imports(ast.parse(path.read_text())):
        if name.startswith("keras_facemargin."):
            there = name.split(".")[1]
            assert ORDER.index(there) <= ORDER.index(here), f"{here} may not import {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    top_level = ast.Module(
        [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)],
        type_ignores=[],
    )
    found = {name.split(".")[0] for name in imports(top_level)} & set(HEAVY)
    if path.parent.name == "in_place":  # a file a backend, opened when Keras runs on it
        found -= {path.stem}
    assert not found, f"import {sorted(found)} inside the function that needs it"


def test_margin_head_is_the_only_head_with_children():
    from keras_facemargin import heads

    classes = [c for c in vars(heads).values() if isinstance(c, type)]
    for head in classes:
        if head is not heads.MarginHead:
            assert head.__bases__ == (heads.MarginHead,)
