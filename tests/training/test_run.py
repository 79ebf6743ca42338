"""A run is what its recipe says, on one device and on several workers, and continues exactly."""

import errno
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from processes import finish, start
from training.test_recipe import RECIPE, SIDE, kitchen, steps, told  # noqa: F401  (kitchen is a fixture)

from keras_facemargin.files import exclusive
from keras_facemargin.training.recipe import read_recipe
from keras_facemargin.training.run import train

TRAIN = "-m", "keras_facemargin", "train"


def test_a_recipe_trains_and_leaves_what_it_made(kitchen):  # noqa: F811
    before = keras.config.dtype_policy().name
    history = train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    assert keras.config.dtype_policy().name == before
    assert len(history["loss"]) == 2
    lines = steps(kitchen / "run")
    assert [line[:2] for line in lines] == [[str(e), str(s)] for e in (0, 1) for s in (0, 1, 2)]
    assert [float(lines[n][2]) for n in (2, 5)] == pytest.approx(history["loss"], rel=1e-6)
    classifier = keras.saving.load_model(kitchen / "run" / "classifier.keras")
    assert (classifier.head.margin, classifier.head.scale) == (0.2, 16.0)
    assert classifier.optimizer.momentum == 0.9
    embedder = keras.saving.load_model(kitchen / "run" / "embedder.keras")
    images = np.zeros((1, SIDE, SIDE, 3))
    np.testing.assert_array_equal(
        embedder.predict(images, verbose=0), classifier.predict(images, verbose=0)
    )
    # Done is done: nothing is trained again.
    again = train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    assert again == history and steps(kitchen / "run") == lines


def test_a_run_that_was_stopped_goes_on(kitchen, monkeypatch):  # noqa: F811
    class Stopped(BaseException):
        pass

    recipe = read_recipe(kitchen / "recipe.toml")
    whole = train(recipe, kitchen / "whole", progress=False)
    from keras_facemargin.training import run as module

    log = module._StepLog.on_train_batch_end

    def stop(self, batch, logs=None):
        log(self, batch, logs)
        if (self._epoch, batch) == (1, 2):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module._StepLog, "on_train_batch_end", stop)
        with pytest.raises(Stopped):
            train(recipe, kitchen / "run", progress=False)
    assert len(steps(kitchen / "run")) == 6
    history = train(recipe, kitchen / "run", progress=False)
    assert history["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert [line[:2] for line in steps(kitchen / "run")] == [
        line[:2] for line in steps(kitchen / "whole")
    ]
    for ours, theirs in zip(steps(kitchen / "run"), steps(kitchen / "whole"), strict=True):
        assert [float(each) for each in ours] == pytest.approx([float(e) for e in theirs], rel=1e-6)


def test_a_directory_belongs_to_one_recipe(kitchen):  # noqa: F811
    train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    with pytest.raises(
        ValueError, match=r"started with. Received: .*other.toml, .*margin = 0.3 \(there 0.2\)"
    ):
        train(told(kitchen, RECIPE.replace("0.2", "0.3")), kitchen / "run", progress=False)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ('name = "cosine"', [0.05, 0.025, 0.0]),
        ('name = "cosine"\nwarmup_epochs = 1', [0.0, 0.05, 0.0]),
        ('name = "steps"\nmilestones = [1]\nfactor = 0.5', [0.05, 0.05, 0.025]),
    ],
)
def test_schedules(kitchen, schedule, rates):  # noqa: F811
    """At steps 0, 3 and 6 of six, three an epoch; a boundary's own step has the rate before."""
    from keras_facemargin.training.run import _optimizer

    recipe = told(kitchen, f"{RECIPE}\n[schedule]\n{schedule}")
    rate = _optimizer(recipe, 3)._learning_rate
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx(rates, abs=1e-7)


def test_augmentation_ramps_and_policy_reach_the_run(kitchen, monkeypatch):  # noqa: F811
    from keras_facemargin.training import run as module

    seen = {}

    class Classifier(module.MarginClassifier):
        def fit(self, data, callbacks, **options):
            seen.update(callbacks=callbacks, options=options, classifier=self)
            return type("History", (), {"history": {"loss": [1.0], "accuracy": [0.5]}})

    faces = module.open_faces

    def opened(*arguments, **options):
        found = faces(*arguments, **options)
        dataset = found.dataset
        found.dataset = lambda *a, **o: seen.update(dataset=o) or dataset(*a, **o)
        return found

    monkeypatch.setattr(module, "MarginClassifier", Classifier)
    monkeypatch.setattr(module, "open_faces", opened)
    text = RECIPE.replace('model = "small.keras"', 'backbone = "SphereNet"\nimage_size = 56')
    more = """dtype_policy = "mixed_bfloat16"
[[augmentation]]
name = "RandomMirror"
rate = 0.3
[margin_ramp]
epochs = 2
[scale_ramp]
epochs = 1
start = 8.0
"""
    top, rest = text.split("[data]")
    train(
        told(kitchen, top + more.split("[[")[0] + "[data]" + rest + "[[" + more.split("[[", 1)[1]),
        kitchen / "run",
        progress=False,
    )
    (layer,) = seen["dataset"]["augmentation"]
    assert (type(layer).__name__, layer.rate) == ("RandomMirror", 0.3)
    ramps = {type(c).__name__: c for c in seen["callbacks"]}
    assert ramps["MarginRamp"].epochs == 2.0 and ramps["ScaleRamp"].start == 8.0
    convolution = next(
        layer
        for layer in seen["classifier"].embedder._flatten_layers()
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert convolution.compute_dtype == "bfloat16"
    assert seen["classifier"].embedder.output_shape == (None, 512)


def test_whole_numbers_are_numbers(kitchen):  # noqa: F811
    """Keras refuses an int as a rate."""
    from keras_facemargin.training.run import _optimizer

    text = RECIPE.replace("0.05", "1").replace("momentum = 0.9", "momentum = 0")
    assert float(_optimizer(told(kitchen, text), 3).learning_rate) == 1.0


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("margin = 0.2", "margin = -0.2", r"other.toml: \[head\]: .*margin.*Received"),
        ("momentum = 0.9", "momentum = 2.0", r"other.toml: \[optimizer\]: .*momentum"),
        ("seed = 3", "margin_ramp = {epochs = 0}", r"other.toml: \[margin_ramp\]: .*epochs"),
    ],
)
def test_what_a_class_refuses_names_recipe_and_table(kitchen, old, new, rule):  # noqa: F811
    with pytest.raises(ValueError, match=rule):
        train(told(kitchen, RECIPE.replace(old, new)), kitchen / "run", progress=False)


