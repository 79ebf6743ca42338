"""Pooling compared with plain float64 loops, worked numbers and identities."""

import math

import keras
import numpy as np
import pytest
from gradients import value_and_gradient, value_and_gradients
from keras import ops

from keras_facemargin import pooling
from keras_facemargin.pooling import MediaPooling, QualityPooling

pytestmark = pytest.mark.any_backend


def reference(features, quality, quality_weight, media=None):
    """The pooled template by the paper's formulas and plain loops in float64."""
    count = len(features)
    logits = []
    for d in map(float, quality):
        if d <= 0:
            logits.append(-7.0)
        elif d >= 1:
            logits.append(7.0)
        else:
            logits.append(max(-7.0, min(0.5 * math.log(d / (1 - d)), 7.0)))
    media = list(range(count)) if media is None else list(media)
    members = {m: [k for k in range(count) if media[k] == m] for m in media}
    medium_logit = {m: sum(logits[k] for k in ks) / len(ks) for m, ks in members.items()}
    total = sum(math.exp(quality_weight * value) for value in medium_logit.values())
    pooled = [0.0] * len(features[0])
    for m, ks in members.items():
        for k in ks:
            weight = math.exp(quality_weight * medium_logit[m]) / total / len(ks)
            for i, x in enumerate(features[k]):
                pooled[i] += weight * float(x)
    length = math.sqrt(sum(x * x for x in pooled))
    return [x / length for x in pooled]


def templates(seed, count=5, most=7, size=6):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, most, size)).astype("float32")
    quality = rng.uniform(0.02, 0.999, size=(count, most)).astype("float32")
    media = rng.integers(0, 3, size=(count, most))
    present = np.arange(most) < rng.integers(1, most + 1, size=(count, 1))
    return features, quality, media, rng.permuted(present, axis=1)


def gradient_of(function, values):
    tensor = ops.convert_to_tensor(np.asarray(values, "float32"))
    return value_and_gradients(function, tensor)[1]


def array(tensor):
    return ops.convert_to_numpy(tensor)


def cut(present, *arrays):
    """Template by template, without the padding."""
    for number, keep in enumerate(present):
        yield tuple(values[number][keep] for values in arrays)


@pytest.mark.parametrize(
    ("quality", "logit"),
    [
        (0.5, 0.0),
        (0.75, 0.549306),
        (0.9, 1.098612),
        (0.99, 2.297560),
        (0.999, 3.453377),
        (0.99999917, 7.0),
        (1.0, 7.0),
        (0.25, -0.549306),
        (0.0, -7.0),
    ],
)
def test_logits_at_worked_points(quality, logit):
    assert float(pooling.quality_logits(quality)) == pytest.approx(logit, abs=2e-5, rel=4e-3)
    if 0.01 < quality < 0.9999:
        assert float(pooling.quality_logits(quality)) == pytest.approx(logit, abs=1e-5)


@pytest.mark.parametrize(
    ("quality_weight", "weights"),
    [
        (0.0, (1 / 3, 1 / 3, 1 / 3)),
        (0.3, (0.541047, 0.266954, 0.191999)),
        (1.0, (0.887662, 0.084253, 0.028084)),
    ],
)
def test_weights_at_worked_points(quality_weight, weights):
    # Orthogonal features: the pooled vector is the weights, divided by their length.
    pooled = array(
        pooling.quality_pooling(np.eye(3)[None], np.array([[0.999, 0.9, 0.5]]), quality_weight)
    )[0]
    np.testing.assert_allclose(pooled / pooled.sum(), weights, atol=1e-5)


