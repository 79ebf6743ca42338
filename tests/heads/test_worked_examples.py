"""Published worked examples and exact identities of the losses, number by number."""

import math
import warnings

import keras
import numpy as np
import pytest

from keras_facemargin import heads
from keras_facemargin.heads.annealing import annealed

pytestmark = pytest.mark.any_backend


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def losses_of(head, cosines, label=0):
    """Losses of a head whose similarities are the given numbers, in or out of [-1, 1]."""
    cosines = np.asarray(cosines, "float32")
    labels = np.broadcast_to(label, len(cosines))
    target = keras.ops.convert_to_tensor(np.take_along_axis(cosines, labels[:, None], 1))
    if not head.built:
        head.build((None, 2))
    moved = head.target_similarity(target, None, None, None, False)
    others = head.other_similarities(keras.ops.convert_to_tensor(cosines), target, moved)
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
        assert float(as_numpy(annealed(head))) == pytest.approx(expected, abs=1e-4)


def test_sphereface_counts_training_batches_only_and_before_use():
    head = heads.SphereFace(4)
    x, y = np.eye(4, dtype="float32"), np.arange(4)
    head(x, y, training=False)
    assert int(as_numpy(head.step)) == 0
    head(x, y, training=True)
    assert int(as_numpy(head.step)) == 1
    assert float(as_numpy(annealed(head))) == pytest.approx(892.8571, abs=1e-4)


def test_annealed_target_at_sixty_degrees():
    """(lambda cos 60 + psi_4(60)) / (1 + lambda) = (5 / 2 - 3 / 2) / 6 at unit norm."""
    head = heads.SphereFace(3, base=5.0, gamma=0.0)
    head.build((None, 2))
    target = head.target_similarity(keras.ops.convert_to_tensor([0.5]), None, None, None, False)
    assert as_numpy(target) == pytest.approx([1 / 6], abs=1e-6)


@pytest.mark.parametrize(("num_classes", "probability"), [(4, 0.9), (10, 0.99), (50, 0.999)])
def test_the_scale_bound_is_met_exactly_by_a_simplex(num_classes, probability):
    scale = heads.scale_lower_bound(num_classes, probability)
    simplex = np.eye(num_classes) - 1 / num_classes
    head = heads.NormFace(num_classes, scale=max(scale, 1e-3), learn_scale=True)
    head.build((None, num_classes))
    head.prototypes.assign(simplex)
    loss = as_numpy(head.compute_losses(simplex.astype("float32"), np.arange(num_classes))[0])
    assert np.exp(-loss) == pytest.approx(probability, abs=1e-5)


def same(first, second, seed=0, one_center=False, training=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 6)).astype("float32")
    y = rng.integers(0, 9, 20)
    prototypes = rng.normal(size=(9, 6)).astype("float32")
    values = []
    for head in (first, second):
        head.build((None, 6))
        is_first = one_center and head is first
        head.prototypes.assign(prototypes[:, None] if is_first else prototypes)
        values.append(as_numpy(head(x, y, training=training)))
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-4)
    return values[0]


def test_losses_without_their_margin_are_equal():
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


def test_reweighing_losses_without_hardness_equal_their_margins():
    for mode in ("fixed", "adaptive"):
        for variant, margin in (("am", heads.CosFace), ("arc", heads.ArcFace)):
            same(
                heads.MVSoftmax(9, variant=variant, mode=mode, hardness=0.0, scale=30.0),
                margin(9, scale=30.0),
            )
    for variant in ("am", "arc"):  # SV counts its t from 1, MV from 0
        same(
            heads.SVSoftmax(9, variant=variant, hardness=1.2, scale=30.0),
            heads.MVSoftmax(9, variant=variant, mode="adaptive", hardness=0.2, scale=30.0),
        )


def test_combined_margin_includes_its_three_parents():
    def combined(**margins):
        return heads.CombinedMargin(9, **{"m1": 1.0, "m2": 0.0, "m3": 0.0, **margins}, scale=30.0)

    same(combined(), heads.NormFace(9, scale=30.0))
    same(combined(m3=0.35), heads.CosFace(9, margin=0.35, scale=30.0))
    same(combined(m2=0.5), heads.ArcFace(9, margin=0.5, scale=30.0))
    same(
        combined(m1=1.7),
        heads.SphereFaceR(9, margin=1.7, version="v0", scale=30.0),
    )


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ((1.35, 0.0, 0.0), [0.7604, 0.1564, -0.5225]),
        ((1.0, 0.3, 0.2), [0.4796, 0.0217, -0.4955]),
        ((0.9, 0.4, 0.15), [0.4939, 0.0763, -0.3905]),
    ],
)
def test_combined_margin_at_the_papers_angles(margins, expected):
    head = heads.CombinedMargin(9, *margins)
    cosines = np.cos(np.radians([30.0, 60.0, 90.0])).astype("float32")
    got = head.target_similarity(keras.ops.convert_to_tensor(cosines), None, None, None, False)
    assert as_numpy(got) == pytest.approx(expected, abs=5e-5)


