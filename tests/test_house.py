"""The rooms of the package: which room may import from which, and heavy packages open late."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "keras_facemargin"

# Room -> the rooms that it may import from, beside itself. No room below imports from one above.
ALLOWED = {
    "files": (),
    "arrays": (),
    "pickles": (),
    "progress": (),
    "download": ("files", "progress"),
    "saving": ("files",),
    "margins": (),
    "bars": (),
    "processor": (),
    "backend": (),
    "heads": ("backend", "margins"),
    "losses": ("backend", "heads", "margins"),
    "template_pooling": ("arrays",),
    "pooling": ("heads", "margins", "template_pooling"),
    "backbones": (),
    "embedder": ("backbones",),
    "batches": ("backend", "heads"),
    "fitting": ("backend",),
    "classifier": ("backend", "batches", "fitting", "heads"),
    "images": ("files", "pickles", "progress"),
    "runtime": ("images",),
    "quality": ("arrays", "images"),
    "augmentation": ("backend", "images"),
    "registered": ("augmentation", "classifier", "heads", "losses", "pooling"),
    "data": ("augmentation", "download", "files", "images", "pickles", "progress"),
    "audit": ("arrays", "images"),
    "evaluate": (
        "arrays",
        "bars",
        "data",
        "files",
        "images",
        "progress",
        "quality",
        "template_pooling",
    ),
    "callbacks": ("backend", "evaluate", "files", "fitting", "heads", "progress"),
    "gallery": ("arrays", "evaluate", "files", "images", "quality", "template_pooling"),
    "zoo": (
        "backbones",
        "bars",
        "download",
        "evaluate",
        "files",
        "images",
        "pickles",
        "quality",
        "runtime",
        "saving",
    ),
    "report": ("bars", "evaluate", "files", "images"),
    "export": (
        "callbacks",
        "evaluate",
        "files",
        "images",
        "processor",
        "quality",
        "report",
        "runtime",
        "zoo",
    ),
    "recognizer": ("evaluate", "gallery", "images", "quality", "zoo"),
    "bench": ("data", "evaluate", "files", "images", "processor", "progress", "report", "zoo"),
    "training": (
        "arrays",
        "audit",
        "augmentation",
        "backbones",
        "callbacks",
        "classifier",
        "data",
        "embedder",
        "evaluate",
        "files",
        "fitting",
        "heads",
        "images",
        "progress",
        "saving",
        "zoo",
    ),
    "demo": ("data", "evaluate", "export", "files", "images", "report", "training", "zoo"),
    "cli": (
        "audit",
        "bench",
        "data",
        "demo",
        "evaluate",
        "export",
        "files",
        "gallery",
        "images",
        "quality",
        "recognizer",
        "registered",
        "report",
        "training",
        "zoo",
    ),
    "__main__": ("cli",),
}
HEAVY = (
    "ofiq",
    "tensorflow",
    "jax",
    "torch",
    "matplotlib",
    "mtcnn",
    "onnxruntime",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "openvino",
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


def test_rooms_import_from_the_rooms_that_the_plan_allows():
    wrong = []
    for path in FILES:
        here = room(path)
        if here == "__init__":
            continue
        for name in imports(ast.parse(path.read_text())):
            if name.startswith("keras_facemargin."):
                there = name.split(".")[1]
                if there != here and there not in ALLOWED.get(here, ()):
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {there}")
    assert not wrong


def test_the_plan_has_the_rooms_that_exist_and_no_circle():
    assert set(ALLOWED) == {room(path) for path in FILES} - {"__init__"}
    order = list(ALLOWED)
    for here, below in ALLOWED.items():
        assert all(order.index(there) < order.index(here) for there in below), here


def test_every_allowed_import_is_used():
    used = {
        (room(path), name.split(".")[1])
        for path in FILES
        for name in imports(ast.parse(path.read_text()))
        if name.startswith("keras_facemargin.")
    }
    allowed = {(here, there) for here, below in ALLOWED.items() for there in below}
    assert not allowed - used


# The backend's name is part of their errors, and of the runtime of a golden embedding.
NAME_THE_BACKEND = ("export/graph.py", "heads/margin_head/shards.py", "zoo/parity.py")


def test_only_the_room_backend_asks_which_backend_runs():
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if room(path) != "backend" and "keras.backend.backend()" in code_of(path)
    }
    assert asking == set(NAME_THE_BACKEND)


def code_of(path):
    """The code without comments."""
    return ast.unparse(ast.parse(path.read_text()))


def test_heavy_packages_are_imported_where_they_are_used():
    wrong = []
    for path in FILES:
        body = ast.parse(path.read_text()).body
        top = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {name.split(".")[0] for name in imports(ast.Module(top, []))} & set(HEAVY)
        if path.parent.name == "arrays":  # one file per backend, opened when Keras runs on it
            found -= {path.stem}
        wrong += [f"{path.relative_to(PACKAGE)} imports {package}" for package in sorted(found)]
    assert not wrong, "import a heavy package in the function that needs it"


def test_margin_head_is_the_only_head_with_children():
    from keras_facemargin import heads

    classes = [c for c in vars(heads).values() if isinstance(c, type)]
    for head in classes:
        if head is not heads.MarginHead:
            assert head.__bases__ == (heads.MarginHead,)
