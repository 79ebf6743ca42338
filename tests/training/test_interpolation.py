import numpy as np
import pytest

from keras_facemargin.training.interpolation import interpolate_weights

BEFORE = [np.array([[0.0, 2.0]], "float32"), np.array(3, "int64")]
AFTER = [np.array([[4.0, -2.0]], "float32"), np.array(9, "int64")]


def test_weights_are_on_the_line_between_two_states_and_counters_are_of_the_second():
    weights = interpolate_weights(BEFORE, AFTER, 0.25)
    np.testing.assert_array_equal(weights[0], [[1.0, 1.0]])
    assert weights[0].dtype == "float32"
    assert weights[1] == 9


@pytest.mark.parametrize(("share", "expected"), [(0, BEFORE), (1.0, AFTER)])
def test_the_ends_are_the_states_to_the_last_bit(share, expected):
    for found, wanted in zip(interpolate_weights(BEFORE, AFTER, share), expected, strict=True):
        assert found is wanted


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]\. Received: share="):
        interpolate_weights(BEFORE, AFTER, share)


@pytest.mark.parametrize("after", [AFTER[:1], AFTER[::-1]])
def test_weights_of_two_models_are_refused(after):
    with pytest.raises(ValueError, match="weights of one model"):
        interpolate_weights(BEFORE, after, 0.5)
