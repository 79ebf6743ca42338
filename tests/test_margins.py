import keras
import numpy as np
import pytest
from gradients import value_and_gradient

from keras_facemargin import margins

pytestmark = pytest.mark.any_backend


def value(function, cosine, *arguments):
    tensor = keras.ops.convert_to_tensor(np.asarray(cosine, "float32"))
    return np.asarray(keras.ops.convert_to_numpy(function(tensor, *arguments)))


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (2, [1, 0.866025, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3]),
        (3, [1, 0.707107, 0, -0.707107, -1, -2, -3, -3.292893, -4, -5]),
        (4, [1, 0.5, -0.5, -1, -1.5, -3, -4.5, -5, -5.5, -7]),
    ],
)
def test_psi_of_sphereface(margin, expected):
    degrees = [0, 15, 30, 45, 60, 90, 120, 135, 150, 180]
    got = value(margins.multiplied_angle, np.cos(np.radians(degrees)), margin)
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_psi_with_multiplier_one_is_the_cosine():
    cosines = np.linspace(-1, 1, 11)
    np.testing.assert_allclose(value(margins.multiplied_angle, cosines, 1), cosines, atol=1e-7)


COSINES = [1, 0.9, 0.5, 0, -0.5, -0.87]
INSIDE = [0.877583, 0.580848, 0.023597, -0.479426, -0.853986, -0.999878]


def test_arcface_at_its_published_points():
    for continuation in ("reflect", "linear"):
        got = value(margins.additive_angle, COSINES, 0.5, continuation)
        np.testing.assert_allclose(got, INSIDE, atol=2e-6)


def test_arcface_past_the_turning_angle():
    past = [-0.878, -0.9, -1.0]
    linear = value(margins.additive_angle, past, 0.5, "linear")
    np.testing.assert_allclose(linear, [-1.117713, -1.139713, -1.239713], atol=2e-6)
    reflected = value(margins.additive_angle, past, 0.5)
    np.testing.assert_allclose(reflected, -2 - np.cos(np.arccos(past) + 0.5), atol=2e-6)
    easy = value(margins.additive_angle, [-0.1, -0.9], 0.5, "easy")
    np.testing.assert_allclose(easy, [-0.1, -0.9], atol=1e-7)


def test_the_default_continuation_is_continuous_at_the_turning_angle():
    bend = -np.cos(0.5)
    around = value(margins.additive_angle, [bend - 1e-5, bend + 1e-5], 0.5)
    assert abs(around[0] - around[1]) < 1e-4


@pytest.mark.parametrize(
    ("degrees", "cosface", "arcface"),
    [(30, 0.5160, 0.5203), (60, 0.1500, 0.0236), (90, -0.3500, -0.4794)],
)
def test_the_papers_combined_table(degrees, cosface, arcface):
    cosine = np.cos(np.radians(degrees))
    assert value(margins.additive_cosine, cosine, 0.35) == pytest.approx(cosface, abs=5e-5)
    assert value(margins.additive_angle, cosine, 0.5) == pytest.approx(arcface, abs=5e-5)


def test_the_published_continuations_past_the_turning_angle():
    past = np.array([-0.9, -1.0])
    bare = np.cos(np.arccos(past) + 0.5)
    np.testing.assert_allclose(value(margins.additive_angle, past, 0.5, "none"), bare, atol=2e-6)
    np.testing.assert_allclose(value(margins.additive_angle, past, 0.5, "clip"), -1, atol=0)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_a_continued_cosine_is_psi_for_any_multiplier(margin):
    cosines = np.linspace(-0.999, 0.999, 41)
    whole = value(margins.multiplied_angle, cosines, margin)
    np.testing.assert_allclose(
        value(lambda c: margins.continued_cosine(margin * margins.angle_of(c)), cosines),
        whole,
        atol=2e-5,
    )


def test_a_continued_cosine_stops_or_rises_by_argument():
    angles = np.array([0.5, np.pi, 4.0, 7.0])
    clip = value(lambda a: margins.continued_cosine(a, "clip"), angles)
    np.testing.assert_allclose(clip, np.cos(np.minimum(angles, np.pi)), atol=1e-6)
    none = value(lambda a: margins.continued_cosine(a, "none"), angles)
    np.testing.assert_allclose(none, np.cos(angles), atol=1e-6)
    assert value(margins.continued_cosine, 4.0) == pytest.approx(-2 - np.cos(4.0), abs=1e-6)


def test_angles_are_exact_near_the_ends_of_arccos():
    angles = np.array([1e-3, 0.01, 1.0, np.pi - 1e-2], "float64")
    cosines = np.cos(angles).astype("float32")
    got = value(margins.angle_of, cosines)
    np.testing.assert_allclose(got, np.arccos(cosines.astype("float64")), rtol=1e-5)
    beyond = value(margins.angle_of, np.array([1 + 1.2e-7, -1 - 1.2e-7], "float32"))
    np.testing.assert_allclose(beyond, [0, np.pi], atol=1e-6)


def test_a_divided_angle():
    degrees = np.array([0.0, 60.0, 180.0])
    got = value(margins.divided_angle, np.cos(np.radians(degrees)), 1.5)
    np.testing.assert_allclose(got, np.cos(np.radians(degrees / 1.5)), atol=1e-6)


def test_sine_is_exact_and_finite_past_one():
    cosines = np.array([1.0, 1 + 1.2e-7, -1 - 1.2e-7, 0.6, 0.0, 0.9999999], "float32")
    expected = np.sqrt(np.maximum(0, 1 - cosines.astype("float64") ** 2))
    np.testing.assert_allclose(value(margins.sine_of, cosines), expected, atol=1e-7)


LENGTHS = [0.0, 1e-30, 1e-7, 2e-6, 1e-4, 9e-3, 0.011, 1.0, 30.0, 1e4]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_direction_has_its_exact_value_and_a_bounded_gradient(length):
    unit = np.array([0.48, -0.6, 0.64])
    weights = np.array([0.3, 0.5, -0.2])
    x = (length * unit).astype("float32")
    direction, gradient = x / max(length, 1e-6), weights / 0.01
    if length > 0.01:
        gradient = (weights - unit * (unit @ weights)) / length
    np.testing.assert_allclose(value(margins.direction_of, x), direction, rtol=1e-6, atol=1e-12)
    weights = keras.ops.convert_to_tensor(weights, dtype="float32")
    _, found = value_and_gradient(lambda x: keras.ops.sum(weights * margins.direction_of(x)), x)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6 / max(length, 0.01))


def test_the_direction_of_an_ordinary_vector_is_its_quotient_to_the_bit():
    x = np.random.default_rng(0).normal(size=(500, 8)).astype("float32")
    quotient = value(lambda x: x / margins.length_of(x), x)
    np.testing.assert_array_equal(value(margins.direction_of, x), quotient)
    lengths = value(margins.length_of, x)[:, 0]
    np.testing.assert_allclose(lengths, np.linalg.norm(x, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: margins.multiplied_angle(0.5, 1.5), "`margin`.*Received: margin=1.5"),
        (lambda: margins.multiplied_angle(0.5, 0), "`margin`.*Received: margin=0"),
        (lambda: margins.additive_angle(0.5, 0.5, "up"), "`continuation`.*Received"),
        (lambda: margins.continued_cosine(0.5, "linear"), "`continuation`.*Received"),
    ],
)
def test_bad_arguments_are_named(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()
