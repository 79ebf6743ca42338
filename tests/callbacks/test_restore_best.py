import keras
import numpy as np
import pytest
from shades import mean_colour, shade_of, write_shades

from keras_facemargin import CosFace, MarginClassifier
from keras_facemargin.callbacks import RestoreBestByPairs
from keras_facemargin.evaluate import Pairs, evaluate_pairs
from keras_facemargin.evaluate.protocols import View1, evaluate_view_1, read_view_1

pytestmark = pytest.mark.any_backend


@pytest.fixture
def view(tmp_path):
    """Two images each of eight people: four for the threshold, four for the figures."""
    shades = {f"{p}/{i}.png": shade_of(p, 6 * i) for p in range(8) for i in (0, 1)}
    paths = dict(zip(shades, write_shades(tmp_path, shades), strict=True))

    def pairs(people):
        same = [(f"{p}/0.png", f"{p}/1.png") for p in people]
        different = [(f"{p}/0.png", f"{q}/1.png") for p in people for q in people if p < q]
        first, second = zip(*[*same, *different], strict=True)
        return Pairs(
            tuple(paths[name] for name in first),
            tuple(paths[name] for name in second),
            np.arange(len(first)) < len(same),
        )

    return View1(pairs(range(4)), pairs(range(4, 8)))


class Colour(keras.layers.Layer):
    """Mean colour around grey, in parts of one."""

    def call(self, images):
        return keras.ops.mean(images, axis=(1, 2)) / 127.5 - 1.0


def classifier():
    """Starts as the mean colour, which separates the people."""
    keras.utils.set_random_seed(0)
    image = keras.Input((112, 112, 3))
    x = Colour()(image)
    x = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity", name="mix")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = MarginClassifier(keras.Model(image, x), CosFace(4, scale=8.0))
    model.compile(keras.optimizers.SGD(1e-4))
    return model


class Colours(keras.callbacks.Callback):
    """At the end of each epoch sets how many of the three colours the embedder uses."""

    def __init__(self, *counts):
        super().__init__()
        self.counts = counts

    def on_epoch_end(self, epoch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        norm = self.model.embedder.get_layer("norm")
        norm.gamma.assign(np.arange(3) < self.counts[min(epoch, len(self.counts) - 1)])
        norm.beta.assign(np.full(3, 0.01))


def fit(model, callbacks, epochs=3):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (16, 1, 1, 3)) * np.ones((1, 112, 112, 1))
    labels = rng.integers(0, 4, 16)
    return model.fit(
        images.astype("float32"),
        labels,
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )


def numbers(model):
    weights = [*model.embedder.weights, *model.head.weights]
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


def test_it_ends_with_the_weights_that_were_best(view):
    model, best = classifier(), RestoreBestByPairs(view)
    model.embedder.get_layer("norm").gamma.assign(np.zeros(3))
    model.embedder.get_layer("norm").beta.assign(np.ones(3))
    before = numbers(model)
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append((dict(logs), numbers(self.model)))

    history = fit(model, [Colours(1, 3, 0), best, Spy()])
    # Each check is that of `evaluate_view_1` with the weights at that time.
    checks = [(check["view_1_accuracy"], -check["view_1_eer"]) for check in best.history]
    assert len(checks) == 4
    assert [(logs["view_1_accuracy"], -logs["view_1_eer"]) for logs, _ in seen] == checks[1:]
    assert history.history["view_1_accuracy"] == [accuracy for accuracy, _ in checks[1:]]
    weights = [before, *(values for _, values in seen)]
    assert any(not np.allclose(a, b) for a, b in zip(before, weights[-1], strict=True))
    chosen = weights[checks.index(max(checks))]
    assert chosen is weights[2]  # neither the first nor the last
    for now, then in zip(numbers(model), chosen, strict=True):
        np.testing.assert_array_equal(now, then)
    again = evaluate_view_1(model.embedder, view, progress=False)
    assert best.best == {"view_1_accuracy": again.accuracy, "view_1_eer": again.test.eer}


