"""What every head promises, for each head that `keras_facemargin.heads` exports.

A new head joins by a line in CASES: how to make it and its plain-loop reference.
"""

import keras
import numpy as np
import pytest
import references
from gradients import sum_of_losses

from keras_facemargin import heads

CLASSES, DIM, BATCH = 7, 5, 12

# head name -> (constructor arguments, reference taking (embeddings, labels, prototypes))
CASES = {
    "SoftmaxHead": (
        "SoftmaxHead",
        {},
        lambda x, y, w: references.softmax(x, y, w, np.zeros(CLASSES)),
    ),
    "NormFace": ("NormFace", {"scale": 30.0}, lambda x, y, w: references.normface(x, y, w, 30)),
    "NormFace learned": (
        "NormFace",
        {"scale": 15.0, "learn_scale": True},
        lambda x, y, w: references.normface(x, y, w, 15),
    ),
    "L2Softmax": (
        "L2Softmax",
        {},
        lambda x, y, w: references.l2_softmax(x, y, w, np.zeros(CLASSES), 16),
    ),
    "L2Softmax trained alpha": (
        "L2Softmax",
        {"alpha": 14.0, "trainable_alpha": True},
        lambda x, y, w: references.l2_softmax(x, y, w, np.zeros(CLASSES), 14),
    ),
    "SphereFace": (
        "SphereFace",
        {},
        lambda x, y, w: references.sphereface(x, y, w, 4, 1000.0),
    ),
    "SphereFace bare": (
        "SphereFace",
        {"base": 0.0, "minimum": 0.0},
        lambda x, y, w: references.sphereface(x, y, w, 4, 0.0),
    ),
    "SphereFace bare m=3": (
        "SphereFace",
        {"margin": 3, "base": 0.0, "minimum": 0.0},
        lambda x, y, w: references.sphereface(x, y, w, 3, 0.0),
    ),
    "CosFace": ("CosFace", {}, lambda x, y, w: references.cosface(x, y, w, 0.35, 64)),
    "ArcFace": ("ArcFace", {}, lambda x, y, w: references.arcface(x, y, w, 0.5, 64)),
    "ArcFace linear": (
        "ArcFace",
        {"continuation": "linear"},
        lambda x, y, w: references.arcface(x, y, w, 0.5, 64, "linear"),
    ),
    "ArcFace easy": (
        "ArcFace",
        {"continuation": "easy"},
        lambda x, y, w: references.arcface(x, y, w, 0.5, 64, "easy"),
    ),
    "SVSoftmax": (
        "SVSoftmax",
        {},
        lambda x, y, w: references.sv_softmax(x, y, w, "plain", 0, 1.2, 30),
    ),
    "SVSoftmax am": (
        "SVSoftmax",
        {"variant": "am"},
        lambda x, y, w: references.sv_softmax(x, y, w, "am", 0.35, 1.2, 30),
    ),
    "SVSoftmax arc": (
        "SVSoftmax",
        {"variant": "arc"},
        lambda x, y, w: references.sv_softmax(x, y, w, "arc", 0.5, 1.2, 30),
    ),
}

pytestmark = pytest.mark.any_backend
every_head = pytest.mark.parametrize("case", CASES)


def make(case, **kwargs):
    name, arguments, reference = CASES[case]
    return getattr(heads, name)(CLASSES, **arguments, **kwargs), reference


def batch(seed=0, spread=1.5):
    """Embeddings on and around the prototypes, so that every branch of every loss is visited."""
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=(CLASSES, DIM))
    labels = rng.integers(0, CLASSES, BATCH)
    signs = np.where(np.arange(BATCH) % 3 == 0, -1.0, 1.0)[:, None]
    embeddings = signs * prototypes[labels] + spread * rng.normal(size=(BATCH, DIM))
    return embeddings, labels, prototypes


def precision():
    """float64 where Keras multiplies in it: not on jax by default, and not in torch's `matmul`."""
    return ("float64", 1e-9) if keras.backend.backend() == "tensorflow" else ("float32", 2e-4)


def test_every_exported_head_is_proven():
    exported = {n for n in heads.__all__ if isinstance(getattr(heads, n), type)}
    exported -= {"MarginHead", "CrystalLoss"}
    assert exported == {name for name, _, _ in CASES.values()}
    assert heads.CrystalLoss is heads.L2Softmax


@every_head
def test_losses_equal_the_plain_loop_reference(case):
    dtype, tolerance = precision()
    head, reference = make(case, dtype=dtype)
    head.build((None, DIM))
    for seed in range(3):
        embeddings, labels, prototypes = batch(seed)
        head.prototypes.assign(prototypes)
        expected = reference(embeddings, labels, prototypes)
        embeddings = keras.ops.convert_to_tensor(embeddings, dtype=dtype)
        logits = keras.ops.convert_to_numpy(head(embeddings, labels))
        losses = keras.ops.convert_to_numpy(head.judge(embeddings, labels)[0])
        np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            losses, references.cross_entropy(expected, labels), rtol=tolerance, atol=tolerance
        )


