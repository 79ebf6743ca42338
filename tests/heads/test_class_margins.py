"""A margin for each class: in every head that takes one, with sampled prototypes, by class size."""

import keras
import numpy as np
import pytest
import references
from cases import CASES, CLASSES, DIM, EACH_CLASS, batch, make

from keras_facemargin import CosFace, MarginClassifier, heads

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
# CosFace, ArcFace and CombinedMargin have a case of the contract (cases.py).
TAKE = (
    "SubCenterArcFace",
    "UniFace",
    "AdaFace",
    "ElasticFace",
    "ElasticFace am plus",
    "SVSoftmax am",
    "MVSoftmax arc",
)
REFUSE = (
    "CurricularFace",
    "MagFace",
    "CircleLoss",
    "SphereFace",
    "SphereFaceR",
    "SphereFace2",
    "LargeMarginSoftmax",
    "SVSoftmax",  # plain
)


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def prepared(case, margin):
    name, arguments = CASES[case]
    seed = {"seed": 1} if name == "ElasticFace" else {}
    head = getattr(heads, name)(CLASSES, **{**arguments, **seed, "margin": margin})
    head.build((None, DIM))
    embeddings, labels, prototypes = batch(shape=head.prototypes_shape)
    head.prototypes.assign(prototypes)
    return head, embeddings, labels, prototypes


@pytest.mark.parametrize("case", TAKE)
def test_each_class_has_its_margin(case):
    head, embeddings, labels, prototypes = prepared(case, EACH_CLASS)
    x = embeddings.astype("float32")
    logits, losses = references.of(head)(embeddings, labels, prototypes)
    np.testing.assert_allclose(as_numpy(head(x, labels)), logits, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(
        as_numpy(head.compute_losses(x, labels)[0]), losses, rtol=2e-4, atol=2e-4
    )
    assert len(np.unique(labels)) > 3
    again = type(head).from_config(head.get_config())
    np.testing.assert_array_equal(again.margin, EACH_CLASS)
    assert head.get_config()["margin"] == EACH_CLASS


@pytest.mark.parametrize("case", [*TAKE, "CosFace", "ArcFace"])
def test_equal_margins_are_one_margin(case):
    losses = []
    for margin in (0.25, [0.25] * CLASSES):
        head, x, labels, _ = prepared(case, margin)
        losses.append(as_numpy(head.compute_losses(x.astype("float32"), labels, training=True)[0]))
    np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", REFUSE)
def test_a_head_with_another_margin_takes_one_number(case):
    with pytest.raises(ValueError, match=r"`margin`.*Received: margin=") as error:
        prepared(case, EACH_CLASS)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("margin", "rule"),
    [
        ([0.1] * 3, "one for each of the 7 classes. Received: margin="),
        (np.full((7, 1), 0.1), r"Received: margin=an array of shape \(7, 1\)"),
        (["a"] * 7, "one for each of the 7 classes"),
        ([[0.1], [0.2, 0.3]], "one for each of the 7 classes"),
        ([0.1] * 6 + [-0.1], "at least 0. Received: margin=-0.1"),
        ([0.1] * 6 + [float("nan")], "Received: margin=nan"),
    ],
    ids=["few", "matrix", "text", "ragged", "negative", "NaN"],
)
def test_bad_margins_are_refused_with_the_rule(margin, rule):
    with pytest.raises(ValueError, match=rule):
        CosFace(CLASSES, margin)


def test_with_sampled_prototypes_each_class_keeps_its_margin():
    """All rows are drawn: labels are indices of the sample, margins those of the classes."""
    ends = []
    for rate in (1.0, 0.999):
        keras.utils.set_random_seed(0)
        images = keras.Input((1, 1, DIM))
        embedder = keras.Model(images, keras.layers.Flatten()(images))
        head = CosFace(40, np.linspace(0.0, 0.6, 40), sample_rate=rate)
        classifier = MarginClassifier(embedder, head)
        rng = np.random.default_rng(2)
        head.prototypes.assign(rng.normal(size=head.prototypes_shape))
        classifier.compile(keras.optimizers.SGD(0.1))
        x, y = rng.normal(size=(10, 1, 1, DIM)).astype("float32"), rng.integers(0, 40, 10)
        history = classifier.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history
        ends.append((history["loss"], as_numpy(head.prototypes)))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-4, atol=1e-6)


def test_sampled_prototypes_have_the_margins_of_their_classes():
    head = CosFace(40, np.linspace(0.0, 0.6, 40), sample_rate=0.25)
    head.build((None, DIM))
    rng = np.random.default_rng(2)
    rows, y = np.arange(25, 35), np.array([34, 26, 30])
    prototypes, x = rng.normal(size=(10, DIM)), rng.normal(size=(3, DIM)).astype("float32")
    head.sample_rows.assign(rows)
    head.sample.assign(prototypes)
    small = CosFace(10, head.margin[rows])
    small.build((None, DIM))
    small.prototypes.assign(prototypes)
    expected = as_numpy(small.compute_losses(x, y - 25)[0])
    np.testing.assert_allclose(
        as_numpy(head.compute_losses(x, y, training=True)[0]), expected, rtol=1e-5
    )


def test_the_turning_angle_is_that_of_the_largest_margin():
    assert make("ArcFace each class").turning_angle == pytest.approx(np.pi - 0.5)


def test_margins_of_class_sizes_follow_the_paper():
    margins = heads.margins_by_class_size([10_000, 625, 16, 1])
    np.testing.assert_allclose(margins, [0.05, 0.1, 0.25, 0.5])
    with_cosface = CosFace(4, margins, scale=30.0)
    np.testing.assert_array_equal(with_cosface.margin, margins)
    counts = np.bincount([0, 0, 1, 3], minlength=4)
    for bad in (counts, [1.5, 2.0], [], [[1, 2]], "12", None, [-1, 2]):
        with pytest.raises(ValueError, match=r"`counts` must be .*Received: counts="):
            heads.margins_by_class_size(bad)
    for bad in (0, -0.5, "0.5", None, [0.5]):
        with pytest.raises(ValueError, match=r"`largest`.*Received"):
            heads.margins_by_class_size([1, 2], bad)
