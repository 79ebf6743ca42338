"""Published worked examples and exact identities of the losses, number by number."""

import math
import warnings

import keras
import numpy as np
import pytest

from keras_facemargin import heads

pytestmark = pytest.mark.any_backend


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def losses_of(head, cosines, label=0):
    """Losses of a head whose similarities are the given numbers, in or out of [-1, 1]."""
    cosines = np.asarray(cosines, "float32")
    labels = np.broadcast_to(label, len(cosines))
    target = keras.ops.convert_to_tensor(np.take_along_axis(cosines, labels[:, None], 1))
    moved = head.target(target, None, False)
    others = head.others(keras.ops.convert_to_tensor(cosines), target, moved)
    logits = as_numpy(head.logits(others, None)).astype("float64")
    np.put_along_axis(logits, labels[:, None], head.scale * as_numpy(moved), 1)
    largest = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
    return log_sum - np.take_along_axis(logits, labels[:, None], 1)[:, 0]


@pytest.mark.parametrize(
    ("variant", "hardness", "expected"),
    [
        ("plain", 1.0, 3.5917118),
        ("plain", 1.2, 4.366085),
        ("am", 1.0, 3.8678675),
        ("am", 1.2, 4.6436086),
    ],
)
def test_sv_softmax_on_its_published_example(variant, hardness, expected):
    values = [[2, 3, 1, -1], [-1, 2.1, 2, 6], [-2, 3, 4, -2.1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the example has s = 1
        head = heads.SVSoftmax(4, variant=variant, hardness=hardness, scale=1.0)
    assert losses_of(head, values, [1, 2, 0]).mean() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("variant", "hardness", "expected"),
    [
        ("plain", 1.0, [0.20151417, 9.00012372]),
        ("plain", 1.2, [0.20151417, 18.60000001]),
        ("am", 1.0, [9.00067627, 19.50000032]),
        ("am", 1.2, [17.70012342, 29.10000002]),
    ],
)
def test_sv_softmax_on_cosines(variant, hardness, expected):
    head = heads.SVSoftmax(4, variant=variant, hardness=hardness, scale=30.0)
    cosines = [[0.5, 0.45, 0.2, -0.3], [0.3, 0.6, 0.1, 0.0]]
    assert losses_of(head, cosines) == pytest.approx(expected, abs=1e-5)


def test_annealing_of_the_released_sphereface():
    head = heads.SphereFace(10)
    head.build((None, 4))
    for step, expected in {
        1: 892.8571,
        2: 806.4516,
        10: 454.5455,
        100: 76.9231,
        1000: 8.2645,
        1658: 5.0010,
        1659: 5.0,
        9999: 5.0,
    }.items():
        head.step.assign(step)
        assert float(as_numpy(head.annealing())) == pytest.approx(expected, abs=1e-4)


def test_sphereface_counts_training_batches_only_and_before_use():
    head = heads.SphereFace(4)
    x, y = np.eye(4, dtype="float32"), np.arange(4)
    head(x, y, training=False)
    assert int(as_numpy(head.step)) == 0
    head(x, y, training=True)
    assert int(as_numpy(head.step)) == 1
    assert float(as_numpy(head.annealing())) == pytest.approx(892.8571, abs=1e-4)


def test_annealed_target_at_sixty_degrees():
    """(lambda cos 60 + psi_4(60)) / (1 + lambda) = (5 / 2 - 3 / 2) / 6 at unit norm."""
    head = heads.SphereFace(3, base=5.0, gamma=0.0)
    head.build((None, 2))
    target = head.target(keras.ops.convert_to_tensor([0.5]), None, False)
    assert as_numpy(target) == pytest.approx([1 / 6], abs=1e-6)


@pytest.mark.parametrize(("num_classes", "probability"), [(4, 0.9), (10, 0.99), (50, 0.999)])
def test_the_scale_bound_is_met_exactly_by_a_simplex(num_classes, probability):
    scale = heads.scale_lower_bound(num_classes, probability)
    simplex = np.eye(num_classes) - 1 / num_classes
    head = heads.NormFace(num_classes, scale=max(scale, 1e-3), learn_scale=True)
    head.build((None, num_classes))
    head.prototypes.assign(simplex)
    loss = as_numpy(head.judge(simplex.astype("float32"), np.arange(num_classes))[0])
    assert np.exp(-loss) == pytest.approx(probability, abs=1e-5)


def same(first, second, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 6)).astype("float32")
    y = rng.integers(0, 9, 20)
    prototypes = rng.normal(size=(9, 6)).astype("float32")
    values = []
    for head in (first, second):
        head.build((None, 6))
        head.prototypes.assign(prototypes)
        values.append(as_numpy(head(x, y)))
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-4)
    return values[0]


def test_losses_without_their_margin_are_one_another():
    same(heads.CosFace(9, margin=0.0, scale=30.0), heads.NormFace(9, scale=30.0))
    same(heads.ArcFace(9, margin=0.0, scale=30.0), heads.NormFace(9, scale=30.0))
    same(heads.SVSoftmax(9, hardness=1.0, scale=30.0), heads.NormFace(9, scale=30.0))
    same(
        heads.SVSoftmax(9, variant="am", margin=0.35, hardness=1.0, scale=30.0),
        heads.CosFace(9, margin=0.35, scale=30.0),
    )
    same(
        heads.SVSoftmax(9, variant="arc", margin=0.5, hardness=1.0, scale=30.0),
        heads.ArcFace(9, margin=0.5, scale=30.0),
    )
    bare = heads.SphereFace(9, margin=1, base=0.0, minimum=0.0)
    same(bare, heads.SphereFace(9, margin=1))  # modified softmax anneals to itself


def test_l2_softmax_forgets_the_norm_and_sphereface_keeps_it():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    crystal, sphere = heads.CrystalLoss(5), heads.SphereFace(5)
    np.testing.assert_allclose(as_numpy(crystal(x)), as_numpy(crystal(7 * x)), rtol=1e-5)
    np.testing.assert_allclose(7 * as_numpy(sphere(x)), as_numpy(sphere(7 * x)), rtol=1e-5)


def test_a_learned_scale_and_a_trained_alpha_are_weights():
    for head in (
        heads.NormFace(5, scale=10.0, learn_scale=True),
        heads.L2Softmax(5, trainable_alpha=True),
    ):
        fixed = type(head)(5)
        head.build((None, 3))
        fixed.build((None, 3))
        assert len(head.trainable_weights) == len(fixed.trainable_weights) + 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: heads.CosFace(10_000, scale=5.0), "scale"),
        (lambda: heads.ArcFace(10_000, scale=5.0), "scale"),
        (lambda: heads.NormFace(10_000, scale=5.0), "scale"),
        (lambda: heads.SVSoftmax(10_000, scale=5.0), "scale"),
        (lambda: heads.L2Softmax(10_000, alpha=5.0), "alpha"),
        (lambda: heads.SphereFace(10_000, margin=2), "margin"),
        (lambda: heads.CosFace(8, margin=0.35).build((None, 2)), "margin"),
    ],
)
def test_a_value_outside_its_proven_bound_warns(make, words):
    with pytest.warns(UserWarning, match=words) as record:
        make()
    assert "Received" in str(record[0].message)


def test_default_alpha_follows_the_bound():
    assert heads.L2Softmax(100).alpha == 16
    many = 10_000_000
    assert heads.L2Softmax(many).alpha == math.ceil(heads.alpha_lower_bound(many)) == 19
