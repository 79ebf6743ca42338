"""Sampled prototypes: the rows of a step, and the other rows."""

import keras
import numpy as np
import pytest
from strategies import replicas

from keras_facemargin import AdaCos, CosFace, L2Softmax, MarginClassifier, SubCenterArcFace

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
CLASSES, DIM, BATCH = 40, 6, 5


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def classifier_of(head, optimizer=None):
    keras.utils.set_random_seed(0)
    images = keras.Input((1, 1, DIM))
    classifier = MarginClassifier(keras.Model(images, keras.layers.Flatten()(images)), head)
    rng = np.random.default_rng(2)
    head.prototypes.assign(rng.normal(size=head.prototypes_shape))
    classifier.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01))
    return classifier


def faces(count=3 * BATCH):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, 1, 1, DIM)).astype("float32"), rng.integers(0, CLASSES, count)


def fit(classifier, x, y, **arguments):
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **arguments}
    return classifier.fit(x, y, **arguments).history["loss"]


ADAM, SGD = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("optimizer", "head"),
    [
        (ADAM, CosFace),
        (ADAM, SubCenterArcFace),
        (SGD, CosFace),
        (SGD, AdaCos),
        # Each of the two above with the optimizer of the other, and another weight.
        pytest.param(ADAM, AdaCos, marks=pytest.mark.slow),
        pytest.param(SGD, SubCenterArcFace, marks=pytest.mark.slow),
        pytest.param(ADAM, L2Softmax, marks=pytest.mark.slow),
        pytest.param(SGD, L2Softmax, marks=pytest.mark.slow),
    ],
)
def test_a_sample_of_all_prototypes_gives_the_full_loss(head, optimizer):
    """ceil(rate C) = C rows: all are exchanged, and the results are the same."""
    x, y = faces()
    y[3] = -1
    ends = []
    for rate in (1.0, 0.999):
        copy = type(optimizer).from_config(optimizer.get_config())
        classifier = classifier_of(head(CLASSES, sample_rate=rate), copy)
        ends.append((fit(classifier, x, y, epochs=3), as_numpy(classifier.head.prototypes)))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-4, atol=1e-6)


def test_rows_not_drawn_keep_their_values_and_their_momentum():
    head = CosFace(CLASSES, sample_rate=0.25)
    classifier = classifier_of(head)
    x, y = faces(BATCH)
    before = as_numpy(head.prototypes)
    fit(classifier, x, y)
    rows = as_numpy(head.sample_rows)
    assert len(rows) == 10 and set(y) <= set(rows.tolist()) and (np.diff(rows) > 0).all()
    others = np.setdiff1d(np.arange(CLASSES), rows)
    after = as_numpy(head.prototypes)
    np.testing.assert_array_equal(after[others], before[others])
    assert (after[rows] != before[rows]).any(axis=1).all()
    (momentum,) = [w for w in classifier.sample_exchange.weights if "momentum" in w.path]
    momentum = as_numpy(momentum)
    assert (momentum[others] == 0).all() and (momentum[rows] != 0).any(axis=1).all()
    fit(classifier, x, y)
    assert set(as_numpy(head.sample_rows)) != set(rows), "each step draws other rows"
    drawn = np.union1d(rows, as_numpy(head.sample_rows))
    others = np.setdiff1d(np.arange(CLASSES), drawn)
    np.testing.assert_array_equal(as_numpy(head.prototypes)[others], before[others])


def test_a_step_equals_that_of_a_small_head_with_the_drawn_rows():
    head = CosFace(CLASSES, sample_rate=0.25)
    classifier = classifier_of(head, keras.optimizers.SGD(0.1))
    x, y = faces(BATCH)
    before = as_numpy(head.prototypes)
    (loss,) = fit(classifier, x, y)
    rows = as_numpy(head.sample_rows)
    small = CosFace(len(rows))
    plain = classifier_of(small, keras.optimizers.SGD(0.1))
    small.prototypes.assign(before[rows])
    (expected,) = fit(plain, x, np.searchsorted(rows, y))
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        as_numpy(head.prototypes)[rows], as_numpy(small.prototypes), rtol=1e-5, atol=1e-6
    )


def test_it_learns_and_evaluates_over_all_classes(tmp_path):
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(CLASSES), 4)
    x = (rng.normal(size=(CLASSES, DIM))[y] + 0.05 * rng.normal(size=(len(y), DIM)))[:, None, None]
    x = x.astype("float32")
    classifier = classifier_of(CosFace(CLASSES, 0.1, scale=16.0, sample_rate=0.5))
    before = classifier.evaluate(x, y, verbose=0, return_dict=True)
    fit(classifier, x, y, epochs=12, batch_size=16, shuffle=True)
    after = classifier.evaluate(x, y, verbose=0, return_dict=True)
    assert after["accuracy"] > 0.9 > 0.5 > before["accuracy"]
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    losses = [fit(each, x, y, epochs=2, batch_size=16) for each in (classifier, loaded)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_label_without_a_drawn_row_is_refused():
    head = CosFace(CLASSES, sample_rate=0.1)
    head.build((None, DIM))
    x, y = np.ones((2, DIM), "float32"), np.array([1, 39])
    with pytest.raises(ValueError, match=r"4 prototypes.*sample_exchange\.gather_rows"):
        head.compute_losses(x, y, training=True)
    if keras.backend.backend() == "jax":
        import jax

        losses, _ = jax.jit(lambda x, y: head.compute_losses(x, y, training=True))(x, y)
        assert np.isnan(as_numpy(losses)).tolist() == [False, True]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="its compiled steps cannot raise")
def test_more_people_in_a_batch_than_prototypes_in_a_step_are_refused():
    classifier = classifier_of(CosFace(CLASSES, sample_rate=0.1))
    x, _ = faces(CLASSES)
    with pytest.raises(Exception, match="raise `sample_rate`, or lower the batch size"):
        fit(classifier, x, np.arange(CLASSES), batch_size=20)


@pytest.mark.parametrize("rate", [0, 1.5, -0.1])
def test_a_rate_must_be_a_share(rate):
    with pytest.raises(ValueError, match=r"sample_rate.*\(0, 1\]"):
        CosFace(CLASSES, sample_rate=rate)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_two_replicas_draw_the_same_rows_and_train_as_one_device():
    x, y = faces(12)
    ends = []
    for count in (1, 2):
        with replicas(count).scope():
            head = CosFace(CLASSES, sample_rate=0.5)
            classifier = classifier_of(head)
        losses = fit(classifier, x, y, batch_size=6, epochs=2)
        ends.append((losses, as_numpy(head.prototypes), as_numpy(head.sample_rows)))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ends[1][2], ends[0][2])
