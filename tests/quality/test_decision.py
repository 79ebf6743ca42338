"""`judge` and `decide`: one answer for each combination of qualities."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_facemargin.quality import Quality, decide, judge, shortfall, verdicts

LIMITS = SimpleNamespace(utility=0.02, sharpness=12.0, threshold_rise=0.01)
BEFORE = SimpleNamespace(utility=0.02, sharpness=12.0, threshold_rise=None)
GOOD, BLURRED, POOR = Quality(0.5, 22.0), Quality(0.5, 8.0), Quality(0.01, 24.0)
FAIR, FAINT = Quality(0.5, 18.0), Quality(0.5, 7.0)


@pytest.mark.parametrize(
    ("first", "second", "same_from", "different"),
    [
        (GOOD, GOOD, 0.5, True),
        (FAIR, FAIR, 0.5, True),
        (GOOD, BLURRED, 0.5, False),  # a sharp crop beside it
        (FAIR, BLURRED, 0.54, False),  # 18 of 22 pixels
        (BLURRED, BLURRED, 0.64, False),
        (FAINT, FAINT, None, False),
        (GOOD, FAINT, 0.5, False),
        (None, BLURRED, 0.6, False),  # counts as at the limit
        (POOR, GOOD, 0.5, False),
        (POOR, BLURRED, 0.5, False),
        (None, GOOD, 0.5, True),
        (Quality(None, 20.0), GOOD, 0.5, True),
        (Quality(0.02, 12.0), GOOD, 0.5, True),
    ],
)
def test_verdicts(first, second, same_from, different):
    for pair in ((first, second), (second, first)):
        for cosine in (0.4, 0.4999, 0.5001, 0.5399, 0.5401, 0.5999, 0.6001, 0.6399, 0.6401, 1.0):
            decision = decide(cosine, 0.5, qualities=pair, limits=LIMITS)
            expected = "different" if different and cosine < 0.5 else "cannot say"
            if same_from is not None and cosine >= same_from:
                expected = "same"
            assert decision.verdict == expected
            assert decision.threshold == pytest.approx(same_from or 0.5)
            assert bool(decision.reason) == (expected == "cannot say")
            assert decide(cosine, 0.5, qualities=pair, limits=None).verdict == (
                "same" if cosine >= 0.5 else "different"
            )


def test_without_a_measured_rise_a_blurred_crop_has_no_answer():
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
    kinds = [GOOD, BLURRED, POOR, FAIR, FAINT]
    sharpness = np.array([each.sharpness for each in kinds])
    utility = np.array([each.utility for each in kinds])
    for limits in (LIMITS, BEFORE):
        for cosine in (0.4, 0.52, 0.7):
            found = verdicts(
                np.full((5, 5), cosine),
                0.5,
                sharpness=(sharpness[:, None], sharpness),
                utility=(utility[:, None], utility),
                limits=limits,
            )
            expected = [
                [decide(cosine, 0.5, qualities=(a, b), limits=limits).verdict for b in kinds]
                for a in kinds
            ]
            assert found.same.tolist() == [[each == "same" for each in row] for row in expected]
            assert found.different.tolist() == [
                [each == "different" for each in row] for row in expected
            ]


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
