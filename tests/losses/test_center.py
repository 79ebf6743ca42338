"""CenterLoss: the paper's loss and update, alone, in `fit`, and on replicas."""

import zipfile

import keras
import numpy as np
import pytest
import references_losses as references
from gradients import value_and_gradient
from keras import ops
from strategies import replicas

from keras_facemargin import CosFace, MarginClassifier, SoftmaxHead
from keras_facemargin.losses import CenterLoss

CLASSES, DIM, BATCH, FEATURES = 5, 3, 8, 6
any_backend = pytest.mark.any_backend


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH, DIM)).astype("float32"), rng.integers(0, CLASSES - 1, BATCH)


def make(weight=0.5, alpha=0.5, centres=None, head=None, **kwargs):
    layer = CenterLoss(head or SoftmaxHead(CLASSES), weight=weight, alpha=alpha, **kwargs)
    layer.build((None, DIM))
    if centres is not None:
        layer.centers.assign(centres)
    return layer


def numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


@any_backend
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_centres_and_losses_follow_the_paper(alpha):
    centres = np.random.default_rng(9).normal(size=(CLASSES, DIM))
    layer = make(alpha=alpha, centres=centres)
    for seed in range(3):
        embeddings, labels = batch(seed)
        expected, moved = references.moved_centres(labels, embeddings, numpy(layer.centers), alpha)
        untouched = numpy(layer.centers)[CLASSES - 1]  # no sample has this label
        alone = numpy(layer.head.compute_losses(embeddings, labels)[0])
        losses, hits = layer.compute_losses(embeddings, labels, training=True)
        np.testing.assert_allclose(numpy(losses) - alone, 0.5 * np.array(expected), atol=1e-5)
        np.testing.assert_allclose(numpy(layer.centers), moved, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(numpy(layer.centers)[CLASSES - 1], untouched)
        np.testing.assert_array_equal(
            numpy(hits), numpy(layer.head.compute_losses(embeddings, labels)[1])
        )


@any_backend
def test_the_gradient_points_away_from_the_centre():
    centres = np.random.default_rng(9).normal(size=(CLASSES, DIM)).astype("float32")
    embeddings, labels = batch()
    for training in (False, True):
        layer = make(centres=centres)
        _, gradient = value_and_gradient(
            lambda x, layer=layer, training=training: ops.sum(layer.draw(x, labels, training)),
            embeddings,
        )
        np.testing.assert_allclose(gradient, embeddings - centres[labels], rtol=1e-5, atol=1e-6)


@any_backend
def test_only_training_moves_the_centres():
    embeddings, labels = batch()
    layer = make()
    layer.compute_losses(embeddings, labels)
    layer.compute_losses(embeddings, labels, training=False)
    layer(embeddings, labels)
    assert not numpy(layer.centers).any()
    assert [w.name for w in layer.non_trainable_weights] == ["centres", "margin_share"]
    layer(embeddings, labels, training=True)
    assert numpy(layer.centers).any()


@any_backend
def test_without_labels_the_head_predicts():
    embeddings, labels = batch()
    layer = make()
    np.testing.assert_array_equal(numpy(layer(embeddings)), numpy(layer.head(embeddings)))
    np.testing.assert_array_equal(
        numpy(layer(embeddings, labels)), numpy(layer.head(embeddings, labels))
    )
    assert layer.compute_output_shape((BATCH, DIM)) == (BATCH, CLASSES)


def faces(count=24):
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % CLASSES).astype("int32")
    features = rng.normal(size=(CLASSES, FEATURES))[labels] + 0.3 * rng.normal(
        size=(count, FEATURES)
    )
    return features.astype("float32"), labels


def embedder():
    initializer = keras.initializers.GlorotUniform(seed=1)
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(DIM, kernel_initializer=initializer)]
    )


def classifier(weight=0.5, head=SoftmaxHead, **compiled):
    layer = CenterLoss(head(CLASSES, prototypes_initializer="ones"), weight=weight)
    model = MarginClassifier(embedder(), layer)
    model.compile(keras.optimizers.SGD(0.1), **compiled)
    return model


@any_backend
def test_trains_in_a_margin_classifier_and_tightens_classes():
    features, labels = faces()

    def spread(model):
        x = model.predict(features, verbose=0)
        means = np.stack([x[labels == j].mean(0) for j in range(CLASSES)])
        return np.square(x - means[labels]).sum()

    models = [classifier(weight) for weight in (0.0, 0.5)]
    for model in models:
        history = model.fit(features, labels, batch_size=8, epochs=30, verbose=0).history
        assert history["loss"][-1] < 0.5 * history["loss"][0] and history["accuracy"][-1] > 0.7
    without, with_centres = (spread(model) for model in models)
    assert with_centres < 0.7 * without
    assert numpy(models[1].head.centers).any(axis=1).all()


@any_backend
def test_wraps_any_head():
    features, labels = faces()
    model = classifier(head=CosFace)
    losses = model.fit(features, labels, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and model.head.head.margin == 0.35


@any_backend
def test_is_saved_with_its_centres(tmp_path):
    features, labels = faces()
    model = classifier(weight=0.25)
    model.fit(features, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.head.weight, loaded.head.alpha) == (0.25, 0.5)
    np.testing.assert_array_equal(numpy(loaded.head.centers), numpy(model.head.centers))
    expected = model.evaluate(features, labels, verbose=0)
    assert loaded.evaluate(features, labels, verbose=0) == pytest.approx(expected)


@any_backend
def test_a_file_of_the_former_name_opens(tmp_path):
    """The class was `CentreLoss` of `losses.centre`; Keras finds it by its registered name."""
    path = tmp_path / "model.keras"
    model = classifier()
    model.head.centers.assign(np.ones((CLASSES, DIM)))
    model.save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = members["config.json"].decode()
    assert "losses.center" in config and '"keras_facemargin>CentreLoss"' in config
    config = config.replace("CenterLoss", "CentreLoss").replace("losses.center", "losses.centre")
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**members, "config.json": config}.items():
            file.writestr(name, content)
    loaded = keras.models.load_model(path)
    assert type(loaded.head) is CenterLoss
    assert numpy(loaded.head.centers).all()