def test_losses_that_extend_arcface_and_cosface():
    same(heads.SubCenterArcFace(9, num_centers=1), heads.ArcFace(9), one_center=True)
    for plus in (False, True):
        for variant, base in (("arc", heads.ArcFace), ("am", heads.CosFace)):
            elastic = heads.ElasticFace(9, variant=variant, plus=plus, deviation=0.0)
            same(elastic, base(9), training=True)
    scale = math.sqrt(2) * math.log(8)
    same(heads.AdaCos(9, dynamic=False), heads.NormFace(9, scale=scale, learn_scale=True))


def test_curricularface_starts_at_zero_and_follows_the_mean_cosine():
    head = heads.CurricularFace(4, margin=0.5, rate=0.01)
    x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 2])
    head.build((None, 4))
    head.prototypes.assign(np.eye(4))
    head.compute_losses(x, y, training=True)  # cosines 1, 1, 1, 0
    assert float(as_numpy(head.t)) == pytest.approx(0.0075, abs=1e-7)
    head.t.assign(0.3)
    logits = as_numpy(head(x[3:], y[3:])) / 64
    # The true class at 90 degrees, class 3 at 0: hard, 1 (0.3 + 1); classes 0 and 1, both
    # cos 90 > cos(90 degrees + m), are hard too: 0 (0.3 + 0).
    assert logits[0] == pytest.approx([0, 0, -math.sin(0.5), 1.3], abs=1e-6)


def test_adaface_at_its_limits_is_arcface_and_cosface():
    head = heads.AdaFace(9, margin=0.4, concentration=1.0)
    head.build((None, 6))
    head.norm_mean.assign(10.0)
    head.norm_deviation.assign(1.0 - 1e-3)
    cosine = keras.ops.convert_to_tensor(np.full((1, 1), 0.5, "float32"))

    def target(norm):
        norms = keras.ops.convert_to_tensor(np.full((1, 1), norm, "float32"))
        return float(as_numpy(head.target_similarity(cosine, norms, None, None, False))[0, 0])

    theta = math.acos(0.5)
    assert target(5.0) == pytest.approx(math.cos(theta + 0.4), abs=1e-6)  # q = -1: ArcFace
    assert target(10.0) == pytest.approx(0.5 - 0.4, abs=1e-6)  # q = 0: CosFace
    assert target(20.0) == pytest.approx(math.cos(theta - 0.4) - 0.8, abs=1e-6)  # q = 1
    assert target(10.5) == pytest.approx(math.cos(theta - 0.2) - 0.6, abs=1e-6)


def test_adaface_averages_the_norms_before_it_uses_them():
    head = heads.AdaFace(4, rate=0.5)
    head.build((None, 4))
    norms = np.array([10.0, 20.0, 30.0, 400.0], "float32")
    head.compute_losses(norms[:, None] * np.eye(4, dtype="float32"), np.arange(4), training=True)
    clipped = np.minimum(norms, 100.0)  # unbiased deviation, as torch's std
    assert float(as_numpy(head.norm_mean)) == pytest.approx((20 + clipped.mean()) / 2, rel=1e-6)
    assert float(as_numpy(head.norm_deviation)) == pytest.approx(
        (100 + clipped.std(ddof=1)) / 2, rel=1e-6
    )


def test_magface_margins_and_penalty_at_the_papers_norms():
    head = heads.MagFace(5)
    norms = np.array([[10.0], [60.0], [110.0], [5.0], [500.0]], "float32")
    margin = as_numpy(head.margin_of(keras.ops.convert_to_tensor(norms)))
    assert margin[:, 0] == pytest.approx([0.45, 0.625, 0.8, 0.45, 0.8], abs=1e-6)
    penalty = as_numpy(
        head.regularized_loss(keras.ops.zeros(5), keras.ops.convert_to_tensor(norms))
    )
    expected = 35 * np.array([0.1008264, 60 / 110**2 + 1 / 60, 2 / 110, 0.1008264, 2 / 110])
    assert penalty == pytest.approx(expected, rel=1e-6)


