"""A head warns once if it is trained without its margin or with another loss."""

import warnings

import keras
import numpy as np
import pytest
from cases import CLASSES, DIM, HEADS, batch, make

from keras_facemargin import MarginClassifier
from keras_facemargin.losses import CenterLoss

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
CROSS_ENTROPY = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
# Their loss is the cross-entropy of the same logits, with labels or without.
PLAIN = ("SoftmaxHead", "NormFace", "L2Softmax", "AdaCos fixed")
OTHER_LOSSES = ("SphereFace2", "UniFace", "MagFace", "SphereFaceR")
every_head = pytest.mark.parametrize("case", (*HEADS, "AdaCos fixed", "SphereFaceR unscaled"))


def faces():
    embeddings, labels, _ = batch()
    return embeddings.astype("float32"), labels.astype("int32")


def warnings_of(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(w.message) for w in caught if "was called in training" in str(w.message)]


@every_head
def test_logits_in_training_warn_once_where_they_are_not_the_loss(case):
    head, (x, y) = make(case), faces()
    without = warnings_of(lambda: [head(x, training=True) for _ in range(2)])
    if case in PLAIN:
        assert without == []
    else:
        (message,) = without
        assert "without labels" in message and "MarginClassifier(embedder, head)" in message
    head = make(case)
    with_labels = warnings_of(lambda: [head(x, y, training=True) for _ in range(2)])
    if case in OTHER_LOSSES:
        (message,) = with_labels
        assert "its loss is not their cross-entropy" in message and "head.compute_losses" in message
    else:
        assert with_labels == []


@every_head
def test_prediction_and_losses_are_silent(case):
    head, (x, y) = make(case), faces()

    def use():
        head(x), head(x, y), head(x, training=False), head.compute_losses(x, y, training=True)

    assert warnings_of(use) == []


@pytest.mark.parametrize("wrap", [lambda head: head, CenterLoss], ids=["head", "with centres"])
def test_a_head_at_the_end_of_a_sequential_model(wrap):
    x, y = faces()
    model = keras.Sequential([keras.layers.Dense(DIM), wrap(make("CosFace"))])
    model.compile("sgd", **CROSS_ENTROPY)
    assert warnings_of(lambda: model.predict(x, verbose=0)) == []
    (message,) = warnings_of(lambda: model.fit(x, y, epochs=2, batch_size=4, verbose=0))
    assert message.startswith("CosFace") and "have no margin" in message


def test_a_binary_head_with_a_cross_entropy():
    x, y = faces()
    embedding, label = keras.Input((DIM,)), keras.Input((), dtype="int32")
    model = keras.Model([embedding, label], make("UniFace")(embedding, label))
    model.compile("sgd", **CROSS_ENTROPY)
    (message,) = warnings_of(lambda: model.fit([x, y], y, epochs=2, batch_size=4, verbose=0))
    assert message.startswith("UniFace") and "its loss is not their cross-entropy" in message


@pytest.mark.parametrize("case", ["CosFace", "UniFace"])
def test_a_margin_classifier_is_silent(case):
    x, y = faces()
    images = keras.Input((1, 1, DIM))
    classifier = MarginClassifier(
        keras.Model(images, keras.layers.Flatten()(images)), make(case, CLASSES)
    )
    classifier.compile("sgd")

    def use():
        classifier.fit(x[:, None, None], y, verbose=0)
        classifier.evaluate(x[:, None, None], y, verbose=0)
        classifier.predict(x[:, None, None], verbose=0)

    assert warnings_of(use) == []
    assert np.isfinite(keras.ops.convert_to_numpy(classifier.head.prototypes)).all()
