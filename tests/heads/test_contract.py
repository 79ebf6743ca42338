"""What every head promises, for each head that `keras_facemargin.heads` exports.

A new head joins by being exported, and is told what is missing: its plain-loop reference in
`tests/references.py`. Settings that take another path go to `SETTINGS` in `cases.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import cases
import keras
import numpy as np
import pytest
import references
from cases import BATCH, CASES, CLASSES, DIM, HEADS, batch, make
from gradients import sum_of_losses, value_and_gradients
from strategies import replicas

from keras_facemargin import heads
from keras_facemargin.heads.margin_head import blocks

pytestmark = [
    pytest.mark.any_backend,
    # A default may be low for the seven classes of these tests.
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
every_head = pytest.mark.parametrize("case", CASES)
every_default = pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in HEADS else pytest.mark.slow) for c in CASES]
)
# What takes long: settings besides the default are slow tests on jax and torch.
every_head_here = every_head if keras.backend.backend() == "tensorflow" else every_default
# What proves the core rather than a head runs for heads that take different paths through it.
PATHS = ("CosFace", "SphereFace", "L2Softmax", "SubCenterArcFace", "CurricularFace", "SphereFace2")
every_path = pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in PATHS else pytest.mark.slow) for c in CASES]
)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="promised on tensorflow only"
)


@pytest.fixture(autouse=True)
def blocks_of_four(monkeypatch):
    """Seven classes make a block and a rest."""
    monkeypatch.setattr(blocks, "WIDTH", 4)


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def precision():
    """float64 where Keras multiplies in it: not on jax by default, and not in torch's `matmul`."""
    return ("float64", 1e-9) if keras.backend.backend() == "tensorflow" else ("float32", 2e-4)


def prepared(case, seed=0, **kwargs):
    """A built head whose state has moved, its batch, and its reference."""
    head = make(case, **kwargs)
    head.build((None, DIM))
    embeddings, labels, prototypes = batch(seed, shape=head.prototypes_shape)
    head.prototypes.assign(prototypes)
    head.compute_losses(embeddings.astype(head.compute_dtype), labels, training=True)
    return head, embeddings, labels, prototypes, references.of(head)


def test_every_path_is_a_default_of_a_head():
    assert set(PATHS) <= set(HEADS)


def test_every_exported_head_has_a_case():
    exported = {n for n in heads.__all__ if isinstance(getattr(heads, n), type)}
    assert exported - {"MarginHead", "CrystalLoss"} == set(HEADS)
    assert set(cases.SETTINGS) <= set(HEADS)
    assert heads.CrystalLoss is heads.L2Softmax


@every_head
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_the_plain_loop_reference(case, seed):
    dtype, tolerance = precision()
    head, embeddings, labels, prototypes, reference = prepared(case, seed, dtype=dtype)
    expected, expected_losses = reference(embeddings, labels, prototypes)
    embeddings = keras.ops.convert_to_tensor(embeddings, dtype=dtype)
    logits = as_numpy(head(embeddings, labels))
    losses = as_numpy(head.compute_losses(embeddings, labels)[0])
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)


@every_head_here
def test_gradients_equal_finite_differences_of_the_reference(case):
    dtype, _ = precision()
    tolerance = 2e-2 if dtype == "float32" else 2e-5
    head, embeddings, labels, prototypes, reference = prepared(case, 3, dtype=dtype)
    _, by_embeddings, by_prototypes = sum_of_losses(head, embeddings, labels)
    kept_still = embeddings.copy(), prototypes.copy()

    def loss():
        return reference(embeddings, labels, prototypes, at=kept_still)[1].sum()

    step = 1e-6
    for array, gradient in ((embeddings, by_embeddings), (prototypes, by_prototypes)):
        slopes = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = loss()
            array[index] = kept - step
            below = loss()
            array[index] = kept
            slopes[index] = (above - below) / (2 * step)
        scale = max(1.0, abs(slopes).max())
        np.testing.assert_allclose(gradient, slopes, rtol=tolerance, atol=tolerance * scale)