def test_elasticface_gives_the_largest_margin_to_the_farthest_sample():
    """cos (.2, .9, .5, .7), margins drawn (.4, .45, .5, .6) -> (.6, .4, .5, .45)."""
    cosines = keras.ops.convert_to_tensor(np.array([[0.2], [0.9], [0.5], [0.7]], "float32"))
    head = heads.ElasticFace(9, variant="am", plus=True, deviation=0.1, seed=5)
    plain = heads.ElasticFace(9, variant="am", plus=False, deviation=0.1, seed=5)
    drawn, handed = (
        as_numpy(cosines - h.target_similarity(cosines, None, None, None, True))[:, 0]
        for h in (plain, head)
    )
    assert sorted(drawn) == pytest.approx(sorted(handed), abs=1e-6)
    assert list(np.argsort(-handed)) == [0, 2, 3, 1]


@pytest.mark.parametrize(("variant", "mean"), [("arc", 0.5), ("am", 0.35)])
def test_elasticface_draws_around_its_margin_in_training_only(variant, mean):
    head = heads.ElasticFace(9, variant=variant, deviation=0.05, seed=1)
    cosine = keras.ops.convert_to_tensor(np.zeros((4000, 1), "float32"))
    moved = as_numpy(head.target_similarity(cosine, None, None, None, True))[:, 0]
    margins = -moved if variant == "am" else np.arcsin(-moved)
    assert margins.mean() == pytest.approx(mean, abs=4 * 0.05 / 4000**0.5)
    assert margins.std() == pytest.approx(0.05, rel=0.1)
    still = as_numpy(head.target_similarity(cosine, None, None, None, False))[:, 0]
    assert np.ptp(still) == 0


def test_circle_loss_at_its_worked_points():
    head = heads.CircleLoss(2)
    for own, other, logits, loss in (
        (0.8, 0.2, [5.76, -5.76], 9.929455e-6),
        (0.5, 0.5, [-48.0, 48.0], 96.0),
    ):
        pair = np.array([[own, other]], "float32")
        target = keras.ops.convert_to_tensor(pair[:, :1])
        moved = 256 * as_numpy(head.target_similarity(target, None, None, None, False))[0, 0]
        others = (
            as_numpy(head.other_similarities(keras.ops.convert_to_tensor(pair), target, None))[0, 1]
            * 256
        )
        assert [moved, others] == pytest.approx(logits, abs=1e-4)
        assert losses_of(head, pair)[0] == pytest.approx(loss, rel=1e-3)  # softplus for C = 2
        assert moved == pytest.approx(256 * (0.25**2 - (1 - own) ** 2), abs=1e-4)
        assert others == pytest.approx(256 * (other**2 - 0.25**2), abs=1e-4)


def test_sphereface2_starts_balanced():
    """At right angles to all prototypes the two gradients are equal, for each variant."""
    for variant in "CAM":
        head = heads.SphereFace2(1000, variant=variant)
        head.build((None, 2))
        cosine = keras.ops.convert_to_tensor(np.zeros((1, 1), "float32"))
        own = head.target_similarity(cosine, None, None, None, False)
        other = head.other_similarities(cosine, cosine, own)
        own, other = (float(as_numpy(head.logits(c, None))[0, 0]) for c in (own, other))
        pull = 0.7 / (1 + math.exp(own))
        push = 0.3 * 999 / (1 + math.exp(-other))
        assert pull == pytest.approx(push, rel=1e-3)


def test_adacos_computes_the_scale_of_the_paper():
    head = heads.AdaCos(5)
    head.build((None, 4))
    rng = np.random.default_rng(0)
    x, w, y = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), np.array([0, 1, 2, 3, 4, 0])
    head.prototypes.assign(w)
    start = math.sqrt(2) * math.log(4)
    head.compute_losses(x.astype("float32"), y, training=True)
    x, w = (a / np.linalg.norm(a, axis=1)[:, None] for a in (x, w))
    cosines = x @ w.T
    others = cosines[np.arange(5) != y[:, None]].reshape(6, 4)
    sums = np.exp(start * others).sum(1)
    angles = sorted(np.arccos(cosines[np.arange(6), y]))
    expected = math.log(np.mean(sums)) / math.cos(min(math.pi / 4, angles[2]))
    assert float(as_numpy(head.scale_weight)) == pytest.approx(expected, rel=1e-5)


