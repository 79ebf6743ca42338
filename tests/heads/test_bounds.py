import math

import pytest

from keras_facemargin import heads

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("num_classes", "expected"),
    [
        (10, 4.2767),
        (100, 6.7822),
        (1000, 9.1030),
        (8631, 11.2601),
        (10575, 11.4633),
        (13403, 11.7003),
        (58207, 13.1690),
        (85742, 13.5563),
        (360232, 14.9917),
    ],
)
def test_alpha_of_the_l2_softmax_paper(num_classes, expected):
    assert heads.alpha_lower_bound(num_classes) == pytest.approx(expected, abs=1e-4)


def test_alpha_reaches_its_probability_in_the_papers_model():
    for num_classes in (1000, 13403, 58207):
        alpha = heads.alpha_lower_bound(num_classes)
        reached = math.exp(alpha) / (math.exp(alpha) + num_classes - 2 + math.exp(-alpha))
        assert reached == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    ("num_classes", "probability", "expected"),
    [
        (2, 0.9, 1.0986),
        (8, 0.95, 4.2791),
        (10, 0.99, 6.1131),
        (1000, 0.999, 13.7997),
        (10575, 0.9, 11.4623),
        (85742, 0.9999, 20.5691),
        (360232, 0.9, 14.9917),
    ],
)
def test_scale_of_the_cosface_paper(num_classes, probability, expected):
    assert heads.scale_lower_bound(num_classes, probability) == pytest.approx(expected, abs=1e-4)


def test_margin_of_the_cosface_paper():
    assert heads.cosine_margin_upper_bound(8, 2) == pytest.approx(0.292893, abs=1e-6)
    assert heads.cosine_margin_upper_bound(4, 3) == pytest.approx(4 / 3)


def test_multiplier_of_the_sphereface_paper():
    assert heads.angle_multiplier_lower_bound(2) == pytest.approx(2 + math.sqrt(3))
    assert heads.angle_multiplier_lower_bound(10) == 3


@pytest.mark.parametrize(
    ("scale", "expected"), [(1.0, 8.26632), (10.0, 0.391775), (20.0, 2.17532e-5)]
)
def test_loss_of_the_normface_paper(scale, expected):
    assert heads.loss_lower_bound(10575, scale) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: heads.alpha_lower_bound(2), "num_classes"),
        (lambda: heads.scale_lower_bound(1), "num_classes"),
        (lambda: heads.scale_lower_bound(10, 1.0), "probability"),
        (lambda: heads.cosine_margin_upper_bound(10, 1), "embedding_dim"),
    ],
)
def test_arguments_out_of_range_are_named(call, rule):
    with pytest.raises(ValueError, match=f"`{rule}`.*Received"):
        call()
