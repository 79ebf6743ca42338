"""`judge` and `decide`: one answer for each combination of qualities."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_facemargin.quality import Quality, decide, judge, shortfall, without_answer

LIMITS = SimpleNamespace(utility=0.02, sharpness=12.0, partner_sharpness=18.0)
BEFORE = SimpleNamespace(utility=0.02, sharpness=12.0, partner_sharpness=None)
GOOD, BLURRED, POOR = Quality(0.5, 20.0), Quality(0.5, 8.0), Quality(0.01, 20.0)
FAIR = Quality(0.5, 17.9)


@pytest.mark.parametrize(
    ("first", "second", "accepted", "rejected"),
    [
        (GOOD, GOOD, "same", "different"),
        (GOOD, BLURRED, "same", "cannot say"),
        (FAIR, BLURRED, "cannot say", "cannot say"),
        (FAIR, FAIR, "same", "different"),
        (Quality(0.5, 18.0), BLURRED, "same", "cannot say"),
        (None, BLURRED, "cannot say", "cannot say"),
        (BLURRED, BLURRED, "cannot say", "cannot say"),
        (POOR, GOOD, "same", "cannot say"),
        (POOR, BLURRED, "same", "cannot say"),
        (None, GOOD, "same", "different"),
        (Quality(None, 20.0), GOOD, "same", "different"),
        (Quality(0.02, 12.0), GOOD, "same", "different"),
    ],
)
def test_verdicts(first, second, accepted, rejected):
    for cosine, expected in ((0.5, accepted), (0.4999, rejected)):
        for pair in ((first, second), (second, first)):
            decision = decide(cosine, 0.5, qualities=pair, limits=LIMITS)
            assert decision.verdict == expected
            assert bool(decision.reason) == (expected == "cannot say")
        assert decide(cosine, 0.5, qualities=(first, second), limits=None).verdict != "cannot say"


def test_without_a_measured_partner_a_blurred_crop_has_no_answer():
    for cosine in (0.6, 0.4):
        found = decide(cosine, 0.5, qualities=(GOOD, BLURRED), limits=BEFORE)
        assert found.verdict == "cannot say"
        assert found.reason.startswith("The second face has the detail of 8.0 pixels")
    assert decide(0.6, 0.5, qualities=(GOOD, POOR), limits=BEFORE).verdict == "same"


def test_the_reason_names_each_face_and_its_number():
    reason = decide(0.4, 0.5, qualities=(BLURRED, POOR), limits=LIMITS).reason
    assert reason == (
        "The first face has the detail of 8.0 pixels between the eyes; at least 12.0 are needed. "
        "The second face is harder to recognise than 99.0% of clean celebrity crops."
    )
    assert shortfall(GOOD, LIMITS) is None and shortfall(None, LIMITS) is None


def test_arrays_follow_the_same_rule():
    kinds = [GOOD, BLURRED, POOR, FAIR]
    blurred = np.array([each.sharpness < LIMITS.sharpness for each in kinds])
    poor = np.array([each.utility < LIMITS.utility for each in kinds])
    sharp = np.array([each.sharpness >= LIMITS.partner_sharpness for each in kinds])
    for accepted in (True, False):
        found = without_answer(
            np.full((4, 4), accepted),
            blurred=(blurred[:, None], blurred),
            poor=(poor[:, None], poor),
            sharp=(sharp[:, None], sharp),
        )
        cosine = 0.6 if accepted else 0.4
        expected = [
            [decide(cosine, 0.5, qualities=(a, b), limits=LIMITS).verdict == "cannot say"]
            for a in kinds
            for b in kinds
        ]
        assert found.reshape(-1, 1).tolist() == expected


class Scale:
    def utilities(self, norms, agreements):
        return np.clip(norms / 10, 0, 1) * agreements


def test_judge_measures_norm_and_agreement():
    crops = np.full((2, 112, 112, 3), 90, "uint8")
    found = judge(crops, [[3.0, 4.0], [0.0, 2.0]], [[6.0, 8.0], [2.0, 0.0]], scale=Scale())
    assert found == [Quality(0.5, 0.0), Quality(0.0, 0.0)]
    assert judge(crops, [[3.0, 4.0], [0.0, 2.0]]) == [Quality(None, 0.0)] * 2


@pytest.mark.parametrize(
    ("embeddings", "mirrored", "words"),
    [
        ([[1.0, 2.0]], None, "one embedding for each crop"),
        ([[1.0], [2.0]], [[1.0, 2.0]], "shape of `embeddings`"),
        ([1.0, 2.0], None, "shape"),
    ],
)
def test_judge_refuses_other_shapes(embeddings, mirrored, words):
    with pytest.raises(ValueError, match=words):
        judge(np.zeros((2, 112, 112, 3), "uint8"), embeddings, mirrored, scale=Scale())
