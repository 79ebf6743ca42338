"""The contract of every pairwise loss of integer labels and embeddings.

A new loss joins by a line in CASES: how to make it, and its plain-loop reference of
(labels, embeddings).
"""

import functools
import warnings

import keras
import numpy as np
import pytest
import references_losses as references
from gradients import value_and_gradient
from keras import ops

from keras_facemargin import losses
from keras_facemargin.losses.distances import get_metric

EMBEDDINGS = {"from_embeddings": True}
METRICS = {
    "L2": references.euclidean,
    "squared-L2": references.squared,
    "angular": references.angular,
}

CASES = {
    "contrastive": (
        losses.ContrastiveLoss,
        {"margin": 2.0, **EMBEDDINGS},
        lambda y, x: references.contrastive(y, x, 2.0),
    ),
    "lifted": (losses.LiftedStructLoss, {}, lambda y, x: references.lifted(y, x, 1.0)),
    "npairs": (losses.NpairsLoss, EMBEDDINGS, references.npairs),
}
for _metric, _distance in METRICS.items():
    _margin = {"L2": 1.0, "squared-L2": 3.0, "angular": 0.5}[_metric]
    _arguments = {"margin": _margin, "distance_metric": _metric}
    CASES[f"semi-hard {_metric}"] = (
        losses.TripletSemiHardLoss,
        _arguments,
        functools.partial(references.semi_hard, margin=_margin, metric=_distance),
    )
    CASES[f"hard {_metric}"] = (
        losses.TripletHardLoss,
        _arguments,
        functools.partial(references.hard, margin=_margin, metric=_distance),
    )
    CASES[f"soft {_metric}"] = (
        losses.TripletHardLoss,
        {"soft": True, "distance_metric": _metric},
        functools.partial(references.hard, margin=0.0, metric=_distance, soft=True),
    )

TENSORFLOW = keras.backend.backend() == "tensorflow"
# jax and torch run the same code, and their gradients of roots and logarithms: every kind and every
# metric there, the other pairs of the two as slow tests.
EACH_METRIC = ("semi-hard angular", "hard L2", "soft squared-L2", "contrastive", "lifted", "npairs")
ONE_OF_EACH = ("semi-hard L2", "hard L2", "contrastive", "lifted", "npairs")
every_loss = pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=() if TENSORFLOW or c in EACH_METRIC else pytest.mark.slow)
        for c in CASES
    ],
)
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH)
pytestmark = pytest.mark.any_backend


def make(case, **kwargs):
    kind, arguments, _ = CASES[case]
    return kind(**{**arguments, **kwargs})


def batch(seed=0):
    """Twelve samples, some people once, of norms around 2: hinges on both sides."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, 12), rng.normal(size=(12, 4))


def precision():
    """float64 where Keras computes in it: not on jax by default, and not in torch's `matmul`."""
    return ("float64", 1e-9) if keras.backend.backend() == "tensorflow" else ("float32", 2e-5)


def number(tensor):
    return float(ops.convert_to_numpy(tensor))


def test_every_exported_loss_has_a_case():
    kinds = {kind.__name__ for kind, _, _ in CASES.values()}
    # With other tests: the first below, the second in test_center.py.
    assert kinds | {"NpairsMultilabelLoss", "CenterLoss"} == set(losses.list())
    for chosen in (ONE_OF_EACH, EACH_METRIC):
        assert {CASES[case][0] for case in chosen} == {kind for kind, _, _ in CASES.values()}
    assert {case.split()[-1] for case in EACH_METRIC} >= set(METRICS)


@every_loss
def test_equals_the_plain_loop_reference(case):
    dtype, tolerance = precision()
    loss = make(case, dtype=dtype)
    for seed in range(3):
        labels, embeddings = batch(seed)
        expected = CASES[case][2](labels, embeddings)
        assert expected > 0.05
        assert number(loss(labels, embeddings)) == pytest.approx(expected, rel=tolerance)


