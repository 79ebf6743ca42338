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


def modules_of(*codes, arguments=()):
    """Names of the modules that are imported after each of the codes, in a process of its own."""
    report = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))\n"
    program = "".join(code + report for code in codes)
    ((status, out, error),) = finish(start("-c", program, *arguments))
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


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "classifier.keras"
    head = keras_facemargin.CosFace(3)
    classifier = keras_facemargin.MarginClassifier(tiny_embedder(), head)
    classifier.build((None, 112, 112, 3))
    classifier.save(path)
    return path


LOAD = """
import keras, sys
assert type(keras.saving.load_model(sys.argv[1])).__name__ == "MarginClassifier"
"""


@any_backend
def test_the_import_registers_every_class_and_opens_no_other_room(classifier):
    """A saved classifier then loads, as it does here, where Keras was imported first."""
    opened, _, more = modules_of(
        "import keras_facemargin", LOAD, "keras_facemargin.evaluate.embed", arguments=[classifier]
    )
    assert type(keras.saving.load_model(classifier)) is keras_facemargin.MarginClassifier
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


def test_a_program_that_looks_like_the_command_works_too(classifier):
    program = """
import sys
sys.argv[0] = "/somewhere/facemargin"
import keras_facemargin
assert "keras" not in sys.modules
assert keras_facemargin.CosFace.__name__ == "CosFace"
"""
    ((code, _, error),) = finish(start("-c", program + LOAD, classifier))
    assert code == 0, error


@pytest.mark.parametrize(("name", "imported"), [("facemargin.py", True), ("facemargin", False)])
def test_a_script_facemargin_py_is_a_program(name, imported):
    """The import of Keras ends the process, before it takes seconds."""
    program = f"""
import sys

class End:
    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            sys.exit("Keras is imported")

sys.meta_path.insert(0, End())
sys.argv[0] = {name!r}
import keras_facemargin
"""
    ((code, _, error),) = finish(start("-c", program))
    assert (code, error) == ((1, "Keras is imported\n") if imported else (0, ""))
