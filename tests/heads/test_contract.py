"""The contract of every head that `keras_facemargin.heads` exports.

The contract includes every exported head; a new one fails until it has a plain-loop reference in
`tests/references.py`. Settings that take another path go to `SETTINGS` in `cases.py`.
"""

import inspect

import cases
import keras
import numpy as np
import pytest
import references
import write_values
from cases import BATCH, CASES, CLASSES, DIM, HEADS, batch, make
from gradients import sum_of_losses, value_and_gradients
from processes import finish, start
from strategies import replicas

from keras_facemargin import heads
from keras_facemargin.heads.margin_head import blocks

pytestmark = [
    pytest.mark.any_backend,
    # A default may be low for the seven classes of these tests.
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
TENSORFLOW = keras.backend.backend() == "tensorflow"
# Heads that take different paths through the core.
PATHS = ("CosFace", "SphereFace", "L2Softmax", "SubCenterArcFace", "CurricularFace", "SphereFace2")


def for_cases(quick, among=CASES):
    """A property of cases; those that are not in `quick` are slow tests."""
    return pytest.mark.parametrize(
        "case", [pytest.param(c, marks=() if c in quick else pytest.mark.slow) for c in among]
    )


# Properties that depend on a head's settings run for every setting, properties that come from
# `MarginHead` for its defaults, properties of the core for each path. jax and torch run the same
# code: there each path runs, because `test_backends_agree` compares the losses, gradients and state
# of every head.
SETTINGS = CASES if TENSORFLOW else PATHS
DEFAULTS = HEADS if TENSORFLOW else PATHS
every_setting = for_cases(SETTINGS)
every_head = for_cases(DEFAULTS)
every_path = for_cases(PATHS)
# Backends differ in the gradients of functions at their edges.
every_setting_at_the_edges = for_cases(CASES if TENSORFLOW else HEADS)
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="promised on tensorflow only")


@pytest.fixture(autouse=True)
def blocks_of_four(monkeypatch):
    """Seven classes make a block and a rest."""
    monkeypatch.setattr(blocks, "WIDTH", 4)


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def precision():
    """float64 where Keras computes in it: not on jax by default, and not in torch's `matmul`."""
    return ("float64", 1e-9) if keras.backend.backend() == "tensorflow" else ("float32", 2e-4)


def prepared(case, seed=0, **kwargs):
    """A built head, after a training batch if it has state; the batch; and its reference."""
    head = make(case, **kwargs)
    head.build((None, DIM))
    embeddings, labels, prototypes = batch(seed, shape=head.prototypes_shape)
    head.prototypes.assign(prototypes)
    if type(head).update_state is not heads.MarginHead.update_state:
        head.compute_losses(embeddings.astype(head.compute_dtype), labels, training=True)
    return head, embeddings, labels, prototypes, references.of(head)


def test_every_path_is_a_default_of_a_head():
    assert set(PATHS) <= set(HEADS)


def test_every_exported_head_has_a_case():
    exported = {n for n in heads.__all__ if isinstance(getattr(heads, n), type)}
    assert exported - {"MarginHead", "CrystalLoss"} == set(HEADS)
    assert set(cases.SETTINGS) <= set(HEADS)
    assert heads.CrystalLoss is heads.L2Softmax


@every_setting
def test_losses_equal_the_plain_loop_reference(case):
    dtype, tolerance = precision()
    head, embeddings, labels, prototypes, reference = prepared(case, dtype=dtype)
    expected, expected_losses = reference(embeddings, labels, prototypes)
    embeddings = keras.ops.convert_to_tensor(embeddings, dtype=dtype)
    logits = as_numpy(head(embeddings, labels))
    losses = as_numpy(head.compute_losses(embeddings, labels)[0])
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)
    again = type(head).from_config(head.get_config())
    assert again.get_config() == head.get_config()


