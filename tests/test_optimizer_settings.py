"""Settings of an optimizer act on several replicas and with `sample_rate` as on one device with all
prototypes, or `compile` refuses them by name.
"""

import contextlib
import inspect

import keras
import numpy as np
import pytest
from keras import optimizers
from strategies import replicas

from keras_facemargin import CosFace, MarginClassifier

PEOPLE, BATCH = 4, 5
TENSORFLOW = keras.backend.backend() == "tensorflow"
ALL_ROWS = 0.9  # of 4 prototypes: each step draws all of them

# The arguments of Keras' optimizers, each in a case with equal results ...
EQUAL = {
    "momentum": lambda: optimizers.SGD(
        0.05, momentum=0.9, nesterov=True, weight_decay=0.1, loss_scale_factor=8.0, name="mine"
    ),
    "clipnorm": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.5, 9), clipnorm=0.05),
    "clipvalue": lambda: optimizers.SGD(0.5, clipvalue=0.01),
    "global_clipnorm": lambda: optimizers.SGD(0.5, global_clipnorm=0.05),
    "adam": lambda: optimizers.Adam(
        0.05, beta_1=0.8, beta_2=0.9, epsilon=0.1, amsgrad=True, clipnorm=0.1
    ),
    "adamw": lambda: optimizers.AdamW(0.05, weight_decay=0.1),
    "loss scale": lambda: optimizers.LossScaleOptimizer(
        inner_optimizer=optimizers.SGD(0.5, global_clipnorm=0.05),
        initial_scale=8.0,
        dynamic_growth_steps=2,
    ),
}
# ... or refused under a strategy, with a sample, or in both.
REFUSED_BY_STRATEGY = {
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "ema_overwrite_frequency": {"use_ema": True, "ema_overwrite_frequency": 2},
}
REFUSED_BY_SAMPLE = {
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "use_ema": {"use_ema": True},
}
UNFIT_FOR_SAMPLES = ("Adafactor", "ScheduleFreeAdamW")
DECIDED = {
    *("learning_rate", "momentum", "nesterov", "weight_decay", "loss_scale_factor", "name"),
    *("clipnorm", "clipvalue", "global_clipnorm"),
    *("beta_1", "beta_2", "epsilon", "amsgrad"),
    *("inner_optimizer", "initial_scale", "dynamic_growth_steps"),
    *("use_ema", "ema_momentum"),  # equal on replicas, refused by a sample
    *REFUSED_BY_STRATEGY,
}


def make(optimizer, strategy=None, rate=1.0):
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(1)
        image = keras.Input((4, 4, 3))
        x = keras.layers.Rescaling(1 / 128, offset=-1)(image)
        embedder = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
        classifier = MarginClassifier(embedder, CosFace(PEOPLE, scale=16.0, sample_rate=rate))
        classifier.compile(optimizer())
    return classifier


def faces():
    images = np.random.default_rng(0).uniform(0, 255, (3 * BATCH, 4, 4, 3)).astype("float32")
    return images, np.arange(len(images)) % PEOPLE


def trained(classifier, images=None):
    """Embedder's weights and prototypes after three steps."""
    given, labels = faces()
    images = given if images is None else images
    classifier.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)
    variables = (*classifier.embedder.trainable_variables, classifier.head.prototypes)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_same(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.Optimizer,
        optimizers.SGD,
        optimizers.Adam,
        optimizers.AdamW,
        optimizers.LossScaleOptimizer,
    ],
    ids=lambda o: o.__name__,
)
def test_every_argument_of_keras_has_a_case_or_a_refusal(optimizer):
    """For a new argument in Keras add a case, or a refusal in `compile`."""
    parameters = inspect.signature(optimizer).parameters.items()
    assert {name for name, each in parameters if "VAR" not in each.kind.name} <= DECIDED


@pytest.mark.any_backend
def test_every_optimizer_of_keras_is_listed():
    """For a new optimizer: does it keep a row of state, of equal first numbers, per prototype?"""
    assert {name for name, value in vars(optimizers).items() if inspect.isclass(value)} == {
        *("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon"),
        *("Nadam", "RMSprop", "SGD", *UNFIT_FOR_SAMPLES),
        *("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"),
    }