@every_loss
def test_gradient_equals_finite_differences_of_the_reference(case):
    dtype, tolerance = precision()
    tolerance = 2e-4 if dtype == "float32" else 1e-6
    loss, reference = make(case, dtype=dtype), CASES[case][2]
    labels, embeddings = batch(3)
    _, gradient = value_and_gradient(lambda x: loss(labels, x), embeddings, dtype)
    assert np.abs(gradient).max() > 0.01
    step = 1e-6
    for index in np.ndindex(embeddings.shape):
        kept = embeddings[index]
        embeddings[index] = kept + step
        above = reference(labels, embeddings)
        embeddings[index] = kept - step
        below = reference(labels, embeddings)
        embeddings[index] = kept
        slope = (above - below) / (2 * step)
        assert gradient[index] == pytest.approx(slope, rel=tolerance, abs=tolerance)


@every_loss
def test_the_scalar_is_the_mean_of_the_samples_losses_and_weights_weigh_those(case):
    labels, embeddings = batch()
    scalar = number(make(case)(labels, embeddings))
    losses = ops.convert_to_numpy(make(case, reduction=None)(labels, embeddings))
    assert losses.shape == (12,)
    assert scalar == pytest.approx(losses.mean(), rel=1e-6)
    weights = np.linspace(0, 2, 12).astype("float32")
    for shaped in (weights, weights[:, None]):
        weighed = number(make(case)(labels, embeddings, sample_weight=shaped))
        assert weighed == pytest.approx((weights * losses).mean(), rel=1e-5)
    assert number(make(case, reduction="sum")(labels, embeddings)) == pytest.approx(
        losses.sum(), rel=1e-6
    )


@every_loss
def test_the_order_of_the_batch_does_not_matter(case):
    labels, embeddings = batch(1)
    # N-pairs takes the earlier of a pair as anchor: people may change places, not their pairs.
    rng = np.random.default_rng(5)
    order = rng.permutation(12)
    if case == "npairs":
        order = np.argsort(rng.permutation(5)[labels], kind="stable")
    assert (order != np.arange(12)).any()
    loss = make(case)
    value, gradient = value_and_gradient(lambda x: loss(labels, x), embeddings)
    other, moved = value_and_gradient(lambda x: loss(labels[order], x), embeddings[order])
    assert value == pytest.approx(other, rel=1e-5)
    np.testing.assert_allclose(gradient[order], moved, rtol=0, atol=2e-6)


