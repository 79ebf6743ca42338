"""Labels of every integer type, too large for int32, too few, one-hot, names."""

import keras
import numpy as np
import pytest

from keras_facemargin import CosFace, MarginClassifier
from keras_facemargin.losses import CenterLoss

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
BACKEND = keras.backend.backend()
CLASSES, DIM = 4, 5
Y = np.array([0, 1, 2, 3, 0, 1])
X = np.random.default_rng(0).normal(size=(len(Y), DIM)).astype("float32")
# A cast to int32 makes each of these a class, or -1.
BEYOND_INT32 = {
    "int64 over": Y + 2**32,
    "int64 under": Y - 2**32,
    "uint32": np.full(len(Y), 2**32 - 1, "uint32"),
    "uint64": np.full(len(Y), 2**64 - 1, "uint64"),
    "int64 max": np.full(len(Y), 2**63 - 1),
    "list": [2**32] * len(Y),
}


def layer(kind, **arguments):
    head = CosFace(CLASSES, **arguments)
    made = CenterLoss(head) if kind == "centre" else head
    made.build((None, DIM))
    return made


DOORS = {
    "compute_losses": lambda labels: layer("head").compute_losses(X, labels),
    "call": lambda labels: layer("head")(X, labels),
    "centre compute_losses": lambda labels: layer("centre").compute_losses(X, labels),
    "centre call": lambda labels: layer("centre")(X, labels),
    "centre draw": lambda labels: layer("centre").draw(X, labels),
}
every_door = pytest.mark.parametrize("door", DOORS)


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@every_door
@pytest.mark.parametrize("name", BEYOND_INT32)
def test_a_label_is_checked_before_it_is_cast(door, name):
    labels = BEYOND_INT32[name]
    with pytest.raises(ValueError, match="must be in") as error:
        DOORS[door](labels)
    assert f"from {np.min(labels)} to {np.max(labels)}" in str(error.value)


@every_door
@pytest.mark.parametrize("number", [1, 5, 7])
def test_one_label_is_not_broadcast_to_all(door, number):
    with pytest.raises(ValueError, match=f"Received: {number} labels for 6 embeddings"):
        DOORS[door](np.zeros(number, "int32"))


@every_door
@pytest.mark.parametrize(
    ("labels", "way_out"),
    [
        (np.eye(CLASSES, dtype="float32")[Y], "ops.argmax"),
        (np.eye(CLASSES, dtype="int64")[Y], "ops.argmax"),
        (np.array(1), "ops.argmax"),
        (np.array(list("abcdef")), "np.unique"),
        (list("abcdef"), "np.unique"),
        (Y.astype("float32"), "cast whole numbers"),
        (Y.astype(bool), "cast whole numbers"),
    ],
    ids=["one-hot", "one-hot int", "scalar", "names", "list of names", "floats", "bools"],
)
def test_the_first_error_says_what_to_do(door, labels, way_out):
    with pytest.raises(ValueError, match=way_out) as error:
        DOORS[door](labels)
    assert "Received: labels of" in str(error.value)


@every_door
def test_labels_in_range_may_have_any_form(door):
    keras.utils.set_random_seed(0)
    expected = as_numpy(keras.tree.flatten(DOORS[door](Y))[0])
    for labels in (Y[:, None], Y.astype("uint8"), Y.astype("uint32"), Y.tolist()):
        keras.utils.set_random_seed(0)
        np.testing.assert_array_equal(
            as_numpy(keras.tree.flatten(DOORS[door](labels))[0]), expected
        )


@pytest.mark.parametrize("way", ["compute_losses", "call"])
def test_a_compiled_jax_step_makes_an_invalid_label_nan(way):
    if BACKEND != "jax":
        pytest.skip("steps of other backends raise")
    import jax

    head = layer("head")
    labels = np.array([0, 2**32 - 1, 2, CLASSES, 0, 2**31], "uint32")

    def losses(labels):
        if way == "compute_losses":
            return head.compute_losses(X, labels)[0]
        return keras.ops.logsumexp(head(X, labels), axis=-1)

    assert np.isnan(jax.jit(losses)(labels)).tolist() == [False, True, False, True, False, True]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph of TensorFlow")
@pytest.mark.parametrize("way", ["compute_losses", "call"])
def test_a_graph_of_tensorflow_checks_labels_in_their_own_type(way):
    import tensorflow as tf

    head = layer("head")
    step = tf.function(lambda labels: getattr(head, way)(X, labels), autograph=False)
    xla = tf.function(
        lambda labels: head.compute_losses(X, labels)[0], jit_compile=True, autograph=False
    )
    for name, labels in BEYOND_INT32.items():
        if name == "list":
            continue
        step(tf.constant(np.maximum(labels, 0) * 0))
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be in"):
            step(tf.constant(labels))
        if way == "compute_losses":  # where the check is dropped
            assert np.isnan(xla(tf.constant(labels))).all(), name


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph of TensorFlow")
def test_a_graph_of_tensorflow_counts_the_labels_of_a_batch_of_unknown_size():
    import tensorflow as tf

    head = layer("head")
    shapes = [tf.TensorSpec((None, DIM)), tf.TensorSpec((None,), tf.int32)]
    step = tf.function(head.compute_losses, input_signature=shapes)
    step(X, Y.astype("int32"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one label for each embedding"):
        step(X, [0])


@pytest.mark.skipif(BACKEND == "jax", reason="its trainer truncates the numbers before any step")
@pytest.mark.parametrize("arguments", [{}, {"sample_rate": 0.99}], ids=["all", "sampled"])
@pytest.mark.parametrize("name", ["int64 over", "uint32"])
def test_fit_does_not_train_on_a_label_truncated_to_another(arguments, name):
    images = keras.Input((1, 1, DIM))
    embedder = keras.Model(images, keras.layers.Flatten()(images))
    classifier = MarginClassifier(embedder, CosFace(CLASSES, **arguments))
    classifier.compile("sgd")
    before = as_numpy(classifier.head.prototypes)
    with pytest.raises(Exception, match="must be in"):
        classifier.fit(X[:, None, None], BEYOND_INT32[name], verbose=0)
    np.testing.assert_array_equal(as_numpy(classifier.head.prototypes), before)