@pytest.mark.any_backend
@pytest.mark.parametrize("name", EQUAL)
def test_settings_mean_the_same_on_two_replicas_with_a_sample(name):
    """The two replicas get three and two images of a batch; the sample is of all prototypes."""
    one = trained(make(EQUAL[name]))
    assert_same(trained(make(EQUAL[name], replicas(2) if TENSORFLOW else None, ALL_ROWS)), one)


def test_averages_mean_the_same_on_two_replicas():
    def averaged():
        return optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)

    one, plain = trained(make(averaged)), trained(make(lambda: optimizers.SGD(0.5)))
    assert np.abs(one[0] - plain[0]).max() > 0.01
    assert_same(trained(make(averaged, replicas(2))), one)


def test_a_step_that_overflows_on_one_replica_is_skipped_on_both():
    """The fifth image of a batch goes to the second replica."""
    images, _ = faces()
    images[BATCH - 1] = np.inf
    made = make(
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.05), initial_scale=8.0), replicas(2)
    )
    assert all(np.isfinite(weight).all() for weight in trained(made, images))
    assert made.optimizer.dynamic_scale.numpy() == 4.0
    assert made.optimizer.inner_optimizer.iterations.numpy() == 2


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", REFUSED_BY_STRATEGY)
def test_settings_that_fail_under_a_strategy_are_refused_by_name(name, count):
    value = REFUSED_BY_STRATEGY[name][name]

    def inside():
        return optimizers.LossScaleOptimizer(optimizers.SGD(0.05, **REFUSED_BY_STRATEGY[name]))

    with pytest.raises(
        ValueError, match=rf"{name}={value}.*Received: SGD\({name}={value}\). Leave"
    ):
        make(inside, replicas(count))
    make(inside)  # one device can


@pytest.mark.any_backend
@pytest.mark.parametrize("name", REFUSED_BY_SAMPLE)
def test_settings_that_span_steps_are_refused_with_a_sample(name):
    def optimizer():
        return optimizers.SGD(0.05, **REFUSED_BY_SAMPLE[name])

    with pytest.raises(ValueError, match=rf"`sample_rate`.*`{name}`.*Received: .*{name}=.*Leave"):
        make(optimizer, rate=0.5)
    make(optimizer)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", UNFIT_FOR_SAMPLES)
def test_state_that_is_not_a_row_for_each_prototype_is_refused_with_a_sample(name):
    with pytest.raises(ValueError, match=rf"a row of state.*Received: {name}\. Use SGD"):
        make(getattr(optimizers, name), rate=0.5)


@pytest.mark.any_backend
def test_a_used_optimizer_is_refused_with_a_sample():
    """Its momentum belongs to the prototypes that the last step drew."""
    classifier = make(lambda: optimizers.SGD(0.05, momentum=0.9), rate=ALL_ROWS)
    trained(classifier)
    with pytest.raises(ValueError, match=r"must be new.*Received: SGD that has trained"):
        classifier.compile(classifier.optimizer)


@pytest.mark.any_backend
def test_weight_decay_excludes_prototypes_and_their_sample_together():
    def without(*names):
        optimizer = optimizers.SGD(0.05, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(var_names=names)
        return optimizer

    with pytest.raises(ValueError, match=r"'sample'.*'prototypes'.*excludes one.*Name both"):
        make(lambda: without("prototypes"), rate=0.5)
    make(lambda: without("prototypes", "sample"), rate=0.5)


def test_a_model_saved_with_a_refused_setting_is_loaded_without_its_optimizer(tmp_path):
    """It was trained on one device and is loaded for several."""
    saved = make(lambda: optimizers.SGD(0.05, gradient_accumulation_steps=2))
    saved.save(tmp_path / "saved.keras")
    rule = r"without its optimizer, compile it. Under a strategy.*gradient_accumulation_steps=2"
    with replicas(1).scope(), pytest.warns(UserWarning, match=rule):
        opened = keras.saving.load_model(tmp_path / "saved.keras")
    assert getattr(opened, "optimizer", None) is None
    images, _ = faces()
    np.testing.assert_allclose(
        opened.predict(images, verbose=0), saved.predict(images, verbose=0), rtol=1e-6
    )