@every_setting
def test_gradients_equal_finite_differences_of_the_reference(case):
    """Along random directions, which an error in any entry changes."""
    dtype, _ = precision()
    tolerance = 2e-2 if dtype == "float32" else 2e-5
    head, embeddings, labels, prototypes, reference = prepared(case, 3, dtype=dtype)
    _, by_embeddings, by_prototypes = sum_of_losses(head, embeddings, labels)
    kept_still = embeddings.copy(), prototypes.copy()

    def loss():
        return reference(embeddings, labels, prototypes, at=kept_still)[1].sum()

    rng, step = np.random.default_rng(5), 1e-6
    for array, gradient in ((embeddings, by_embeddings), (prototypes, by_prototypes)):
        here = array.copy()
        for _ in range(2):
            direction = rng.normal(size=array.shape)
            array[:] = here + step * direction
            above = loss()
            array[:] = here - step * direction
            slope = (above - loss()) / (2 * step)
            array[:] = here
            scale = max(1.0, float(np.abs(gradient).max()))
            assert np.sum(gradient * direction) == pytest.approx(slope, abs=tolerance * scale)


@every_head
def test_the_loss_does_not_depend_on_block_width_or_kept_products(case, monkeypatch):
    values = []
    ways = [(CLASSES, False), (2, True)]
    if case in (PATHS if TENSORFLOW else PATHS[:1]):
        ways.append((2, False))
    for width, blockwise in ways:
        monkeypatch.setattr(blocks, "WIDTH", width)
        keras.utils.set_random_seed(3)
        head, embeddings, labels, _, _ = prepared(case, blockwise=blockwise)
        found = sum_of_losses(head, embeddings, labels, training=True)
        correct = as_numpy(head.compute_losses(embeddings.astype("float32"), labels)[1])
        values.append((*found, correct, *map(as_numpy, head.weights)))
    for other in values[1:]:
        for a, b in zip(values[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6 * np.abs(a).max(initial=1))


@every_setting_at_the_edges
def test_value_and_gradient_are_finite_at_the_edges(case):
    """Embeddings on their prototype, opposite, a rounding error away, zero, and of norm 1e4."""
    head = make(case)
    head.build((None, DIM))
    rows = np.eye(CLASSES, DIM, dtype="float32") + 0.1
    rows[5] = rows[6] = rows[0]  # identical prototypes
    rounding = np.float32([1, 1, 1, 1, 1 + 1e-7])
    zero = np.zeros(DIM, "float32")
    edges = np.stack([rows[0], -rows[0], rows[0] * rounding, zero, 1e4 * rows[1]])
    edges = np.resize(edges, (BATCH, DIM))  # as many as in other tests: jax compiles for each shape
    labels = np.zeros(BATCH, "int32")
    assign_rows(head, rows)
    loss, by_embeddings, by_prototypes = sum_of_losses(head, edges, labels)
    assert all(np.isfinite(value).all() for value in (loss, by_embeddings, by_prototypes))
    assert np.abs(by_embeddings[3]).max() < 1e5  # of the zero embedding; 1 / norm would be 1e6
    assert np.abs(by_prototypes).max() < 1e6
    zeros = rows.copy()
    zeros[:2] = 0.0
    assign_rows(head, zeros)
    for value in sum_of_losses(head, np.repeat(rows[2:3], BATCH, axis=0), labels):
        assert np.isfinite(value).all() and np.abs(value).max() < 1e5


def assign_rows(head, rows):
    """The same prototype of a class for each of its sub-centres."""
    shape = head.prototypes_shape
    rows = rows.reshape(CLASSES, *(1,) * (len(shape) - 2), DIM)
    head.prototypes.assign(np.broadcast_to(rows, shape))


@every_head
def test_a_nan_embedding_makes_only_its_own_loss_nan(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    expected = as_numpy(head.compute_losses(embeddings, labels)[0])
    embeddings[3, 1] = np.nan
    losses, correct = map(as_numpy, head.compute_losses(embeddings, labels))
    assert np.flatnonzero(np.isnan(losses)).tolist() == [3] and correct[3] == 0
    np.testing.assert_allclose(np.delete(losses, 3), np.delete(expected, 3), rtol=1e-5, atol=1e-6)


@every_setting_at_the_edges
def test_the_margin_is_finite_for_cosines_rounded_past_one(case):
    """Calls the hooks, because no test can make a product of unit vectors exceed 1."""
    head = make(case)
    head.build((None, DIM))
    cosines = np.float32([[1.0], [-1.0], [1 + 1.2e-7], [-1 - 1.2e-7], [0.0]])
    prototypes = keras.ops.convert_to_tensor(as_numpy(head.prototypes)[:1].repeat(5, axis=0))
    norms = keras.ops.full((5, 1), 2.0)

    def total(cosine):
        labels = np.zeros(5, "int32")
        margined = head.target_similarity(cosine, norms, prototypes, labels, True)
        others = head.other_similarities(cosine, cosine, margined)
        return keras.ops.sum(head.logits(margined + others, norms))

    for value in value_and_gradients(total, keras.ops.convert_to_tensor(cosines)):
        assert np.isfinite(value).all()


@for_cases(SETTINGS, [case for case in CASES if case not in cases.RISING])
def test_a_wider_angle_never_scores_higher(case):
    head = make(case)
    head.build((None, 2))
    head.prototypes.assign(np.broadcast_to([1.0, 0.0], head.prototypes_shape))
    angles = np.linspace(0, np.pi, 721)
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype("float32")
    target = as_numpy(head(x, np.zeros(721, "int32")))[:, 0]
    assert (np.diff(target) < 1e-4).all()
    assert target[0] - target[360] > 0.4 and target[360] - target[-1] > 5e-3


@every_setting
def test_without_labels_the_logits_are_plain_and_decide_what_is_correct(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    plain = as_numpy(head(embeddings))
    assert plain.shape == (BATCH, CLASSES)
    assert head.compute_output_shape((BATCH, DIM)) == (BATCH, CLASSES)
    margined = as_numpy(head(embeddings, labels))
    assert (margined[np.arange(BATCH), labels] <= plain[np.arange(BATCH), labels] + 1e-4).all()
    correct = as_numpy(head.compute_losses(embeddings, labels)[1])
    np.testing.assert_array_equal(correct, plain.argmax(1) == labels)


@every_head
def test_a_margin_weight_of_zero_gives_the_plain_logits(case):
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


@for_cases(DEFAULTS, [case for case, (_, given) in CASES.items() if "detach_margin" not in given])
def test_detaching_the_margin_keeps_the_value_and_takes_the_plain_gradient(case):
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


@every_head
def test_a_saved_and_loaded_head_continues_with_the_same_losses(case, tmp_path):
    """In a functional model, as users save it; with the head's state and its random margins."""
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
    np.testing.assert_array_equal(as_numpy(loaded(inputs)), as_numpy(model(inputs)))
    again = next(layer for layer in loaded.layers if isinstance(layer, type(head)))
    for _ in range(2):
        losses = [
            as_numpy(h.compute_losses(embeddings, labels, training=True)[0]) for h in (head, again)
        ]
        np.testing.assert_array_equal(*losses)
    for first, second in zip(head.weights, again.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(first), as_numpy(second))


@every_head
def test_computes_in_float32_under_a_mixed_policy(case):
    check_under_policy("mixed_float16", case, CLASSES, [CLASSES - 1, 3])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_labels_stay_integers_under_a_mixed_policy(policy, monkeypatch):
    """65,505 is not a float16."""
    monkeypatch.setattr(blocks, "WIDTH", 40_000)
    check_under_policy(policy, "CosFace", 70_000, [69_999, 65_505])


def check_under_policy(policy, case, classes, labels):
    keras.config.set_dtype_policy(policy)
    try:
        head = make(case, classes)
        head.build((None, DIM))
        # Norm 1e4: float16 holds it, its square it does not.
        half = keras.ops.cast(np.full((2, DIM), 1e4 / DIM**0.5), policy.removeprefix("mixed_"))
        losses, _ = head.compute_losses(half, np.array(labels), training=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    assert np.isfinite(as_numpy(losses)).all()
    assert all(np.isfinite(as_numpy(weight)).all() for weight in head.weights)


def test_every_head_reads_labels_as_margin_head_does():
    """So `margin_head/test_labels.py` is true for all of them."""
    for name in HEADS:
        assert not {"__call__", "call", "compute_losses"} & set(vars(getattr(heads, name)))


@every_head
def test_a_sample_labelled_minus_one_has_no_loss_and_no_gradient(case):
    head, embeddings, labels, _, _ = prepared(case)
    embeddings = embeddings.astype("float32")
    ignored = labels.copy()
    ignored[[0, 5, 11]] = -1
    valid = ignored >= 0
    losses, correct = map(as_numpy, head.compute_losses(embeddings, ignored))
    whole = as_numpy(head.compute_losses(embeddings, labels)[0])
    assert (losses[~valid] == 0).all() and (correct[~valid] == 0).all()
    np.testing.assert_allclose(losses[valid], whole[valid], rtol=1e-5, atol=1e-5)
    _, by_embeddings, _ = sum_of_losses(head, embeddings, ignored)
    assert (by_embeddings[~valid] == 0).all() and (by_embeddings[valid] != 0).any(1).all()
    plain = as_numpy(head(embeddings))
    np.testing.assert_allclose(
        as_numpy(head(embeddings, ignored))[~valid], plain[~valid], rtol=1e-6
    )
    start = [as_numpy(weight) for weight in head.weights]
    ends = []
    for x, y in ((embeddings, ignored), (embeddings[valid], labels[valid])):
        for weight, value in zip(head.weights, start, strict=True):
            weight.assign(value)
        head.compute_losses(x, y, training=True)
        ends.append([as_numpy(weight) for weight in head.weights])
    for first, second in zip(*ends, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


@every_head
def test_an_empty_or_ignored_batch_has_no_loss_and_changes_no_statistic(case):
    head = prepared(case)[0]
    before = {w.path: as_numpy(w) for w in head.weights}
    for labels in ([], [-1, -1]):
        x = np.ones((len(labels), DIM), "float32")
        found = head.compute_losses(x, np.array(labels, "int32"), training=True)
        for values in found:
            assert as_numpy(values).tolist() == [0.0] * len(labels)
    for weight in head.weights:
        if not weight.path.endswith("step"):  # a counter of batches, not a statistic of samples
            np.testing.assert_array_equal(as_numpy(weight), before[weight.path])


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (np.array([0, CLASSES]), "num_classes"),
        (np.array([-2, 0]), "num_classes"),
        (np.array([0.0, 1.0]), "integers"),
        (np.eye(2, CLASSES, dtype="int32"), "sparse"),
    ],
)
def test_bad_labels_are_refused_with_the_rule(labels, rule):
    with pytest.raises(ValueError, match=rule) as error:
        make("CosFace")(np.ones((2, DIM), "float32"), labels)
    assert "Received" in str(error.value)


@pytest.mark.parametrize("case", HEADS)
def test_bad_arguments_are_refused_with_the_rule(case):
    head = getattr(heads, case)
    accepted = {"dtype", *inspect.signature(head.__init__).parameters}
    for name, value, rule in (
        ("num_classes", 1, "num_classes"),
        ("num_classes", 2.5, "num_classes"),
        ("dtype", "float16", "float32"),
        ("scale", -1.0, "scale"),
        ("margin", (-0.1, 0.5) if case == "MagFace" else -0.1, "margin"),
        ("variant", "other", "variant"),
        ("continuation", "other", "continuation"),
    ):
        if name in accepted:
            with pytest.raises(ValueError, match=rule) as error:
                head(**{"num_classes": 5, name: value})
            assert "Received" in str(error.value)


@every_path
@on_tensorflow
def test_xla_equals_the_eager_step(case):
    import tensorflow as tf

    head, embeddings, labels, _, _ = prepared(case)
    x, y = tf.constant(embeddings, "float32"), tf.constant(labels)

    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(head.compute_losses(x, y)[0])
        return loss, tape.gradient(loss, x)

    compiled = tf.function(step, jit_compile=True, autograph=False)
    for first, second in zip(step(x, y), compiled(x, y), strict=True):
        scale = np.abs(first.numpy()).max()
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5 * scale)


# A counter, a bias and a statistic; other paths do not differ by replicas, and are slow tests.
@for_cases(("SphereFace", "L2Softmax", "CurricularFace"))
@on_tensorflow
def test_two_replicas_train_as_one_device(case, monkeypatch):
    """Three steps, the second with unequal shares, the third with none for one; with state.

    One device takes its steps eagerly, because a trace takes longer than they do.
    """
    import tensorflow as tf

    monkeypatch.setattr(blocks, "WIDTH", CLASSES)  # more blocks take long to trace
    rng = np.random.default_rng(0)
    sizes = (8, 7, 1)
    x = [rng.normal(size=(n, DIM)).astype("float32") * 3 for n in sizes]
    y = [
        np.append(rng.integers(0, CLASSES, n - 1), -1 if n == 7 else 0).astype("int32")
        for n in sizes
    ]
    ends = []
    for count in (1, 2):
        strategy = replicas(2) if count == 2 else tf.distribute.get_strategy()
        keras.utils.set_random_seed(7)
        with strategy.scope():
            head = make(case)
            head.build((None, DIM))
            head.prototypes.assign(batch(shape=head.prototypes_shape)[2])
            optimizer = keras.optimizers.SGD(0.001)
            optimizer.build(head.trainable_variables)

        def step(x, y, count=count, head=head, optimizer=optimizer):
            share = -(-tf.shape(y)[0] // count)
            first = tf.distribute.get_replica_context().replica_id_in_sync_group * share
            x, y = x[first : first + share], y[first : first + share]
            variables = [v.value for v in head.trainable_variables]
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(head.compute_losses(x, y, training=True)[0])
            optimizer.apply(tape.gradient(loss, variables), head.trainable_variables)
            return loss

        run = tf.function(  # of any batch size, so that one trace does for all steps
            lambda x, y, s=strategy, f=step: s.run(f, (x, y)),
            input_signature=[tf.TensorSpec((None, DIM)), tf.TensorSpec((None,), tf.int32)],
            autograph=False,
        )
        losses = [
            strategy.reduce("SUM", (run if count == 2 else step)(*pair), axis=None).numpy()
            for pair in zip(x, y, strict=True)
        ]
        ends.append((losses, [as_numpy(w) for w in head.weights]))
        if count == 2:
            for weight in head.weights:
                copies = [v.numpy() for v in strategy.experimental_local_results(weight.value)]
                np.testing.assert_array_equal(*copies)
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4)
    for first, second in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(first, second, rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="session")
def every_backend(request, tmp_path_factory):
    """Losses and gradients of the cases of this run: here, and on jax and torch in processes."""
    folder = tmp_path_factory.mktemp("backends")
    items = [item for item in request.session.items if item.originalname == "test_backends_agree"]
    names = [item.callspec.params["case"] for item in items]
    files = {backend: folder / f"{backend}.npz" for backend in ("jax", "torch")}
    others = [
        start(write_values.__file__, file, *names, KERAS_BACKEND=backend)
        for backend, file in files.items()
    ]
    values = {"tensorflow": write_values.values_of(names)}
    for code, _, errors in finish(*others):
        assert code == 0, errors
    return {**values, **{backend: dict(np.load(file)) for backend, file in files.items()}}


@every_head
@on_tensorflow
def test_backends_agree(case, every_backend):
    """To 1e-6 of the largest entry; gradients through an arctangent in float32 to 2e-6."""
    parts = {"losses": 1e-6, "state": 1e-6, "by_embeddings": 2e-6, "by_prototypes": 2e-6}
    for part, tolerance in parts.items():
        first, *others = (values[f"{case}/{part}"] for values in every_backend.values())
        scale = max(1.0, np.abs(first).max(initial=0.0))
        for other in others:
            np.testing.assert_allclose(first / scale, other / scale, rtol=0, atol=tolerance)