def test_a_run_goes_on_with_the_faces_and_the_model_that_it_began_with(kitchen):  # noqa: F811
    recipe = read_recipe(kitchen / "recipe.toml")
    train(recipe, kitchen / "run", progress=False)
    shutil.copytree(kitchen / "people", kitchen / "copy")
    for file in kitchen.glob("copy/*/*"):
        os.utime(file, (1, 1))
    shutil.move(kitchen / "people", kitchen / "mine")
    shutil.move(kitchen / "copy", kitchen / "people")
    train(recipe, kitchen / "run", progress=False)  # a copy is the same

    pixels = np.full((SIDE, SIDE, 3), 7, "uint8")
    Image.fromarray(pixels).save(kitchen / "people" / "0" / "00.png")
    with pytest.raises(ValueError, match=r"other names, contents than those of .*checkpoint"):
        train(recipe, kitchen / "run", progress=False)
    shutil.rmtree(kitchen / "people")
    shutil.move(kitchen / "mine", kitchen / "people")
    model = keras.saving.load_model(kitchen / "small.keras")
    model.set_weights([2 * weight for weight in model.get_weights()])
    model.save(kitchen / "small.keras")
    with pytest.raises(ValueError, match=r"other embedder.model than those of .*Give back"):
        train(recipe, kitchen / "run", progress=False)


def test_one_run_at_a_directory(kitchen):  # noqa: F811
    recipe = read_recipe(kitchen / "recipe.toml")
    with (
        exclusive(kitchen / "run"),
        pytest.raises(BlockingIOError, match=r"Another process is writing to .*run\. Received"),
    ):
        train(recipe, kitchen / "run", progress=False)
    assert not (kitchen / "run" / "steps.csv").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_names_the_steps(kitchen, monkeypatch):  # noqa: F811
    from keras_facemargin.training import run as module

    enter = module._StepLog.__enter__

    def entered(self):
        enter(self)
        self._stream.close()
        self._stream = Path("/dev/full").open("a", buffering=1)  # noqa: SIM115
        return self

    monkeypatch.setattr(module._StepLog, "__enter__", entered)
    with pytest.raises(OSError, match=r"disk is full: '.*steps.csv'"):
        train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)


@pytest.mark.parametrize("name", ["history.csv", "embedder.keras", "classifier.keras"])
def test_a_full_disk_names_what_it_did_not_take(kitchen, monkeypatch, name):  # noqa: F811
    from keras_facemargin.training import run as module

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save = keras.Model.save
    if name == "history.csv":
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=rf"disk is full: '.*{name}'"):
            module._write_history(kitchen / name, {"loss": [1.0], "accuracy": [0.5]})
        return
    monkeypatch.setattr(
        keras.Model,
        "save",
        lambda self, file: full() if name.split(".")[0] in file.name else save(self, file),
    )
    with pytest.raises(OSError, match=rf"disk is full: '.*{name}'"):
        train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    assert not (kitchen / "run" / name).exists()


def test_two_workers_go_on_with_what_one_device_began(kitchen):  # noqa: F811
    """The last step has six images. No dropout: its draws are each replica's own."""
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(6)]
    ).save(kitchen / "small.keras")
    recipe = read_recipe(kitchen / "recipe.toml")
    whole = train(recipe, kitchen / "whole", progress=False)

    train(recipe, kitchen / "run", progress=False)
    for newest in sorted((kitchen / "run" / "checkpoints").iterdir())[-1:]:
        newest.unlink()  # back to the one before, within the second epoch
    (run,) = finish(
        start(*TRAIN, kitchen / "recipe.toml", "--output", kitchen / "run", "--workers", 2)
    )
    code, output, errors = run
    assert code == 0, errors
    assert f"{whole['loss'][1]:.4f}" in output
    ours, theirs = (np.array(steps(kitchen / name), "float64") for name in ("run", "whole"))
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    assert (kitchen / "run" / "history.png").stat().st_size > 5_000


def test_a_worker_that_fails_ends_all_and_says_why(kitchen):  # noqa: F811
    (kitchen / "recipe.toml").write_text("epochs = 2")
    arguments = kitchen / "recipe.toml", "--output", kitchen / "run"
    ((code, _, errors),) = finish(start(*TRAIN, *arguments, "--workers", 2))
    assert code == 1
    assert "Error: A recipe needs `batch_size`" in errors


@pytest.mark.parametrize("option", [["--devices", "0"], ["--workers", "0"], ["--devices", "two"]])
def test_wrong_numbers_are_refused(tmp_path, option):
    ((code, _, errors),) = finish(start(*TRAIN, "recipe.toml", "--output", tmp_path, *option))
    assert code == 2
    assert f"{option[0]} must be" in errors and f"Received: {option[1]}" in errors