def test_weights_before_training_are_restored_if_training_only_harms(view):
    model, best = classifier(), RestoreBestByPairs(view)
    before = numbers(model)
    fit(model, [Colours(0), best], epochs=2)
    assert best.history[0]["view_1_accuracy"] > best.history[-1]["view_1_accuracy"]
    for now, then in zip(numbers(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_checks_are_counted_in_epochs_or_batches(view):
    model, rare, often = (
        classifier(),
        RestoreBestByPairs(view, epochs=2),
        RestoreBestByPairs(view, batches=1),
    )
    fit(model, [rare, often], epochs=5)
    assert len(rare.history) == 1 + 2
    assert len(often.history) == 1 + 5 * 2


def test_early_stopping_reads_the_figures(view):
    stop = keras.callbacks.EarlyStopping("view_1_accuracy", mode="max", patience=1)
    history = fit(classifier(), [Colours(3, 0), RestoreBestByPairs(view), stop], epochs=20)
    assert len(history.history["loss"]) == 2


def test_view_2_is_refused(view, tmp_path):
    with_folds = Pairs(view.test.first, view.test.second, view.test.same, np.ones(10, int))
    with pytest.raises(ValueError, match=r"Received: `test` with 1 folds, as in View 2"):
        View1(view.train, with_folds)
    with pytest.raises(
        ValueError, match=r"must be development pairs.*Received: Pairs with folds, such"
    ):
        RestoreBestByPairs(with_folds)
    text = "1\t1\nAda\t1\t2\nAda\t1\tBob\t1\n"
    for name in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (tmp_path / name).write_text(text)
    names = ("Ada/Ada_0001", "Ada/Ada_0002", "Bob/Bob_0001")
    write_shades(tmp_path, {f"{name}.jpg": 9 for name in names})
    with pytest.raises(ValueError, match="choose nothing on it"):
        read_view_1(tmp_path, tmp_path)


def test_wrong_arguments_and_models_are_refused(view):
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        RestoreBestByPairs(view, epochs=0)
    with pytest.raises(ValueError, match="`batches` must be at least 1"):
        RestoreBestByPairs(view, batches=0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"needs a MarginClassifier.* Sequential"):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[RestoreBestByPairs(view)])


def test_the_threshold_is_of_the_training_pairs(view):
    result = evaluate_view_1(mean_colour, view, progress=False)
    assert result.test.genuines == 4
    wrong = (result.test.scores >= result.threshold) != view.test.same
    assert result.accuracy == 1 - wrong.mean()
    assert result.to_dict()["threshold"] == result.threshold
    assert result.rows()[0][1].endswith("of the training pairs)")


def test_own_pairs_give_eer_and_tar(view):
    """Six impostor pairs support no rate below 1/6."""
    model, best = classifier(), RestoreBestByPairs(view.test)
    history = fit(model, [Colours(3, 0), best], epochs=2).history
    assert best.names == ("pairs_eer", "pairs_tar_at_far_0.166667")
    now = evaluate_pairs(model.embedder, view.test, progress=False)
    assert now.eer == best.best["pairs_eer"] == min(check["pairs_eer"] for check in best.history)
    assert now.curve.tar_at_far(1 / 6).tar == best.best["pairs_tar_at_far_0.166667"]
    assert history["pairs_eer"] == [check["pairs_eer"] for check in best.history[1:]]
    assert history["pairs_eer"][1] > history["pairs_eer"][0]


def test_the_rate_in_the_logs_is_one_that_the_pairs_support():
    for impostors, name in ((1_000, "0.001"), (999, "0.01"), (10, "0.1")):
        pairs = Pairs(None, None, np.arange(impostors + 1) == 0)
        assert RestoreBestByPairs(pairs).names[1] == f"pairs_tar_at_far_{name}"
