"""The losses against the answers of tensorflow-addons 0.23 (`tools/assets/write_tfa_golden.py`)."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import references_losses as references
from gradients import value_and_gradient
from keras import ops

from keras_facemargin import losses

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[1] / "golden" / "tfa_pairwise.json").read_text()
)
# Of the value's size, or of the gradient's largest component, and absolute below 1.
TOLERANCE = 1e-5
# The precision of a distance that is a difference of large numbers, in tensorflow-addons
# (which does not move the origin to the mean) or in both.
ROUNDING = {"random, far from the origin": 3e-4, "twins": 5e-5}
# Points of a lattice, where triplets are on the kinks of their losses: no unique gradient.
TIED = "twins of different people"

pytestmark = pytest.mark.any_backend


def manhattan(embeddings):
    differences = ops.expand_dims(embeddings, 1) - ops.expand_dims(embeddings, 0)
    return ops.sum(ops.abs(differences), axis=-1)


def ask(case):
    """Our value and gradient of a golden case, and its labels and inputs."""
    arguments = dict(case["arguments"])
    if arguments.get("distance_metric") == "manhattan":
        arguments["distance_metric"] = manhattan
    loss = getattr(losses, case["loss"])(**arguments)
    if "batch" in case:
        batch = GOLDEN["batches"][case["batch"]]
        labels, inputs = batch["labels"], batch["embeddings"]
    else:
        labels, inputs = case["y_true"], case["y_pred"]
    labels, inputs = np.array(labels, "int32"), np.array(inputs, "float32")
    return *value_and_gradient(lambda x: loss(labels, x), inputs), labels, inputs


def name(case):
    arguments = ", ".join(f"{k}={v}" for k, v in case["arguments"].items())
    return f"{case['loss']}({arguments}) of {case.get('batch', 'given pairs')}"


def allowed(case, expected):
    return ROUNDING.get(case.get("batch"), TOLERANCE) * max(1.0, np.abs(expected).max())


# The other batches are edges, which `test_losses.py` and the tests below run on every backend.
GENERAL = ("random", "random, of length 1", "random, far from the origin", "twins", TIED)
CASES = GOLDEN["cases"]
if keras.backend.backend() != "tensorflow":
    CASES = [case for case in CASES if case["batch"] in GENERAL]


@pytest.mark.parametrize("case", CASES + GOLDEN["pairs"], ids=name)
def test_equals_tensorflow_addons(case):
    value, gradient, _, inputs = ask(case)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    is_tied = case.get("batch") == TIED and case["loss"].startswith("Triplet")
    if is_tied and case["arguments"].get("distance_metric") == "angular":
        return  # rounding decides which of two equal negatives is beyond the positive
    if case["value"] is not None:
        assert value == pytest.approx(case["value"], rel=0, abs=allowed(case, case["value"]))
    if case["gradient"] is None or case["value"] is None or is_tied:
        return
    expected = np.array(case["gradient"])
    if case["loss"] == "TripletSemiHardLoss" and case["batch"] == "twins":
        # Equally near negatives: one gets the gradient here, all share it there; the sum is equal.
        gradient, expected = (per_point(g, inputs) for g in (gradient, expected))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=allowed(case, expected))


def per_point(gradient, points):
    _, index = np.unique(points, axis=0, return_inverse=True)
    sums = np.zeros((index.max() + 1, points.shape[1]))
    np.add.at(sums, index.ravel(), gradient)
    return sums


def unanswered(*batches):
    """Cases where tensorflow-addons' value or gradient is not finite, of the batches named."""
    return [
        case
        for case in GOLDEN["cases"]
        if case["batch"] in batches and (case["value"] is None or case["gradient"] is None)
    ]


def test_without_a_positive_pair_the_loss_is_zero_where_theirs_is_nan():
    cases = unanswered("each person once", "one sample")
    kinds = {case["loss"] for case in cases}
    assert kinds == {"TripletSemiHardLoss", "LiftedStructLoss"}
    for case in cases:
        value, gradient, _, _ = ask(case)
        assert value == 0.0 and not gradient.any()


def test_lifted_structure_of_one_person_is_zero_where_theirs_is_nan():
    cases = unanswered("one person")
    assert {case["loss"] for case in cases} == {"LiftedStructLoss"}
    for case in cases:
        value, gradient, _, _ = ask(case)
        assert value == 0.0 and not gradient.any()


def test_far_apart_no_exponential_overflows_where_theirs_does():
    cases = unanswered("far apart")
    assert {case["loss"] for case in cases} == {"LiftedStructLoss", "TripletHardLoss"}
    metrics = {"L2": references.euclidean, "squared-L2": references.squared}
    for case in cases:
        value, gradient, labels, x = ask(case)
        if case["loss"] == "LiftedStructLoss":
            expected = references.lifted(labels, x, case["arguments"].get("margin", 1.0))
        else:  # ln(1 + exp(d)) is d, for d this large
            metric = metrics[case["arguments"].get("distance_metric", "L2")]
            expected = references.hard(labels, x, 0.0, metric)
        assert value == pytest.approx(expected, rel=1e-5)
        assert gradient.any()


def test_contrastive_strangers_at_one_point_have_gradient_zero_where_theirs_is_nan():
    cases = unanswered("all at one point", "all zero")
    assert {case["loss"] for case in cases} == {"ContrastiveLoss"}
    for case in cases:
        assert not ask(case)[1].any()


def test_a_sample_without_labels_is_zero_where_theirs_is_nan():
    (case,) = [case for case in GOLDEN["pairs"] if case["value"] is None]
    value, gradient, labels, inputs = ask(case)
    assert not labels[0].any() and not gradient[0].any()
    with_all = labels[1:], inputs[1:, 1:]
    loss = losses.NpairsMultilabelLoss()
    # The first column shares no label with the others and counts as a negative.
    assert value > 2 / 3 * float(ops.convert_to_numpy(loss(*with_all)))


def test_far_from_the_origin_our_distances_keep_more_digits():
    cases = [case for case in GOLDEN["cases"] if case["batch"] == "random, far from the origin"]
    cases = [case for case in cases if case["loss"] == "TripletHardLoss"]
    cases = [case for case in cases if case["arguments"].get("distance_metric") == "squared-L2"]
    assert len(cases) == 2
    for case in cases[:1]:
        value, _, labels, x = ask(case)
        exact = references.hard(labels, x, 1.0, references.squared)
        assert abs(value - exact) < abs(case["value"] - exact) / 10


def test_the_golden_file_asks_every_loss_that_tensorflow_addons_had():
    recorded = {case["loss"] for case in GOLDEN["cases"] + GOLDEN["pairs"]}
    assert recorded == set(losses.list()) - {"CenterLoss"}
    answered = [case for case in GOLDEN["cases"] if case["value"] is not None]
    assert len(answered) > 180 and keras.backend.backend() in ("tensorflow", "jax", "torch")