@any_backend
def test_trains_in_a_functional_model_that_takes_the_labels_as_an_input():
    features, labels = faces()
    image, label = keras.Input((FEATURES,)), keras.Input((), dtype="int32")
    layer, network = CenterLoss(SoftmaxHead(CLASSES), weight=0.5), embedder()
    model = keras.Model([image, label], layer(network(image), label))
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=crossentropy)
    both = model.evaluate([features, labels], labels, batch_size=24, verbose=0)
    logits = model.predict([features, labels], batch_size=24, verbose=0)
    alone = float(numpy(crossentropy(labels, logits)))
    x = numpy(network(features))  # and the centres are 0 still
    assert both == pytest.approx(alone + 0.5 * 0.5 * np.square(x).sum(1).mean(), rel=1e-5)
    model.fit([features, labels], labels, batch_size=24, verbose=0)
    _, moved = references.moved_centres(labels, x, np.zeros((CLASSES, DIM)), 0.5)
    np.testing.assert_allclose(numpy(layer.centers), moved, rtol=1e-4, atol=1e-5)


@any_backend
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_computes_in_float32_under_a_mixed_policy(policy):
    embeddings, labels = batch()
    embeddings = (1e4 * embeddings).astype("float16").astype("float32")
    expected = numpy(make().compute_losses(embeddings, labels, training=True)[0])
    keras.config.set_dtype_policy(policy)
    try:
        layer = make()
        half = ops.cast(embeddings, policy.removeprefix("mixed_"))
        losses, _ = layer.compute_losses(half, labels, training=True)
        layer(half, labels, training=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    assert layer.centers.dtype == "float32" and np.isfinite(numpy(layer.centers)).all()
    np.testing.assert_allclose(numpy(losses), expected, rtol=0.05)


@any_backend
@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"head": keras.layers.Dense(3)}, "`head` must be"),
        ({"weight": -1.0}, "`weight`"),
        ({"weight": float("nan")}, "`weight`"),
        ({"weight": float("inf")}, "`weight`"),
        ({"alpha": 1.5}, "`alpha`"),
        ({"alpha": float("nan")}, "`alpha`"),
        ({"dtype": "float16"}, "float32"),
        ({"head": SoftmaxHead(CLASSES, sample_rate=0.5)}, "all of its prototypes"),
    ],
)
def test_bad_arguments_are_refused_with_the_rule(arguments, rule):
    with pytest.raises(ValueError, match=rule) as error:
        CenterLoss(**{"head": SoftmaxHead(CLASSES), **arguments})
    assert "Received" in str(error.value)


@any_backend
def test_bad_labels_are_refused_before_a_centre_moves():
    embeddings, labels = batch()
    layer = make()
    for bad in (labels + CLASSES, labels - 1.5, np.eye(CLASSES, dtype="int32")[labels]):
        with pytest.raises(ValueError, match="Received"):
            layer.compute_losses(embeddings, bad, training=True)
    assert not numpy(layer.centers).any()


@any_backend
def test_defaults_are_the_papers():
    config = CenterLoss(SoftmaxHead(CLASSES)).get_config()
    assert (config["weight"], config["alpha"]) == (0.003, 0.5)


def test_two_replicas_move_the_centres_as_one_device():
    """A batch of 8, then batches of 7, 4 and 3 for the replicas, then one of 3."""
    import tensorflow as tf

    features, labels = faces()
    # Keras cannot trace a *first* batch that does not divide.
    first = tf.data.Dataset.from_tensor_slices((features[:8], labels[:8])).batch(8)
    data = first.concatenate(tf.data.Dataset.from_tensor_slices((features, labels)).batch(7))
    runs = []
    for count in (1, 2):
        with replicas(count).scope():
            model = classifier()
        model.fit(data, epochs=2, shuffle=False, verbose=0)
        runs.append(model)
    one, two = runs
    assert numpy(one.head.centers).any(axis=1).all()
    for first, second in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=2e-4, atol=2e-5)


def test_xla_equals_the_graph():
    features, labels = faces()
    runs = [classifier(jit_compile=jit_compile) for jit_compile in (False, True)]
    for model in runs:
        model.fit(features, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for first, second in zip(*(model.weights for model in runs), strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-4, atol=1e-5)


@any_backend
def test_a_sample_labelled_minus_one_moves_no_centre():
    centres = np.random.default_rng(9).normal(size=(CLASSES, DIM))
    embeddings, labels = batch()
    ignored = labels.copy()
    ignored[[0, 3]] = -1
    known = ignored >= 0
    some, alone = make(centres=centres), make(centres=centres)
    losses = numpy(some.compute_losses(embeddings, ignored, training=True)[0])
    alone.head.set_prototypes(some.head.prototypes)
    expected = numpy(alone.compute_losses(embeddings[known], labels[known], training=True)[0])
    assert (losses[~known] == 0).all()
    np.testing.assert_allclose(losses[known], expected, rtol=1e-5)
    np.testing.assert_allclose(numpy(some.centers), numpy(alone.centers), rtol=1e-6)
