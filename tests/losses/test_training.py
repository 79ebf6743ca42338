"""The pairwise losses where they are used: in `compile`, `fit`, files, graphs and on replicas."""

import keras
import numpy as np
import pytest
from gradients import value_and_gradient
from keras import ops
from strategies import replicas

from keras_facemargin import losses

PEOPLE, DIM, FEATURES = 6, 4, 8
any_backend = pytest.mark.any_backend

LOSSES = {
    "semi-hard": lambda: losses.TripletSemiHardLoss(margin=0.5),
    "hard": lambda: losses.TripletHardLoss(soft=True),
    "contrastive": lambda: losses.ContrastiveLoss(from_embeddings=True),
    "lifted": lambda: losses.LiftedStructLoss(),
    "npairs": lambda: losses.NpairsLoss(from_embeddings=True),
}
each_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


def people(count=24, seed=0):
    """Features of people who differ in two of eight numbers; the rest is loud noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % PEOPLE
    features = 3 * rng.normal(size=(count, FEATURES))
    angles = 2 * np.pi * labels / PEOPLE
    features[:, :2] = np.stack([np.cos(angles), np.sin(angles)], 1)
    return features.astype("float32"), labels


def embedder(**compiled):
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(DIM)])
    # TensorFlow with XLA has a test of its own below.
    model.compile(**{"jit_compile": keras.backend.backend() == "jax", **compiled})
    return model


@any_backend
@each_loss
def test_fit_under_a_mixed_policy_lowers_the_loss(make):
    features, labels = people()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = embedder(optimizer=keras.optimizers.Adam(0.05), loss=make())
    finally:
        keras.config.set_dtype_policy("float32")
    # Ten times the set is an epoch, because an epoch takes longer than its steps. A last batch of 9
    # and 6: shares may differ, and a person may have one image.
    steps = np.tile(features, (10, 1)), np.tile(labels, 10)
    losses = model.fit(*steps, batch_size=9, epochs=5, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]


@any_backend
def test_semi_hard_training_separates_people():
    features, labels = people()
    model = embedder(optimizer=keras.optimizers.Adam(0.05), loss=LOSSES["semi-hard"]())

    def nearest_is_same():
        embeddings = model.predict(features, verbose=0)
        distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        return (labels[distances.argmin(1)] == labels).mean()

    before = nearest_is_same()
    # A hundred steps on the whole set, in one epoch: an epoch takes longer than its step.
    steps = np.tile(features, (100, 1)), np.tile(labels, 100)
    model.fit(*steps, batch_size=24, shuffle=False, verbose=0)
    assert before < 0.5 and nearest_is_same() > 0.9


@any_backend
@each_loss
def test_labels_come_through_fit_as_integers(make):
    features, labels = people()
    model = embedder(optimizer="sgd", loss=make())

    def loss(labels):
        return model.evaluate(features, labels, batch_size=24, verbose=0)

    expected = pytest.approx(loss(labels))
    for dtype in ("int32", "int64"):
        large = (2**24 + labels).astype(dtype)  # pairs of them are one float32
        confused = large.astype("float32").astype(dtype)
        assert len(set(confused.tolist())) < PEOPLE
        assert loss(large) == expected
        assert loss(confused) != expected


@any_backend
def test_float_labels_stop_training_with_the_rule():
    features, labels = people()
    model = embedder(optimizer="sgd", loss=LOSSES["hard"]())
    with pytest.raises(ValueError, match="must be integers"):
        model.fit(features, labels.astype("float32"), verbose=0)


@any_backend
@each_loss
def test_saved_in_a_keras_file_and_trained_on(make, tmp_path):
    features, labels = people()
    model = embedder(optimizer="sgd", loss=make())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    # Two steps: the first loss is that of the saved weights.
    steps = {"batch_size": 24, "epochs": 2, "shuffle": False, "verbose": 0}
    expected, losses = (
        each.fit(features, labels, **steps).history["loss"] for each in (model, loaded)
    )
    assert losses == pytest.approx(expected)
    assert losses[1] != pytest.approx(losses[0])
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@each_loss
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
def test_a_compiled_step_equals_the_eager_one(make, jit_compile):
    import tensorflow as tf

    features, labels = people()
    embeddings = features[:, :DIM]
    expected = value_and_gradient(lambda x: make()(labels, x), embeddings)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(labels, embeddings):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = make()(labels, embeddings)
        return value, tape.gradient(value, embeddings)

    batch = tf.constant(labels), tf.constant(embeddings)
    # With XLA also a batch size that is known while tracing; first, or the other trace serves it.
    results = [step(*batch)] if jit_compile else []
    specs = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, DIM), tf.float32))
    results.append(step.get_concrete_function(*specs)(*batch))
    for value, gradient in results:
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-5)


@each_loss
def test_an_empty_batch_of_unknown_size_has_no_loss(make):
    """The batch of a replica that gets no share of a last batch."""
    import tensorflow as tf

    @tf.function(
        input_signature=[tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, DIM), tf.float32)]
    )
    def step(labels, embeddings):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = make()(labels, embeddings)
        return value, tape.gradient(value, embeddings)

    value, gradient = step(tf.zeros((0,), tf.int32), tf.zeros((0, DIM)))
    assert value == 0.0 and gradient.shape == (0, DIM)


def sizes(graph):
    """Number of elements of every tensor of a graph that has a known shape, and its name."""
    for operation in graph.get_operations():
        for tensor in operation.outputs:
            if tensor.shape.is_fully_defined():
                yield tensor.shape.num_elements(), tensor.name


@each_loss
def test_no_tensor_grows_faster_than_the_square_of_the_batch(make):
    import tensorflow as tf

    size = 64

    @tf.function
    def step(labels, embeddings):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = make()(labels, embeddings)
        return tape.gradient(value, embeddings)

    traced = step.get_concrete_function(
        tf.TensorSpec((size,), tf.int32), tf.TensorSpec((size, DIM), tf.float32)
    )
    assert not traced.graph.as_graph_def().library.function  # so no tensor is hidden in a function
    largest = max(sizes(traced.graph))
    assert size**2 <= largest[0] <= 3 * size**2, largest


@each_loss
def test_two_replicas_average_the_losses_of_their_shares(make):
    features, labels = people(16)
    with replicas(2).scope():
        model = embedder(optimizer=keras.optimizers.SGD(0.1), loss=make(), jit_compile=False)
    initial = model.get_weights()
    loss = model.fit(features, labels, batch_size=16, shuffle=False, verbose=0).history["loss"][0]

    def mean_of_halves(weights):
        halves = [
            make()(labels[half], ops.matmul(ops.convert_to_tensor(features[half]), weights))
            for half in (slice(0, 8), slice(8, 16))
        ]
        return (halves[0] + halves[1]) / 2.0

    expected, gradient = value_and_gradient(mean_of_halves, initial[0])
    assert loss == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(
        model.get_weights()[0], initial[0] - 0.1 * gradient, rtol=1e-4, atol=1e-5
    )
    assert np.abs(gradient).max() > 0.01


def test_float_labels_stop_training_on_replicas_too():
    """There Keras' trial run passes floats to the loss for labels that are integers."""
    features, labels = people(16)
    with replicas(2).scope():
        model = embedder(optimizer="sgd", loss=LOSSES["hard"](), jit_compile=False)
    with pytest.raises(ValueError, match="must be integers"):
        model.fit(features, labels.astype("float32"), batch_size=16, verbose=0)