@every_head
def test_gradients_equal_finite_differences_of_the_reference(case):
    dtype, _ = precision()
    tolerance = 2e-2 if dtype == "float32" else 2e-5
    head, reference = make(case, dtype=dtype)
    head.build((None, DIM))
    embeddings, labels, prototypes = batch(3)
    head.prototypes.assign(prototypes)
    _, by_embeddings, by_prototypes = sum_of_losses(head, embeddings, labels)

    def loss(embeddings, prototypes):
        return references.cross_entropy(reference(embeddings, labels, prototypes), labels).sum()

    step = 1e-6
    for array, gradient in ((embeddings, by_embeddings), (prototypes, by_prototypes)):
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = loss(embeddings, prototypes)
            array[index] = kept - step
            below = loss(embeddings, prototypes)
            array[index] = kept
            slope = (above - below) / (2 * step)
            assert gradient[index] == pytest.approx(slope, rel=tolerance, abs=tolerance)


@every_head
@pytest.mark.parametrize(
    "embedding", ["on its prototype", "opposite", "a rounding error past 1", "zero", "norm 1e4"]
)
def test_value_and_gradient_are_finite_at_the_edges(case, embedding):
    head, _ = make(case)
    head.build((None, DIM))
    prototypes = np.eye(CLASSES, DIM, dtype="float32") + 0.1
    prototypes[5] = prototypes[6] = prototypes[0]  # identical prototypes
    head.prototypes.assign(prototypes)
    x = {
        "on its prototype": prototypes[:1],
        "opposite": -prototypes[:1],
        "a rounding error past 1": prototypes[:1] * (1 + 1e-7),
        "zero": np.zeros((1, DIM), "float32"),
        "norm 1e4": 1e4 * prototypes[1:2],
    }[embedding]
    for value in sum_of_losses(head, x, np.array([0])):
        assert np.isfinite(value).all()


@every_head
def test_a_wider_angle_never_scores_higher(case):
    if case == "ArcFace easy":
        pytest.skip("published with a jump at pi/2, kept for parity")
    head, _ = make(case)
    head.build((None, 2))
    head.prototypes.assign(np.tile([[1.0, 0.0]], (CLASSES, 1)))
    angles = np.linspace(0, np.pi, 721)
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype("float32")
    target = keras.ops.convert_to_numpy(head(x, np.zeros(721, "int32")))[:, 0]
    assert (np.diff(target) < 1e-4).all()
    assert target[0] - target[360] > 0.4 and target[360] - target[-1] > 0.4


@every_head
def test_without_labels_gives_the_plain_logits_that_hits_are_counted_on(case):
    head, _ = make(case)
    embeddings, labels, _ = batch()
    embeddings = embeddings.astype("float32")
    plain = keras.ops.convert_to_numpy(head(embeddings))
    assert plain.shape == (BATCH, CLASSES)
    assert head.compute_output_shape((BATCH, DIM)) == (BATCH, CLASSES)
    margined = keras.ops.convert_to_numpy(head(embeddings, labels))
    assert (margined[np.arange(BATCH), labels] <= plain[np.arange(BATCH), labels] + 1e-5).all()
    hits = keras.ops.convert_to_numpy(head.judge(embeddings, labels)[1])
    np.testing.assert_array_equal(hits, plain.argmax(1) == labels)


@every_head
def test_saved_and_loaded_inside_a_functional_model(case, tmp_path):
    head, _ = make(case)
    embedding = keras.Input((DIM,))
    label = keras.Input((), dtype="int32")
    model = keras.Model([embedding, label], head(embedding, label))
    embeddings, labels, _ = batch()
    inputs = [embeddings.astype("float32"), labels.astype("int32")]
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), expected)


@every_head
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_computes_in_float32_under_a_mixed_policy(case, policy):
    keras.config.set_dtype_policy(policy)
    try:
        name, arguments, _ = CASES[case]
        head = getattr(heads, name)(70_000, **arguments)
        head.build((None, DIM))
        # Norm 3e4: float16 holds it, its square it does not. Label 65,505 is no float16 at all.
        half = keras.ops.cast(np.full((2, DIM), 3e4 / DIM**0.5), policy.removeprefix("mixed_"))
        losses, _ = head.judge(half, np.array([69_999, 65_505]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(losses)).all()


@every_head
def test_labels_may_come_as_a_column_and_in_any_integer_type(case):
    head, _ = make(case)
    embeddings, labels, _ = batch()
    expected = keras.ops.convert_to_numpy(head(embeddings, labels))
    for other in (labels[:, None], labels.astype("uint8"), labels.astype("int64")):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(head(embeddings, other)), expected)


@every_head
@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (np.array([0, CLASSES]), "num_classes"),
        (np.array([-2, 0]), "num_classes"),
        (np.array([0.0, 1.0]), "integers"),
        (np.eye(2, CLASSES, dtype="int32"), "sparse"),
    ],
)
def test_bad_labels_are_answered_with_the_rule(case, labels, rule):
    head, _ = make(case)
    with pytest.raises(ValueError, match=rule) as error:
        head(np.ones((2, DIM), "float32"), labels)
    assert "Received" in str(error.value)


@every_head
@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"num_classes": 1}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"num_classes": 5, "dtype": "float16"}, "float32"),
    ],
)
def test_bad_arguments_are_answered_with_the_rule(case, arguments, rule):
    name, others, _ = CASES[case]
    with pytest.raises(ValueError, match=rule) as error:
        getattr(heads, name)(**{**others, **arguments})
    assert "Received" in str(error.value)
