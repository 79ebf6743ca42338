"""Which public names of Keras' classes this package overrides, all of them on purpose.

A method or an attribute of one's own that has the name of one of Keras' replaces it without a word:
a hook `losses` once hid `Layer.losses`, and with it the regularisers of every head.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import textwrap

import keras
import numpy as np
import pytest

import keras_facemargin
from keras_facemargin import CosFace

pytestmark = pytest.mark.any_backend

# What every Keras user's own layer, loss or callback overrides.
LAYER = {"build", "built", "call", "compute_output_shape", "from_config", "get_config"}
ON_PURPOSE = {
    keras.Model: {
        *("build", "built", "call", "from_config", "get_config"),
        # The head is the loss, and `fit` resumes: classifier.py, fitting.py.
        *("compile", "compile_from_config", "compute_loss", "compute_metrics", "fit", "train_step"),
        # Labels are checked before Keras converts them: classifier.py.
        *("evaluate", "train_on_batch", "test_on_batch"),
    },
    keras.metrics.Metric: {"update_state"},  # fitting.py: the loss of a step comes another way
    keras.layers.Layer: {
        *LAYER,
        "compute_output_spec",  # augmentation/layers.py: an augmentation's output is like its input
        # heads/margin_head/prototypes.py: rows of padding are not saved
        *("load_own_variables", "save_own_variables"),
    },
    keras.losses.Loss: {"call", "from_config", "get_config"},
    keras.callbacks.Callback: {
        *("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end"),
        *("on_train_batch_begin", "on_train_batch_end"),
    },
    keras.utils.PyDataset: {"on_epoch_begin", "on_epoch_end"},
    keras.distribution.ModelParallel: set(),
    # training/finetune/layers.py: rates by depth
    keras.optimizers.Optimizer: {"build", "update_step"},
}


def own_classes():
    """Every class of the package that derives from one of Keras', public or not."""
    found = []
    for module in pkgutil.walk_packages(keras_facemargin.__path__, "keras_facemargin."):
        if module.name.endswith("__main__") or ".backend.arrays." in module.name:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name and bases(value):
                found.append(value)
    return found


def bases(own):
    return [base for base in own.__mro__ if base.__module__.split(".")[0] == "keras"]


def parts(own):
    """The class and those of its bases that are this package's."""
    return [base for base in own.__mro__ if base.__module__.startswith("keras_facemargin")]


def base_of(own):
    return next(base for base in ON_PURPOSE if issubclass(own, base))


def theirs(own):
    """Public names of Keras' bases, and those that their instances have from the start."""
    names = {name for cls in bases(own) for name in dir(cls)} | of_an_instance(base_of(own))
    return {name for name in names if not name.startswith("_")}


@functools.cache
def of_an_instance(base):
    made = base in (keras.Model, keras.layers.Layer, keras.callbacks.Callback)
    return set(dir(base())) if made else set()


def ours(own):
    """Names that our parts of the class define, and attributes that they assign on `self`."""
    names = set()
    for part in parts(own):
        names |= set(vars(part))
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(part)))):
            match node:
                case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                    names.add(node.attr)
    return names


@pytest.mark.parametrize("own", own_classes(), ids=lambda own: own.__qualname__)
def test_a_name_of_keras_is_overridden_on_purpose_only(own):
    unexpected = (ours(own) & theirs(own)) - ON_PURPOSE[base_of(own)]
    assert not unexpected, f"{sorted(unexpected)} would hide what Keras has under that name"


def test_every_purpose_has_a_class():
    classes = own_classes()
    for base, names in ON_PURPOSE.items():
        used = {n for own in classes if base_of(own) is base for n in ours(own) & theirs(own)}
        assert names <= used, f"no class overrides {sorted(names - used)} of {base.__name__}"


class Hiding(keras.layers.Layer):
    def losses(self):
        self.trainable = False


def test_a_hidden_name_is_found(monkeypatch):
    monkeypatch.setitem(globals(), "parts", lambda own: [own])
    assert ours(Hiding) & theirs(Hiding) == {"losses", "trainable"}


def test_the_losses_of_a_head_are_kerass():
    head = CosFace(12)
    x = keras.ops.ones((2, 3))
    head.build((None, 3))
    head.prototypes.regularizer = keras.regularizers.L2(0.5)
    values = [variable.value for variable in head.trainable_variables]
    fixed = [variable.value for variable in head.non_trainable_variables]
    _, _, losses = head.stateless_call(values, fixed, x, return_losses=True)
    expected = 0.5 * np.square(keras.ops.convert_to_numpy(head.prototypes)).sum()
    for found in (losses, head.losses):
        (loss,) = found
        assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(expected, rel=1e-5)
