import keras
import numpy as np
import pytest

from keras_facemargin import AdaCos, ArcFace, CosFace, MarginClassifier, SoftmaxHead, SphereFace
from keras_facemargin.callbacks import MarginRamp, ScaleRamp

pytestmark = pytest.mark.any_backend


def classifier(head):
    keras.utils.set_random_seed(0)
    embedder = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
        ]
    )
    model = MarginClassifier(embedder, head)
    model.compile(keras.optimizers.SGD(0.01))
    return model


def faces(count=32):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (count, 4, 4, 3)).astype("float32"), rng.integers(0, 5, count)


class Record(keras.callbacks.Callback):
    def __init__(self, weight):
        super().__init__()
        self.weight, self.values = weight, []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.values.append(float(keras.ops.convert_to_numpy(self.weight)))


def values(model, weight, ramp, epochs=4, **kwargs):
    record = Record(weight)
    images, labels = faces()
    model.fit(
        images, labels, batch_size=8, epochs=epochs, verbose=0, callbacks=[ramp, record], **kwargs
    )
    return record.values


def test_the_margin_grows_with_each_batch_up_to_its_full_value():
    model = classifier(CosFace(5, scale=16.0))
    got = values(model, model.head.margin_weight, MarginRamp(epochs=2, after=1))
    expected = np.clip((np.arange(16) / 4 - 1) / 2, 0, 1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_scale_grows_to_that_of_the_head():
    model = classifier(ArcFace(5, scale=64.0))
    got = values(model, model.head.scale_weight, ScaleRamp(epochs=3, start=16.0))
    np.testing.assert_allclose(got, 16 + 48 * np.clip(np.arange(16) / 12, 0, 1), rtol=1e-6)


def test_a_resumed_run_continues_the_ramp():
    whole = classifier(CosFace(5, scale=16.0))
    expected = values(whole, whole.head.margin_weight, MarginRamp(epochs=4), epochs=4)
    resumed = classifier(CosFace(5, scale=16.0))
    got = values(
        resumed, resumed.head.margin_weight, MarginRamp(epochs=4), epochs=4, initial_epoch=2
    )
    assert got == expected[8:]


def test_a_share_of_cosface_is_a_smaller_margin():
    images, labels = faces()
    ramped, smaller = classifier(CosFace(5, 0.4, 16.0)), classifier(CosFace(5, 0.1, 16.0))
    smaller.head.prototypes.assign(keras.ops.convert_to_numpy(ramped.head.prototypes))
    ramped.head.margin_weight.assign(0.25)
    losses = [m.evaluate(images, labels, verbose=0)[0] for m in (ramped, smaller)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_share_is_saved_with_the_classifier(tmp_path):
    model = classifier(CosFace(5, scale=16.0))
    model.head.margin_weight.assign(0.5)
    model.save(tmp_path / "run.keras")
    loaded = keras.models.load_model(tmp_path / "run.keras")
    assert float(keras.ops.convert_to_numpy(loaded.head.margin_weight)) == 0.5


@pytest.mark.parametrize("head", [SoftmaxHead, SphereFace, AdaCos])
def test_a_scale_that_is_not_fixed_is_not_ramped(head):
    model = classifier(head(5))
    images, labels = faces()
    with pytest.raises(ValueError, match=r"fixed scale.*Received"):
        model.fit(images, labels, verbose=0, callbacks=[ScaleRamp(2, start=4.0)])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: MarginRamp(epochs=0), "`epochs`"),
        (lambda: MarginRamp(epochs=1, start=1.5), "`start`"),
        (lambda: MarginRamp(epochs=1, after=-1), "`after`"),
        (lambda: ScaleRamp(epochs=1, start=0), "`start`"),
    ],
)
def test_bad_arguments_are_refused_with_the_rule(make, rule):
    with pytest.raises(ValueError, match=rule) as error:
        make()
    assert "Received" in str(error.value)


def test_another_model_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"MarginClassifier.*Received"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[MarginRamp(1)])
