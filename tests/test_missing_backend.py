"""Without an installed backend of Keras the package and its command answer in one sentence."""

import pytest
from one_sentence import assert_one_sentence
from processes import finish, start

# Backends are hidden as if they were not installed; then `import`, or the console script's lines.
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "jax", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
COMMAND = (
    HIDE
    + """
sys.argv[0] = "/somewhere/bin/facemargin"
from keras_facemargin.cli import main
main()
"""
)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch", "nonsense"])
def test_the_command_ends_in_one_sentence(backend):
    (result,) = finish(start("-c", COMMAND, "embed", "faces", KERAS_BACKEND=backend))
    assert_one_sentence(
        result, f"KERAS_BACKEND='{backend}'", "pip install 'keras_facemargin[tensorflow]'", "[jax]"
    )


def test_the_zoo_needs_no_backend():
    ((code, out, _),) = finish(start("-c", COMMAND, "zoo"))
    assert code == 0
    assert "spherenet_distilled" in out


def test_the_import_ends_in_one_sentence():
    ((code, _, error),) = finish(start("-c", HIDE + "import keras_facemargin", KERAS_BACKEND="jax"))
    assert code == 1
    last = error.rstrip().splitlines()[-1]
    assert last.startswith("ImportError: Keras needs an installed backend")
    assert "No module named 'jax'" in last and "keras_facemargin[tensorflow]" in last


@pytest.mark.slow
def test_a_tensorflow_only_command_names_the_backend():
    command = ("-m", "keras_facemargin", "export", "-o", "never.onnx")
    (result,) = finish(start(*command, KERAS_BACKEND="jax"))
    assert_one_sentence(result, "Received: the jax backend", "keras_facemargin[tensorflow]")