def test_the_nearest_subcenter_counts():
    head = heads.SubCenterArcFace(2, margin=0.0, num_centers=2)
    head.build((None, 2))
    head.prototypes.assign([[[1, 0], [0, 1]], [[-1, 0], [0, -1]]])
    x = np.array([[1.0, 0.0], [0.6, 0.8]], "float32")
    np.testing.assert_allclose(as_numpy(head(x)) / 64, [[1, 0], [0.8, -0.6]], atol=1e-6)


def test_uniface_starts_at_its_threshold():
    head = heads.UniFace(1000)
    head.build((None, 2))
    assert float(as_numpy(head.threshold)) == pytest.approx(math.log(10_000), rel=1e-6)


def test_soft_normalisation_pulls_the_norm_to_the_scale():
    head = heads.SphereFaceR(9, normalization="soft", scale=60.0)
    head.build((None, 2))
    norms = keras.ops.convert_to_tensor(np.array([[50.0], [60.0], [80.0]], "float32"))
    got = as_numpy(head.regularized_loss(keras.ops.full((3,), 6.0), norms))
    assert got == pytest.approx([5.1, 5.0, 5.2], abs=1e-5)


def test_l_softmax_is_sphereface_scaled_by_the_prototypes():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    w = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    y = np.array([0, 1, 2, 0, 1, 2])
    logits = []
    for head in (heads.LargeMarginSoftmax(3), heads.SphereFace(3)):
        head.build((None, 4))
        head.prototypes.assign(w)
        logits.append(as_numpy(head(x, y)))
    np.testing.assert_allclose(
        logits[0], logits[1] * np.linalg.norm(w, axis=1), rtol=1e-4, atol=1e-5
    )


def test_l2_softmax_ignores_the_norm_and_sphereface_keeps_it():
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


@pytest.mark.parametrize(
    ("name", "arguments", "rule"),
    [
        ("ArcFace", {"margin": 28.6}, "radians"),
        ("ArcFace", {"continuation": "up"}, "continuation"),
        ("CosFace", {"margin": -0.1}, "margin"),
        ("CombinedMargin", {"m1": 0}, "m1"),
        ("CombinedMargin", {"m2": 2.0}, "m2"),
        ("CombinedMargin", {"m3": -0.1}, "m3"),
        ("CombinedMargin", {"continuation": "linear"}, "continuation"),
        ("LargeMarginSoftmax", {"margin": 1.5}, "margin"),
        ("SphereFace", {"margin": 0}, "margin"),
        ("SphereFaceR", {"margin": 0.9}, "margin"),
        ("SphereFaceR", {"version": "v3"}, "version"),
        ("SphereFaceR", {"normalization": "l2"}, "normalization"),
        ("SphereFaceR", {"norm_weight": -1}, "norm_weight"),
        ("SphereFaceR", {"loss_weight": 0}, "loss_weight"),
        ("SphereFace2", {"variant": "B"}, "variant"),
        ("SphereFace2", {"variant": "M", "margin": 0.5}, "margin"),
        ("SphereFace2", {"balance": 1.0}, "balance"),
        ("SphereFace2", {"sharpness": 0.5}, "sharpness"),
        ("SphereFace2", {"loss_weight": -1}, "loss_weight"),
        ("AdaCos", {"num_classes": 2}, "num_classes"),
        ("SVSoftmax", {"hardness": 0.2}, "hardness"),
        ("SVSoftmax", {"margin": 0.35}, "plain"),
        ("MVSoftmax", {"hardness": -0.1}, "hardness"),
        ("MVSoftmax", {"mode": "soft"}, "mode"),
        ("MVSoftmax", {"variant": "plain"}, "variant"),
        ("CurricularFace", {"rate": 1.5}, "rate"),
        ("AdaFace", {"rate": 0}, "rate"),
        ("AdaFace", {"concentration": 0}, "concentration"),
        ("MagFace", {"margin": 0.5}, "margin"),
        ("MagFace", {"norm_range": (110, 10)}, "norm_range"),
        ("MagFace", {"regularization": -1}, "regularization"),
        ("ElasticFace", {"deviation": -0.1}, "deviation"),
        ("SubCenterArcFace", {"num_centers": 0}, "num_centers"),
        ("CircleLoss", {"margin": 1.0}, "margin"),
        ("L2Softmax", {"alpha": -1}, "alpha"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*should be at:UserWarning")
def test_an_argument_out_of_its_range_is_refused_by_name(name, arguments, rule):
    with pytest.raises(ValueError, match=rule) as error:
        getattr(heads, name)(**{"num_classes": 10, **arguments})
    assert "Received" in str(error.value)