@pytest.mark.parametrize("quality_weight", [0.0, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("with_media", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_function_equals_the_loops(quality_weight, with_media, seed):
    features, quality, media, present = templates(seed)
    given = media if with_media else None
    expected = [
        reference(f, q, quality_weight, m if with_media else None)
        for f, q, m in cut(present, features, quality, media)
    ]
    padded = pooling.quality_pooling(
        features, quality, quality_weight, present=present, media=given
    )
    np.testing.assert_allclose(array(padded), expected, atol=2e-6)

    numbers = np.nonzero(present)[0]
    rows, qualities = features[present], quality[present]
    in_a_row = pooling.segment_pooling(
        rows,
        numbers,
        5,
        quality=qualities,
        quality_weight=quality_weight,
        media=numbers * 3 + media[present] if with_media else None,
        num_media=15 if with_media else None,
    )
    np.testing.assert_allclose(array(in_a_row), expected, atol=2e-6)

    mixed = np.random.default_rng(seed).permutation(len(numbers))
    names = np.array([f"template {number}" for number in numbers])[mixed]
    videos = np.array([f"video {medium}" for medium in media[present]])[mixed]
    by_name, ids = pooling.pool_templates(
        rows[mixed],
        names,
        quality=qualities[mixed],
        quality_weight=quality_weight,
        media_ids=videos if with_media else None,
    )
    assert by_name.dtype == np.float32
    assert list(ids) == [f"template {number}" for number in range(5)]
    np.testing.assert_allclose(by_name, expected, atol=2e-6)


def test_media_and_video_pooling_equal_the_loops():
    features, _, media, present = templates(7)
    by_media = array(pooling.media_pooling(features, media, present=present))
    plain = array(pooling.video_pooling(features, present=present))
    for number, (f, m) in enumerate(cut(present, features, media)):
        means = [f[m == medium].mean(axis=0) for medium in np.unique(m)]
        mean = np.mean(means, axis=0)
        np.testing.assert_allclose(by_media[number], mean / np.linalg.norm(mean), atol=2e-6)
        mean = f.mean(axis=0)
        np.testing.assert_allclose(plain[number], mean / np.linalg.norm(mean), atol=2e-6)


def test_identities():
    features, quality, media, present = templates(3)
    mean = array(pooling.video_pooling(features, present=present))
    for pooled in (
        pooling.quality_pooling(features, quality, 0.0, present=present),
        pooling.quality_pooling(features, np.full_like(quality, 0.3), 2.0, present=present),
        pooling.quality_pooling(
            features, quality, 2.0, present=present, media=np.zeros_like(media)
        ),
        pooling.media_pooling(features, np.zeros_like(media), present=present),
        pooling.media_pooling(
            features, np.broadcast_to(np.arange(7), media.shape), present=present
        ),
    ):
        np.testing.assert_allclose(array(pooled), mean, atol=1e-6)
    np.testing.assert_allclose(
        array(pooling.quality_pooling(features, quality, 0.0, present=present, media=media)),
        array(pooling.media_pooling(features, media, present=present)),
        atol=1e-6,
    )
    # One image per medium: plain quality pooling. A very large λ: the best image alone.
    alone = np.broadcast_to(np.arange(7), media.shape)
    np.testing.assert_allclose(
        array(pooling.quality_pooling(features, quality, 1.5, present=present, media=alone)),
        array(pooling.quality_pooling(features, quality, 1.5, present=present)),
        atol=1e-6,
    )
    best = array(pooling.quality_pooling(features, quality, 1e5))
    chosen = features[np.arange(5), quality.argmax(axis=1)]
    np.testing.assert_allclose(
        best, chosen / np.linalg.norm(chosen, axis=1, keepdims=True), atol=1e-6
    )


def test_invariances():
    features, quality, media, present = templates(4)
    pooled = array(pooling.quality_pooling(features, quality, 0.7, present=present, media=media))
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1.0, atol=1e-6)
    order = np.random.default_rng(0).permutation(7)
    moved = pooling.quality_pooling(
        features[:, order], quality[:, order], 0.7, present=present[:, order], media=media[:, order]
    )
    np.testing.assert_allclose(array(moved), pooled, atol=1e-6)
    np.testing.assert_allclose(
        array(
            pooling.quality_pooling(50 * features, quality, 0.7, present=present, media=9 - media)
        ),
        pooled,
        atol=1e-6,
    )
    # Padding has no effect, even if it is NaN.
    dirty = np.where(present[..., None], features, np.nan)
    np.testing.assert_array_equal(
        array(
            pooling.quality_pooling(
                dirty, np.where(present, quality, 1), 0.7, present=present, media=media
            )
        ),
        array(pooling.quality_pooling(features, quality, 0.7, present=present, media=media)),
    )
    # One more frame of a medium does not change a template of media.
    twice = np.concatenate([features, features[:, :1]], axis=1)
    media = np.broadcast_to(np.arange(7), media.shape)
    again = np.concatenate([media, media[:, :1]], axis=1)
    np.testing.assert_allclose(
        array(pooling.media_pooling(twice, again)),
        array(pooling.media_pooling(features, media)),
        atol=1e-6,
    )


def test_one_image_is_its_own_template():
    face = np.array([[[3.0, 4.0]]], "float32")
    for quality in (0.0, 0.5, 1.0):
        pooled = pooling.quality_pooling(face, np.array([[quality]]), 30.0)
        np.testing.assert_allclose(array(pooled), [[0.6, 0.8]], atol=1e-6)


def test_a_template_without_an_image_is_zero():
    features, quality, media, present = templates(5)
    present[2] = False
    for given in (None, media):
        pooled = array(
            pooling.quality_pooling(features, quality, 1.0, present=present, media=given)
        )
        np.testing.assert_array_equal(pooled[2], 0.0)
        np.testing.assert_allclose(np.linalg.norm(np.delete(pooled, 2, axis=0), axis=1), 1.0, 1e-5)
    pooled = array(pooling.segment_pooling(np.eye(2, dtype="float32"), [0, 2], 3))
    np.testing.assert_allclose(pooled, [[1, 0], [0, 0], [0, 1]], atol=1e-6)


@pytest.mark.parametrize("with_media", [False, True])
def test_gradients_equal_finite_differences(with_media):
    features, quality, media, present = templates(6, count=2, most=4, size=3)
    quality = quality.clip(0.2, 0.8)
    weights = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    given = media if with_media else None

    def loss(q):
        pooled = pooling.quality_pooling(features, q, 0.9, present=present, media=given)
        return ops.sum(pooled * ops.convert_to_tensor(weights))

    def exact(q):
        pooled = [
            reference(f, p, 0.9, m if with_media else None)
            for f, p, m in cut(present, features, q, media)
        ]
        return float(np.sum(np.array(pooled) * weights))

    slopes = gradient_of(loss, quality)
    for place in np.ndindex(quality.shape):
        step = np.zeros(quality.shape)
        step[place] = 1e-5
        expected = (exact(quality + step) - exact(quality - step)) / 2e-5
        assert slopes[place] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("d", [0.0, 0.5, 1.0, 1e-8, 1 - 1e-7])
@pytest.mark.parametrize("quality_weight", [0.0, 1.0, 50.0])
def test_gradients_are_finite_at_the_ends(d, quality_weight):
    features, quality, _, present = templates(8)
    quality[:, :3] = d
    present[1] = False
    quality_slopes = gradient_of(
        lambda q: ops.sum(
            pooling.quality_pooling(features, q, quality_weight, present=present)[:, 0]
        ),
        quality,
    )
    feature_slopes = gradient_of(
        lambda f: ops.sum(
            pooling.quality_pooling(f, quality, quality_weight, present=present)[:, 0]
        ),
        np.where(present[..., None], features, 0).astype("float32"),
    )
    assert np.isfinite(quality_slopes).all()
    assert np.isfinite(feature_slopes).all()
    assert not np.any(feature_slopes[~present])
    if d in (0.0, 1.0):
        assert not np.any(quality_slopes[:, :3])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_layers_compute_in_float32_in_mixed_precision(policy):
    features, quality, media, present = templates(9)
    features *= 300  # squares of such lengths overflow half precision
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        by_quality, by_media = QualityPooling(0.8), MediaPooling()
        pooled = by_quality(features, quality, present, media)
        averaged = by_media(features, media, present)
    finally:
        keras.config.set_dtype_policy(before)
    assert by_quality.compute_dtype == by_media.compute_dtype == "float32"
    for got, expected in (
        (pooled, pooling.quality_pooling(features, quality, 0.8, present=present, media=media)),
        (averaged, pooling.media_pooling(features, media, present=present)),
    ):
        assert keras.backend.standardize_dtype(got.dtype) == "float32"
        np.testing.assert_allclose(array(got), array(expected), atol=1e-6)


def template_model(images=None):
    features = keras.Input((images, 6), name="features")
    quality = keras.Input((images,), name="quality")
    media = keras.Input((images,), dtype="int32", name="media")
    present = keras.Input((images,), dtype="bool", name="present")
    outputs = [
        QualityPooling(0.8)(features, quality, present, media),
        MediaPooling()(features, media, present),
        QualityPooling(0.8)(features, quality),
    ]
    return keras.Model([features, quality, media, present], outputs)


def test_an_old_config_loads():
    config = pooling.QualityPooling(0.5).get_config()
    config["lam"] = config.pop("quality_weight")
    assert pooling.QualityPooling.from_config(config).quality_weight == 0.5


def test_a_saved_graph_of_any_template_length(tmp_path):
    model = template_model()
    assert [output.shape for output in model.outputs] == [(None, 6)] * 3
    model.save(tmp_path / "pool.keras")
    restored = keras.models.load_model(tmp_path / "pool.keras")
    for most in (1, 7):
        features, quality, media, present = templates(10, most=most)
        for a, b, c in zip(
            restored([features, quality, media, present]),
            model([features, quality, media, present]),
            [
                pooling.quality_pooling(features, quality, 0.8, present=present, media=media),
                pooling.media_pooling(features, media, present=present),
                pooling.quality_pooling(features, quality, 0.8),
            ],
            strict=True,
        ):
            np.testing.assert_allclose(array(a), array(b), atol=1e-6)
            np.testing.assert_allclose(array(a), array(c), atol=1e-6)


def test_attenuation():
    scores = [0.55, 0.55, 0.55, 0.0, -0.2]
    a, b = [0.9, 0.7, 0.9, 0.1, 0.1], [0.9, 0.9, 0.6, 0.9, 0.9]
    expected = [0.55, 0.5, 0.5, 0.0, -0.2]
    got = pooling.attenuate(scores, a, b, threshold=0.7, ratio=1.1)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_array_equal(pooling.attenuate(scores, b, a, threshold=0.7, ratio=1.1), got)
    np.testing.assert_array_equal(pooling.attenuate(scores, a, b, threshold=0.7, ratio=1.0), scores)
    np.testing.assert_array_equal(pooling.attenuate(scores, a, b, threshold=0.0, ratio=3.0), scores)


@pytest.mark.parametrize("numbers", [[0, 2**32], [0, 5], [0, -1], [0.0, 0.6], ["0", "1"]])
def test_a_template_or_medium_number_out_of_range_is_refused(numbers):
    features = np.ones((2, 3), "float32")
    for arguments in (
        {"templates": numbers, "num_templates": 2},
        {"templates": [0, 1], "num_templates": 2, "media": numbers, "num_media": 2},
    ):
        with pytest.raises(ValueError, match=r"must be integers in \[0, 2\).*Received"):
            pooling.segment_pooling(features, **arguments)


@pytest.mark.parametrize("media", [[[0, 2**32, 0]], [["a", "b", "a"]], [[2**24, 2**24 + 1, 2**24]]])
def test_media_differ_in_any_type(media):
    features = np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    pooled = keras.ops.convert_to_numpy(pooling.media_pooling(features, np.array(media)))
    np.testing.assert_allclose(pooled, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


@pytest.mark.parametrize("wrong", ["1", None, [1.0], float("nan")])
def test_a_number_of_the_wrong_type_is_named(wrong):
    scores = ([0.5], [0.5], [0.5])
    for name, call in (
        ("quality_weight", lambda: pooling.QualityPooling(wrong)),
        ("threshold", lambda: pooling.attenuate(*scores, threshold=wrong, ratio=2.0)),
        ("ratio", lambda: pooling.attenuate(*scores, threshold=0.5, ratio=wrong)),
        ("num_templates", lambda: pooling.segment_pooling([[1.0]], [0], wrong)),
    ):
        with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
            call()


def test_the_gradient_of_features_that_cancel_out_is_bounded():
    features = np.array([[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], "float32")
    weights = keras.ops.convert_to_tensor([[1.0, 2.0]])
    for pool in (
        pooling.video_pooling,
        lambda x: pooling.media_pooling(x, np.zeros((2, 2), "int32")),
        lambda x: pooling.segment_pooling(keras.ops.reshape(x, (4, 2)), [0, 0, 1, 1], 2),
    ):
        value, gradient = value_and_gradient(
            lambda x, pool=pool: keras.ops.sum(weights * pool(x)), features
        )
        assert value == 0 and 0 < np.abs(gradient).max() <= 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f, q: pooling.quality_pooling(f, q, -0.1),
            r"`quality_weight` .* Received: quality_weight=-0.1",
        ),
        (lambda f, q: pooling.quality_pooling(f, q, float("nan")), r"Received: quality_weight=nan"),
        (lambda f, q: QualityPooling(-1), r"Received: quality_weight=-1"),
        (lambda f, q: QualityPooling(1, dtype="float16"), "Received: dtype='float16'"),
        (lambda f, q: MediaPooling(dtype="mixed_bfloat16"), "Received: dtype='bfloat16'"),
        (lambda f, q: pooling.quality_pooling(f, q + 1, 1), r"in \[0, 1\].*index \(0, 0\)"),
        (lambda f, q: pooling.quality_pooling(f, q * np.nan, 1), r"nan at index \(0, 0\)"),
        (lambda f, q: pooling.quality_pooling(f, q[:, 1:], 1), r"`quality`.*\(5, 7\).*\(5, 6\)"),
        (lambda f, q: pooling.quality_pooling(f[0], q[0], 1), r"\(T, K, D\).*\(7, 6\)"),
        (lambda f, q: pooling.media_pooling(f, q[0]), r"`media` .*Received: shape \(7,\)"),
        (
            lambda f, q: pooling.video_pooling(f, present=q[:2] > 0),
            r"`present` .*Received: shape \(2, 7\)",
        ),
        (
            lambda f, q: pooling.segment_pooling(f[0], q[0] > 2, 1, quality_weight=1),
            "quality_weight=1 without quality",
        ),
        (
            lambda f, q: pooling.segment_pooling(f[0], q[0] > 2, 1, media=q[0] > 2),
            "must be given together",
        ),
        (lambda f, q: pooling.segment_pooling(f, q, 1), r"`features`.*\(N, D\)"),
        (lambda f, q: pooling.segment_pooling(f[0], q[0, 1:], 1), r"`templates` .*shape \(6,\)"),
        (lambda f, q: pooling.pool_templates(f[0], [1, 2]), r"`template_ids`.*Received: shape \(2"),
        (lambda f, q: pooling.pool_templates(f[0, :0], []), r"N > 0"),
        (
            lambda f, q: pooling.pool_templates(f[0], range(7), quality=q[0, 1:], quality_weight=1),
            r"`quality`.*shape \(6,\)",
        ),
        (
            lambda f, q: pooling.attenuate([0.5], [2], [1], threshold=0.5, ratio=1.1),
            r"`quality_a` must be in",
        ),
        (
            lambda f, q: pooling.attenuate([0.5], [1], [1, 1], threshold=0.5, ratio=1.1),
            r"`quality_b` .*\(2,\)",
        ),
        (
            lambda f, q: pooling.attenuate([0.5], [1], [1], threshold=1.5, ratio=1.1),
            "Received: threshold=1.5",
        ),
        (
            lambda f, q: pooling.attenuate([0.5], [1], [1], threshold=0.5, ratio=0.9),
            "Received: ratio=0.9",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    features, quality, _, _ = templates(0)
    with pytest.raises(ValueError, match=message):
        call(features, quality)