@one_of_each
def test_names_of_people_do_not_matter(case):
    labels, embeddings = batch(2)
    names = np.array([40, -3, 7, 0, 1_000_000])
    loss = make(case)
    expected = number(loss(labels, embeddings))
    assert number(loss(names[labels], embeddings)) == expected
    for other in (labels[:, None], labels.astype("uint8"), labels.astype("int64")):
        assert number(loss(other, embeddings)) == expected
    assert number(loss(labels // 2, embeddings)) != expected


@one_of_each
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "people",
    [(65_504, 65_505), (80_001, 80_002), (2**24, 2**24 + 1), (2**31 - 2, 2**31 - 1), (0, 2**32)],
)
def test_large_labels_stay_apart(case, policy, people):
    labels, embeddings = np.array([0, 0, 1, 1]), batch()[1][:4].astype("float16")
    expected = number(make(case)(labels, embeddings))
    confused = number(make(case)(np.zeros(4, "int32"), embeddings))
    assert expected != confused
    keras.config.set_dtype_policy(policy)
    try:
        half = ops.cast(embeddings, policy.removeprefix("mixed_"))
        got = make(case)(np.array(people)[labels], half)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(got.dtype) == "float32"
    assert number(got) == pytest.approx(expected, rel=0.05)  # bfloat16 rounds the embeddings


@one_of_each
def test_computes_in_float32_what_half_precision_cannot_hold(case):
    labels, embeddings = batch()
    embeddings = (1e4 * embeddings).astype("float16")  # which holds them, but not their squares
    expected = number(make(case)(labels, embeddings.astype("float32")))
    assert np.isfinite(expected) and expected > 100
    keras.config.set_dtype_policy("mixed_float16")
    try:
        got = make(case)(labels, ops.convert_to_tensor(embeddings, "float16"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert number(got) == expected


NOT_FINITE = {"NaN": np.nan, "infinite": np.inf, "of infinite length": 1e30}


@every_loss
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_a_sample_that_is_not_finite_makes_the_loss_nan(case, bad):
    labels, embeddings = batch()
    for sample in (0, int(np.argmax(np.bincount(labels)[labels] == 1))):  # one of a pair, and alone
        broken = embeddings.astype("float32")
        broken[sample] = NOT_FINITE[bad]
        assert np.isnan(number(make(case)(labels, broken)))
        assert np.isnan(ops.convert_to_numpy(make(case, reduction=None)(labels, broken))).all()


@pytest.mark.parametrize(
    ("loss", "labels", "shape"),
    [
        (losses.ContrastiveLoss(), np.array([0, 1, 0]), (3,)),
        (losses.NpairsLoss(), np.array([0, 1, 0]), (3, 3)),
        (losses.NpairsMultilabelLoss(), np.eye(3), (3, 3)),
    ],
    ids=["distances", "similarities", "multilabel"],
)
def test_a_pair_that_is_not_a_number_makes_the_loss_nan(loss, labels, shape):
    pairs = np.ones(shape, "float32")
    assert np.isfinite(number(loss(labels, pairs)))
    pairs[1] = np.nan
    assert np.isnan(number(loss(labels, pairs)))


@pytest.mark.parametrize("metric", METRICS)
def test_a_distance_to_nan_is_nan(metric):
    embeddings = batch()[1].astype("float32")
    embeddings[2, 0] = np.nan
    distances = np.asarray(ops.convert_to_numpy(get_metric(metric)(embeddings)))
    others = np.arange(12) != 2
    assert np.isnan(distances[2, others]).all() and np.isnan(distances[others, 2]).all()
    assert np.isfinite(distances[others][:, others]).all() == (metric == "angular")


EDGES = {
    "all at one point": (np.array([0, 0, 1, 1]), np.full((4, 4), 0.3)),
    "all zero": (np.array([0, 0, 1, 1]), np.zeros((4, 4))),
    "one of them zero": (np.array([0, 0, 1, 1]), np.eye(4, 4)),
    "tiny": (np.array([0, 0, 1, 1]), 1e-25 * np.eye(4, 4)),
    "no positives": (np.arange(4), np.eye(4, 4)),
    "no negatives": (np.zeros(4, "int64"), np.eye(4, 4)),
    "one sample": (np.array([7]), np.eye(1, 4)),
    "none": (np.zeros(0, "int64"), np.zeros((0, 4))),
    "far apart": (np.array([0, 0, 1, 1]), 1e4 * np.eye(4, 4)),
}


@every_loss
@pytest.mark.parametrize("edge", EDGES)
def test_value_and_gradient_are_finite_at_the_edges(case, edge):
    labels, embeddings = EDGES[edge]
    loss = make(case)
    value, gradient = value_and_gradient(lambda x: loss(labels, x), embeddings)
    assert value.shape == () and np.isfinite(value)
    # 1e4 apart, squared, is the steepest here; a stray 1 / norm would be 1e6 and more.
    assert np.isfinite(gradient).all() and np.abs(gradient).max(initial=0) < 1e5
    if edge == "none" or (edge == "one sample" and "hard" not in case and "soft" not in case):
        assert value == 0 and not gradient.any()


@every_loss
def test_no_intermediate_result_is_nan(case):
    """A debugger of NaN would stop there. TensorFlow's stops at infinity too, which is used."""
    labels, embeddings = EDGES["all at one point"]
    loss = make(case)
    if keras.backend.backend() == "jax":
        import jax

        with jax.debug_nans(True):
            value_and_gradient(lambda x: loss(labels, x), embeddings)
    elif keras.backend.backend() == "torch":
        import torch

        with warnings.catch_warnings(action="ignore"):  # "anomaly detection is slow"
            context = torch.autograd.detect_anomaly(check_nan=True)
        with context:
            value_and_gradient(lambda x: loss(labels, x), embeddings)
    else:
        pytest.skip("seen on jax and torch")


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (np.array([0.0, 1.0]), "must be integers"),
        (np.array([True, False]), "must be integers"),
        (np.eye(2, 3, dtype="int32"), "one-hot"),
        (np.eye(2, 3, dtype="float32"), "one-hot"),
        (np.array(["ann", "bob"]), "np.unique"),
        (np.array(1), "shape"),
        (np.array([0]), "same samples"),
        (np.array([0, 1, 2]), "same samples"),
    ],
)
@one_of_each
def test_bad_labels_are_refused_with_the_rule(case, labels, rule):
    with pytest.raises(ValueError, match=rule) as error:
        make(case)(labels, np.ones((2, 3), "float32"))
    assert "`y_true`" in str(error.value) and "Received" in str(error.value)


@one_of_each
def test_bad_embeddings_are_refused_with_the_rule(case):
    for shape in ((2,), (2, 3, 4)):
        with pytest.raises(ValueError, match="`y_pred` must be embeddings") as error:
            make(case)(np.array([0, 1]), np.ones(shape, "float32"))
        assert "Received" in str(error.value)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf"), "1", None, True])
@pytest.mark.parametrize(
    "kind",
    [
        losses.TripletSemiHardLoss,
        losses.TripletHardLoss,
        losses.ContrastiveLoss,
        losses.LiftedStructLoss,
    ],
)
def test_a_bad_margin_is_refused_with_the_rule(kind, margin):
    with pytest.raises(ValueError, match="`margin` must be") as error:
        kind(margin=margin)
    assert f"Received: margin={margin!r}" in str(error.value)


@pytest.mark.parametrize("metric", ["l2", "cosine", None, 2])
@pytest.mark.parametrize("kind", [losses.TripletSemiHardLoss, losses.TripletHardLoss])
def test_an_unknown_metric_is_refused_with_the_rule(kind, metric):
    with pytest.raises(ValueError, match="squared-L2") as error:
        kind(distance_metric=metric)
    assert f"Received: distance_metric={metric!r}" in str(error.value)


@one_of_each
@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_half_precision_is_refused(case, dtype):
    with pytest.raises(ValueError, match="float32") as error:
        make(case, dtype=dtype)
    assert "Received" in str(error.value)


def test_defaults_are_those_of_tensorflow_addons():
    for kind in (losses.TripletSemiHardLoss, losses.TripletHardLoss):
        config = kind().get_config()
        assert (config["margin"], config["distance_metric"]) == (1.0, "L2")
    assert losses.TripletHardLoss(0.5, True, "angular", name="mine").get_config() == {
        "name": "mine",
        "reduction": "sum_over_batch_size",
        "dtype": "float32",
        "margin": 0.5,
        "soft": True,
        "distance_metric": "angular",
    }
    assert losses.TripletHardLoss().soft is False
    assert losses.LiftedStructLoss().margin == losses.ContrastiveLoss().margin == 1.0
    assert losses.ContrastiveLoss().name == "contrastive_loss"
    assert losses.NpairsLoss().name == "npairs_loss"
    assert losses.NpairsMultilabelLoss().name == "npairs_multilabel_loss"


@every_loss
def test_a_config_makes_the_same_loss_again(case):
    loss = make(case, reduction="sum")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    labels, embeddings = batch()
    assert number(again(labels, embeddings)) == number(loss(labels, embeddings))


@keras.saving.register_keras_serializable("tests")
def largest_difference(embeddings):
    differences = ops.expand_dims(embeddings, 1) - ops.expand_dims(embeddings, 0)
    return ops.max(ops.abs(differences), axis=-1)


@pytest.mark.parametrize("kind", [losses.TripletSemiHardLoss, losses.TripletHardLoss])
def test_a_metric_of_the_user_is_used_and_saved(kind):
    labels, embeddings = batch()
    loss = kind(distance_metric=largest_difference)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.distance_metric is largest_difference
    reference = {"TripletSemiHardLoss": references.semi_hard, "TripletHardLoss": references.hard}
    expected = reference[kind.__name__](
        labels, embeddings, 1.0, lambda a, b: float(np.abs(a - b).max())
    )
    assert number(again(labels, embeddings)) == pytest.approx(expected, rel=1e-5)


def test_a_semi_hard_negative_is_strictly_farther_than_the_positive():
    # On a line: the positive at 2, negatives at -2 (as far as the positive), at 3 and at 1.
    x = np.array([[0.0], [2.0], [-2.0], [3.0], [1.0]], "float32")
    labels = np.array([0, 0, 1, 2, 3])
    loss = losses.TripletSemiHardLoss(margin=1.5, reduction=None)
    each = ops.convert_to_numpy(loss(labels, x))
    # From 0: 2 + 1.5 - 3. From 2: no negative beyond 2 but the one at -2: 2 + 1.5 - 4 < 0.
    np.testing.assert_allclose(each, [5 / 2 * 0.5, 0, 0, 0, 0], atol=1e-5)


def test_the_loss_of_collapsed_embeddings_is_the_margin():
    labels, point = np.array([0, 0, 1, 1]), np.full((4, 3), 0.5)
    for kind in (losses.TripletSemiHardLoss, losses.TripletHardLoss):
        assert number(kind(margin=0.3)(labels, point)) == pytest.approx(0.3)


def test_pairs_given_as_distances():
    loss = losses.ContrastiveLoss(margin=1.0)
    same, distances = np.array([1, 0, 0]), np.array([0.5, 0.5, 3.0], "float32")
    expected = (0.25 + 0.25 + 0.0) / 3
    for y_true in (same, same[:, None], same.astype(bool), same.astype("float32")):
        for y_pred in (distances, distances[:, None]):
            assert number(loss(y_true, y_pred)) == pytest.approx(expected)
    for neither in (2, 2**32):
        assert np.isnan(number(loss(np.array([1, 0, neither]), distances)))
    with pytest.raises(ValueError, match="from_embeddings=True"):
        loss(same, np.ones((3, 4), "float32"))
    with pytest.raises(ValueError, match="same samples"):
        loss(same[:2], distances)


@pytest.mark.parametrize("kind", [losses.NpairsLoss, losses.NpairsMultilabelLoss])
def test_similarities_must_be_square(kind):
    for shape in ((3, 4), (3,)):
        with pytest.raises(ValueError, match=r"\(batch, batch\)") as error:
            kind()(np.ones((3, 1), "int32"), np.ones(shape, "float32"))
        assert "Received" in str(error.value)


def test_several_labels_must_be_a_matrix():
    with pytest.raises(ValueError, match="NpairsLoss"):
        losses.NpairsMultilabelLoss()(np.array([0, 1]), np.ones((2, 2), "float32"))


def test_one_label_each_is_the_multilabel_loss_of_one_hot_labels():
    rng = np.random.default_rng(0)
    labels, similarities = rng.integers(0, 3, 8), rng.normal(size=(8, 8))
    expected = number(losses.NpairsLoss()(labels, similarities))
    got = number(losses.NpairsMultilabelLoss()(np.eye(3, dtype="int32")[labels], similarities))
    assert got == pytest.approx(expected, rel=1e-6)


def test_pairs_of_a_batch_are_its_anchors_times_its_partners():
    labels = np.array([5, 9, 5, 7, 9, 5, 5, 9])  # (0, 2), (1, 4), (5, 6); 3 and 7 are left out
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    anchors, partners = [0, 1, 5], [2, 4, 6]
    expected = number(losses.NpairsLoss()(labels[anchors], x[anchors] @ x[partners].T))
    loss = losses.NpairsLoss(from_embeddings=True)
    value, gradient = value_and_gradient(lambda x: loss(labels, x), x)
    assert value == pytest.approx(expected, rel=1e-5)
    assert not gradient[[3, 7]].any() and np.abs(gradient).max(axis=1).astype(bool).sum() == 6
