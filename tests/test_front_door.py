"""`import keras_facemargin`: its names, what it registers, and what it leaves closed."""

import ast
import json
from pathlib import Path

import keras
import pytest
from processes import finish, start
from tiny import tiny_embedder

import keras_facemargin

any_backend = pytest.mark.any_backend

PACKAGE = Path(keras_facemargin.__file__).parent


def modules_of(*codes):
    """Names of the modules that are imported after each of the codes, in a process of its own."""
    report = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))\n"
    ((status, out, error),) = finish(start("-c", "".join(code + report for code in codes)))
    assert status == 0, error
    return [set(json.loads(line)) for line in out.splitlines()[-len(codes) :]]


@any_backend
@pytest.mark.parametrize("name", keras_facemargin.__all__)
def test_every_name_is_there(name):
    assert getattr(keras_facemargin, name).__name__ in (name, "L2Softmax")  # CrystalLoss is that


@any_backend
def test_dir_has_the_names_and_the_rooms():
    assert {*keras_facemargin.__all__, "data", "evaluate", "__version__"} <= set(
        dir(keras_facemargin)
    )


@any_backend
def test_a_type_checker_sees_the_same_names():
    (block,) = [
        node
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert set(seen) == set(keras_facemargin.__all__)
    for name, module in seen.items():
        home = keras_facemargin._HOMES.get(name, "heads")
        assert module == f"keras_facemargin.{home}", name


@any_backend
def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'CosFaces'"):
        _ = keras_facemargin.CosFaces
    with pytest.raises(ImportError, match="CosFaces"):
        from keras_facemargin import CosFaces  # noqa: F401


@any_backend
def test_the_import_registers_every_class_and_opens_no_other_room():
    opened, more = modules_of("import keras_facemargin", "keras_facemargin.evaluate.embed")
    registering = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "@keras.saving.register_keras_serializable" in path.read_text()
    }
    assert len(registering) > 25
    assert registering <= opened
    rooms = {name.split(".")[1] for name in opened if name.startswith("keras_facemargin.")}
    assert not rooms & {"data", "evaluate", "export", "images", "report", "training", "zoo", "cli"}
    assert "keras_facemargin.evaluate" in more, "a room opens as an attribute"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "classifier.keras"
    head = keras_facemargin.CosFace(3)
    classifier = keras_facemargin.MarginClassifier(tiny_embedder(), head)
    classifier.build((None, 112, 112, 3))
    classifier.save(path)
    return path


LOAD = "\nimport sys\nprint(type(keras.saving.load_model(sys.argv[1])).__name__)"


@any_backend
def test_a_saved_classifier_loads_after_the_import_alone(classifier):
    orders = ["import keras, keras_facemargin", "import keras_facemargin, keras"]
    if keras.backend.backend() != "tensorflow":
        orders = orders[:1]  # a process of seconds; the order means the same on each backend
    for code, out, error in finish(*(start("-c", first + LOAD, classifier) for first in orders)):
        assert code == 0, error
        assert out == "MarginClassifier\n"


def test_a_program_that_looks_like_the_command_works_too(classifier):
    program = """
import sys
sys.argv[0] = "/somewhere/facemargin"
import keras_facemargin
assert "keras" not in sys.modules
assert keras_facemargin.CosFace.__name__ == "CosFace"
import keras
"""
    ((code, out, error),) = finish(start("-c", program + LOAD, classifier))
    assert code == 0, error
    assert out == "MarginClassifier\n"


def test_a_script_facemargin_py_is_a_program():
    program = "import sys\nsys.argv[0] = 'facemargin.py'\nimport keras_facemargin"
    assert "keras" in modules_of(program)[0]
