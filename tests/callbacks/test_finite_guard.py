import keras
import numpy as np
import pytest

from keras_facemargin import CosFace, MarginClassifier
from keras_facemargin.callbacks import FiniteGuard

pytestmark = pytest.mark.any_backend


@keras.saving.register_keras_serializable("tests")
class Explodes(keras.layers.Layer):
    """Divides by zero where the first pixel is dark."""

    def call(self, x):
        return x / keras.ops.cast(x[:, :1, :1, :1] > 0, x.dtype)


def classifier(**kwargs):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    x = keras.layers.Rescaling(1 / 128, name="rescale")(image)
    x = Explodes(name="explodes")(x)
    x = keras.layers.Dense(6, name="embed")(keras.layers.Flatten()(x))
    model = MarginClassifier(keras.Model(image, x), CosFace(5, scale=16.0))
    model.compile(keras.optimizers.SGD(0.01), **kwargs)
    return model


def faces():
    rng = np.random.default_rng(0)
    images = rng.uniform(1, 255, (24, 4, 4, 3)).astype("float32")
    return images, rng.integers(0, 5, 24)


def fit(model, images, labels, guard):
    return model.fit(
        images, labels, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[guard]
    )


def test_it_names_layer_and_sample_and_leaves_the_weights():
    images, labels = faces()
    images[13, 0, 0, 0] = 0
    model, guard = classifier(), FiniteGuard()
    with pytest.raises(FloatingPointError, match=r"'explodes'") as error:
        fit(model, images, labels, guard)
    assert "epoch 0, batch 1: 1 of 8 samples, the first at index 5" in str(error.value)
    assert guard.culprit["layer"] == "explodes" and guard.culprit["label"] == labels[13]
    np.testing.assert_array_equal(guard.culprit["image"], images[13])
    if keras.backend.backend() != "jax":
        assert all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights)


def test_a_damaged_weight_is_named():
    images, labels = faces()
    model = classifier()
    model.embedder.get_layer("embed").bias.assign(np.full(6, np.nan))
    with pytest.raises(FloatingPointError, match=r"embed/bias is not finite"):
        fit(model, images, labels, FiniteGuard())


def test_a_damaged_image_is_named():
    images, labels = faces()
    images[3] = np.inf
    with pytest.raises(FloatingPointError, match=r"index 3.*image itself"):
        fit(classifier(), images, labels, FiniteGuard())


def test_a_finite_embedder_leaves_the_head():
    images, labels = faces()
    model = classifier()
    model.head.scale_weight.assign(np.nan)
    with pytest.raises(FloatingPointError, match=r"/scale of the head is not finite"):
        fit(model, images, labels, FiniteGuard())


def test_a_head_of_finite_weights_may_still_overflow():
    images, labels = faces()
    model = classifier()
    model.head.margin_weight.assign(3e38)  # times s m overflows
    with pytest.raises(FloatingPointError, match=r"largest is .*: it is the head"):
        fit(model, images, labels, FiniteGuard())


def test_a_finite_run_is_unchanged_and_the_guard_is_removed():
    images, labels = faces()
    watched, free = classifier(), classifier()
    free.head.prototypes.assign(keras.ops.convert_to_numpy(watched.head.prototypes))
    losses = [fit(watched, images, labels, FiniteGuard()).history["loss"]]
    plain = free.fit(images, labels, batch_size=8, epochs=3, shuffle=False, verbose=0)
    losses.append(plain.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert watched.guard is None
    images[0, 0, 0, 0] = 0
    history = watched.fit(images, labels, batch_size=24, verbose=0).history
    assert not np.isfinite(history["loss"]).all()


def test_another_model_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"MarginClassifier.*Received"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[FiniteGuard()])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="jax compiles and can call out")
def test_xla_on_tensorflow_is_refused_with_the_rule():
    images, labels = faces()
    with pytest.raises(ValueError, match=r"jit_compile=True.*jit_compile=False"):
        fit(classifier(jit_compile=True), images, labels, FiniteGuard())