@every_head_here
def test_blocks_of_any_width_with_or_without_kept_products_are_one_loss(case, monkeypatch):
    values = []
    for width, blockwise in ((CLASSES, False), (2, False), (2, True)):
        monkeypatch.setattr(blocks, "WIDTH", width)
        keras.utils.set_random_seed(3)
        head, embeddings, labels, _, _ = prepared(case, blockwise=blockwise)
        found = sum_of_losses(head, embeddings, labels, training=True)
        hits = as_numpy(head.compute_losses(embeddings.astype("float32"), labels)[1])
        values.append((*found, hits, *map(as_numpy, head.weights)))
    for other in values[1:]:
        for a, b in zip(values[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6 * np.abs(a).max(initial=1))


@every_head
@pytest.mark.parametrize(
    "embedding",
    ["on its prototype", "opposite", "a rounding error away", "zero", "zero prototype", "norm 1e4"],
)
def test_value_and_gradient_are_finite_at_the_edges(case, embedding):
    head = make(case)
    head.build((None, DIM))
    rows = np.eye(CLASSES, DIM, dtype="float32") + 0.1
    rows[5] = rows[6] = rows[0]  # identical prototypes
    if embedding == "zero prototype":
        rows[:2] = 0.0
    shape = head.prototypes_shape
    head.prototypes.assign(
        np.broadcast_to(rows.reshape(CLASSES, *(1,) * (len(shape) - 2), DIM), shape)
    )
    x = {
        "on its prototype": rows[:1],
        "opposite": -rows[:1],
        "a rounding error away": rows[:1] * np.float32([1, 1, 1, 1, 1 + 1e-7]),
        "zero": np.zeros((1, DIM), "float32"),
        "zero prototype": rows[2:3],
        "norm 1e4": 1e4 * rows[1:2],
    }[embedding]
    for value in sum_of_losses(head, x, np.array([0])):
        assert np.isfinite(value).all()
        if embedding.startswith("zero"):  # without a direction, and 1 / norm would be 1e6
            assert np.abs(value).max() < 1e5


@every_default
def test_an_embedding_that_is_not_a_number_costs_itself_nan_and_no_other(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    expected = as_numpy(head.compute_losses(embeddings, labels)[0])
    embeddings[3, 1] = np.nan
    losses, hits = map(as_numpy, head.compute_losses(embeddings, labels))
    assert np.flatnonzero(np.isnan(losses)).tolist() == [3] and hits[3] == 0
    np.testing.assert_allclose(np.delete(losses, 3), np.delete(expected, 3), rtol=1e-5, atol=1e-6)


@every_head
@pytest.mark.parametrize("cosine", [1.0, -1.0, 1 + 1.2e-7, -1 - 1.2e-7, 0.0])
def test_the_margin_is_finite_where_rounding_leaves_a_cosine(case, cosine):
    """The hooks themselves: no test can ask a product of unit vectors to pass 1."""
    head = make(case)
    head.build((None, DIM))
    own = keras.ops.convert_to_tensor(as_numpy(head.prototypes)[:1])
    norms = keras.ops.convert_to_tensor([[2.0]])

    def total(cosine):
        moved = head.target_similarity(cosine, norms, own, np.array([0], "int32"), True)
        others = head.other_similarities(cosine, cosine, moved)
        return keras.ops.sum(head.logits(moved + others, norms))

    for value in value_and_gradients(total, keras.ops.convert_to_tensor([[cosine]], "float32")):
        assert np.isfinite(value).all()


@every_head
def test_a_wider_angle_never_scores_higher(case):
    if case in cases.RISING:
        pytest.skip("published so that it rises again, kept for parity")
    head = make(case)
    head.build((None, 2))
    head.prototypes.assign(np.broadcast_to([1.0, 0.0], head.prototypes_shape))
    angles = np.linspace(0, np.pi, 721)
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype("float32")
    target = as_numpy(head(x, np.zeros(721, "int32")))[:, 0]
    assert (np.diff(target) < 1e-4).all()
    assert target[0] - target[360] > 0.4 and target[360] - target[-1] > 5e-3


@every_head
def test_without_labels_gives_the_plain_logits_that_hits_are_counted_on(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    plain = as_numpy(head(embeddings))
    assert plain.shape == (BATCH, CLASSES)
    assert head.compute_output_shape((BATCH, DIM)) == (BATCH, CLASSES)
    margined = as_numpy(head(embeddings, labels))
    assert (margined[np.arange(BATCH), labels] <= plain[np.arange(BATCH), labels] + 1e-4).all()
    hits = as_numpy(head.compute_losses(embeddings, labels)[1])
    np.testing.assert_array_equal(hits, plain.argmax(1) == labels)


@every_head
def test_with_no_share_of_the_margin_every_head_is_plain(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    head.margin_weight.assign(0.0)
    plain = as_numpy(head(embeddings))
    np.testing.assert_allclose(as_numpy(head(embeddings, labels)), plain, rtol=1e-5, atol=1e-4)
    head.margin_weight.assign(0.5)
    half = as_numpy(head(embeddings, labels))
    head.margin_weight.assign(1.0)
    whole = as_numpy(head(embeddings, labels))
    np.testing.assert_allclose(half, (plain + whole) / 2, rtol=1e-5, atol=1e-3)


@every_head
def test_detaching_the_margin_keeps_the_value_and_takes_the_plain_gradient(case):
    if "detach" in case or "gradient" in case:
        pytest.skip("a setting of that very argument")
    gradients = []
    for detach in (False, True):
        head = make(case, detach_margin=detach)
        head.build((None, DIM))
        x, y, w = batch(2, shape=head.prototypes_shape)
        head.prototypes.assign(w)
        gradients.append(sum_of_losses(head, x, y))
        assert head.get_config()["detach_margin"] is detach
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], rtol=1e-5)
    no_margin = ("Softmax", "NormFace", "L2Softmax", "AdaCos")
    same = np.allclose(gradients[0][1], gradients[1][1], rtol=1e-4, atol=1e-4)
    # A number subtracted or added has no gradient.
    constant = ("CosFace", "UniFace", "ElasticFace am", "MVSoftmax am fixed")
    assert same == case.startswith((*no_margin, *constant)), case


@every_head_here
def test_saved_and_loaded_goes_on_as_if_never_stopped(case, tmp_path):
    """Inside a functional model, so that any Keras user's file holds; state and draws included."""
    head = make(case)
    embedding = keras.Input((DIM,))
    label = keras.Input((), dtype="int32")
    model = keras.Model([embedding, label], head(embedding, label))
    embeddings, labels, _ = batch()
    embeddings = embeddings.astype("float32")
    head.compute_losses(embeddings, labels, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    inputs = [embeddings, labels.astype("int32")]
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )
    again = next(layer for layer in loaded.layers if isinstance(layer, type(head)))
    for _ in range(2):
        losses = [
            as_numpy(h.compute_losses(embeddings, labels, training=True)[0]) for h in (head, again)
        ]
        np.testing.assert_array_equal(*losses)
    for first, second in zip(head.weights, again.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(first), as_numpy(second))


@every_head
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_computes_in_float32_under_a_mixed_policy(case, policy, monkeypatch):
    monkeypatch.setattr(blocks, "WIDTH", 40_000)
    keras.config.set_dtype_policy(policy)
    try:
        head = make(case, 70_000)
        head.build((None, DIM))
        # Norm 1e4: float16 holds it, its square it does not. Label 65,505 is no float16 at all.
        half = keras.ops.cast(np.full((2, DIM), 1e4 / DIM**0.5), policy.removeprefix("mixed_"))
        losses, _ = head.compute_losses(half, np.array([69_999, 65_505]), training=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    assert np.isfinite(as_numpy(losses)).all()
    assert all(np.isfinite(as_numpy(weight)).all() for weight in head.weights)


@every_head
def test_labels_may_come_as_a_column_and_in_any_integer_type(case):
    head = make(case)
    embeddings, labels, _ = batch()
    expected = as_numpy(head(embeddings, labels))
    for other in (labels[:, None], labels.astype("uint8"), labels.astype("int64")):
        np.testing.assert_array_equal(as_numpy(head(embeddings, other)), expected)


@every_head
def test_a_sample_labelled_minus_one_costs_and_teaches_nothing(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    ignored = labels.copy()
    ignored[[0, 5, 11]] = -1
    known = ignored >= 0
    losses, hits = map(as_numpy, head.compute_losses(embeddings, ignored))
    whole = as_numpy(head.compute_losses(embeddings, labels)[0])
    assert (losses[~known] == 0).all() and (hits[~known] == 0).all()
    np.testing.assert_allclose(losses[known], whole[known], rtol=1e-5, atol=1e-5)
    _, by_embeddings, _ = sum_of_losses(head, embeddings, ignored)
    assert (by_embeddings[~known] == 0).all() and (by_embeddings[known] != 0).any(1).all()
    plain = as_numpy(head(embeddings))
    np.testing.assert_allclose(
        as_numpy(head(embeddings, ignored))[~known], plain[~known], rtol=1e-6
    )
    start = [as_numpy(weight) for weight in head.weights]
    ends = []
    for x, y in ((embeddings, ignored), (embeddings[known], labels[known])):
        for weight, value in zip(head.weights, start, strict=True):
            weight.assign(value)
        head.compute_losses(x, y, training=True)
        ends.append([as_numpy(weight) for weight in head.weights])
    for first, second in zip(*ends, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


@every_head
@pytest.mark.parametrize("labels", [[], [-1, -1]], ids=["empty", "all ignored"])
def test_a_batch_of_nothing_gives_nothing_and_moves_no_statistic(case, labels):
    head = prepared(case)[0]
    before = {w.path: as_numpy(w) for w in head.weights}
    x = np.ones((len(labels), DIM), "float32")
    losses, hits = head.compute_losses(x, np.array(labels, "int32"), training=True)
    assert as_numpy(losses).tolist() == as_numpy(hits).tolist() == [0.0] * len(labels)
    for weight in head.weights:
        if not weight.path.endswith("step"):  # a counter of batches, not a statistic of samples
            np.testing.assert_array_equal(as_numpy(weight), before[weight.path])


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
    head = make(case)
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
        ({"num_classes": 5, "scale": -1.0}, "scale"),
        ({"num_classes": 5, "margin": -0.1}, "margin"),
        ({"num_classes": 5, "variant": "other"}, "variant"),
        ({"num_classes": 5, "continuation": "other"}, "continuation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_answered_with_the_rule(case, arguments, rule):
    name, others = CASES[case]
    head = getattr(heads, name)
    arguments = {**others, **arguments}
    unknown = set(arguments) - set(make(case).get_config())
    if unknown:
        pytest.skip(f"has no {unknown.pop()}")
    if case == "SphereFaceR unscaled" and rule == "scale":
        pytest.skip("has no scale")
    if name in ("L2Softmax", "AdaCos", "SoftmaxHead") and rule in ("margin", "scale"):
        pytest.skip(f"has no {rule}")
    if name == "MagFace" and rule == "margin":
        arguments["margin"] = (-0.1, 0.5)
    with pytest.raises(ValueError, match=rule) as error:
        head(**arguments)
    assert "Received" in str(error.value)


@every_path
@on_tensorflow
def test_xla_equals_the_graph(case):
    import tensorflow as tf

    head, embeddings, labels, _, _ = prepared(case)
    x, y = tf.constant(embeddings, "float32"), tf.constant(labels)

    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(head.compute_losses(x, y)[0])
        return loss, tape.gradient(loss, x)

    graph, xla = (tf.function(step, jit_compile=jit)(x, y) for jit in (False, True))
    for first, second in zip(graph, xla, strict=True):
        scale = np.abs(first.numpy()).max()
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5 * scale)


@every_path
@on_tensorflow
def test_two_replicas_train_as_one_device(case, monkeypatch):
    """Five steps, the third a remainder, the fourth with nothing for one: state included."""
    import tensorflow as tf

    monkeypatch.setattr(blocks, "WIDTH", CLASSES)  # more blocks take long to trace
    rng = np.random.default_rng(0)
    sizes = (8, 8, 7, 1, 8)
    x = [rng.normal(size=(n, DIM)).astype("float32") * 3 for n in sizes]
    y = [
        np.append(rng.integers(0, CLASSES, n - 1), -1 if n == 7 else 0).astype("int32")
        for n in sizes
    ]
    ends = []
    for count in (1, 2):
        strategy = replicas(count)
        keras.utils.set_random_seed(7)
        with strategy.scope():
            head = make(case)
            head.build((None, DIM))
            head.prototypes.assign(batch(shape=head.prototypes_shape)[2])
            optimizer = keras.optimizers.SGD(0.001)
            optimizer.build(head.trainable_variables)

        def step(x, y, head=head, optimizer=optimizer):
            variables = [v.value for v in head.trainable_variables]
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(head.compute_losses(x, y, training=True)[0])
            optimizer.apply(tape.gradient(loss, variables), head.trainable_variables)
            return loss

        run = tf.function(
            lambda x, y, s=strategy, f=step: s.run(f, (x, y)),
            reduce_retracing=True,
            autograph=False,
        )
        losses = []
        for a, b in zip(x, y, strict=True):
            cut = -(-len(a) // count)
            parts = [
                strategy.experimental_distribute_values_from_function(
                    lambda c, v=v, cut=cut: tf.constant(v[c.replica_id_in_sync_group * cut :][:cut])
                )
                for v in (a, b)
            ]
            losses.append(strategy.reduce("SUM", run(*parts), axis=None).numpy())
        ends.append((losses, [as_numpy(w) for w in head.weights]))
        if count == 2:
            for weight in head.weights:
                copies = [v.numpy() for v in strategy.experimental_local_results(weight.value)]
                np.testing.assert_array_equal(*copies)
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4)
    for first, second in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(first, second, rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="session")
def every_backend(tmp_path_factory):
    """Losses and gradients of every case on tensorflow, jax and torch, a process each."""
    folder = tmp_path_factory.mktemp("backends")
    script = Path(__file__).with_name("write_values.py")
    values = {}
    for backend in ("tensorflow", "jax", "torch"):
        path = folder / f"{backend}.npz"
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        subprocess.run([sys.executable, script, path], env=environment, check=True)
        values[backend] = dict(np.load(path))
    return values


@every_head
@on_tensorflow
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_backends_agree(case, other, every_backend):
    """To 1e-6 of the largest entry; gradients through an arctangent in float32 to 2e-6."""
    parts = {"losses": 1e-6, "state": 1e-6, "by_embeddings": 2e-6, "by_prototypes": 2e-6}
    for part, tolerance in parts.items():
        first, second = (every_backend[b][f"{case}/{part}"] for b in ("tensorflow", other))
        scale = max(1.0, np.abs(first).max(initial=0.0))
        np.testing.assert_allclose(first / scale, second / scale, rtol=0, atol=tolerance)
