"""Blocks of classes: compiled, in `fit`, and how much memory they take."""

import keras
import numpy as np
import pytest
from cases import CLASSES, DIM, batch, make

from keras_facemargin import CosFace, MarginClassifier, SphereFace2
from keras_facemargin.heads.margin_head import blocks

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
BACKEND = keras.backend.backend()


def trained(head, epochs=2):
    """Weights and history after two epochs of `fit` on embeddings themselves."""
    keras.utils.set_random_seed(0)
    images = keras.Input((1, 1, DIM))
    classifier = MarginClassifier(keras.Model(images, keras.layers.Flatten()(images)), head)
    embeddings, labels, prototypes = batch(shape=head.prototypes_shape)
    head.prototypes.assign(prototypes)
    classifier.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    x, y = embeddings[:, None, None].astype("float32"), labels
    history = classifier.fit(x, y, batch_size=5, epochs=epochs, shuffle=False, verbose=0).history
    return history, [keras.ops.convert_to_numpy(weight) for weight in head.weights]


# The contract compares the blocks of every head outside `fit`.
@pytest.mark.parametrize(
    "case",
    [
        "CosFace",
        "AdaCos",
        "SphereFace2",
        pytest.param("SVSoftmax arc", marks=pytest.mark.slow),
        pytest.param("L2Softmax", marks=pytest.mark.slow),
    ],
)
def test_fit_in_blocks_equals_fit_in_one(case, monkeypatch):
    ends = []
    for width, blockwise in ((CLASSES, False), (2, False), (2, True)):
        monkeypatch.setattr(blocks, "WIDTH", width)
        ends.append(trained(make(case, blockwise=blockwise)))
    for history, weights in ends[1:]:
        for name, values in history.items():
            np.testing.assert_allclose(values, ends[0][0][name], rtol=1e-5)
        for ours, whole in zip(weights, ends[0][1], strict=True):
            np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-6)


def test_products_are_kept_up_to_a_bound_or_by_argument():
    def keeps(batch_size, classes, **arguments):
        head = CosFace(classes, **arguments)
        return head._keeps_products(batch_size)

    assert keeps(128, 500_000) and not keeps(128, 600_000)
    assert keeps(None, 130_000) and not keeps(None, 140_000)
    assert keeps(128, 600_000, blockwise=False) and not keeps(2, 3, blockwise=True)
    assert CosFace.from_config(CosFace(9, blockwise=True).get_config()).blockwise is True


@pytest.mark.skipif(BACKEND == "torch", reason="torch makes no graph to look into")
@pytest.mark.parametrize(
    ("blockwise", "head"),
    [
        (True, CosFace),
        (False, CosFace),
        (True, SphereFace2),
        pytest.param(False, SphereFace2, marks=pytest.mark.slow),
    ],
)
def test_no_array_is_as_large_as_the_logits(head, blockwise, monkeypatch):
    """Of all arrays in a compiled step and its loops; kept products count like logits."""
    classes, samples = 50, 37
    monkeypatch.setattr(blocks, "WIDTH", 8)
    head = head(classes, blockwise=blockwise)
    head.build((None, DIM))
    sizes = shapes_in_a_step(head, samples)
    assert sizes, "no shapes were found"
    assert max(sizes) >= classes * DIM  # the gradient of the prototypes
    logits = samples * (classes // 8) * 8
    assert (max(sizes) >= logits) != blockwise


def shapes_in_a_step(head, samples):
    """The number of entries of each floating array that the gradient of a loss makes."""
    x, y = np.ones((samples, DIM), "float32"), np.zeros(samples, "int32")
    if BACKEND == "jax":
        import jax

        def loss(x, values):
            mapping = zip(head.trainable_variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return keras.ops.sum(head.compute_losses(x, y, training=True)[0])

        values = [v.value for v in head.trainable_variables]
        graph = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x, values)
        return list(_sizes_of_jaxpr(graph.jaxpr))
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(head.compute_losses(x, y, training=True)[0])
        return tape.gradient(loss, [x, *(v.value for v in head.trainable_variables)])

    graph = step.get_concrete_function(tf.constant(x)).graph
    functions = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
    outputs = [t for g in functions for op in g.get_operations() for t in op.outputs]
    return [t.shape.num_elements() for t in outputs if t.dtype.is_floating and t.shape.rank]


def _sizes_of_jaxpr(jaxpr):
    from jax.extend import core

    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if np.issubdtype(variable.aval.dtype, np.floating):
                yield variable.aval.size
        for inner in core.jaxprs_in_params(equation.params):
            yield from _sizes_of_jaxpr(inner)
