"""Recipes: every key checked before anything is opened; a run is what the recipe says."""

import csv
import errno
import inspect
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin import heads
from keras_facemargin.files import exclusive
from keras_facemargin.recipe import KEYS, TABLES, read_recipe, train

SIDE, PEOPLE, COUNT = 16, 3, 22
DOCS = Path(__file__).resolve().parents[1] / "docs" / "training.md"
RECIPE = """
epochs = 2
batch_size = 8
seed = 3
save_every = 2

[data]
path = "people"

[embedder]
model = "small.keras"

[head]
name = "CosFace"
margin = 0.2
scale = 16.0

[optimizer]
name = "SGD"
learning_rate = 0.05
momentum = 0.9
"""


@pytest.fixture
def kitchen(tmp_path):
    """A folder with people, a small embedder and a recipe."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (PEOPLE, SIDE, SIDE, 3))
    for number in range(COUNT):
        file = tmp_path / "people" / str(number % PEOPLE) / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = patterns[number % PEOPLE] + rng.normal(0, 40, (SIDE, SIDE, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(file)
    keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(6),
        ]
    ).save(tmp_path / "small.keras")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def told(kitchen, text):
    file = kitchen / "other.toml"
    file.write_text(text)
    return read_recipe(file)


def steps(directory):
    with (directory / "steps.csv").open() as stream:
        return list(csv.reader(stream))[1:]


def test_a_recipe_trains_and_leaves_what_it_made(kitchen):
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


def test_a_run_that_was_stopped_goes_on(kitchen, monkeypatch):
    class Stopped(BaseException):
        pass

    recipe = read_recipe(kitchen / "recipe.toml")
    whole = train(recipe, kitchen / "whole", progress=False)
    from keras_facemargin import recipe as module

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


def test_a_directory_belongs_to_one_recipe(kitchen):
    train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    with pytest.raises(ValueError, match=r"began with. Received: .*other.toml, which is not"):
        train(told(kitchen, RECIPE.replace("0.2", "0.3")), kitchen / "run", progress=False)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ('name = "cosine"', [0.05, 0.025, 0.0]),
        ('name = "cosine"\nwarmup_epochs = 1', [0.0, 0.05, 0.0]),
        ('name = "steps"\nat = [1]\nfactor = 0.5', [0.05, 0.05, 0.025]),
    ],
)
def test_schedules(kitchen, schedule, rates):
    """At steps 0, 3 and 6 of six, three an epoch; a boundary's own step has the rate before."""
    from keras_facemargin.recipe import _optimizer

    recipe = told(kitchen, f"{RECIPE}\n[schedule]\n{schedule}")
    rate = _optimizer(recipe, 3)._learning_rate
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx(rates, abs=1e-7)


def test_augmentation_ramps_and_policy_reach_the_run(kitchen, monkeypatch):
    from keras_facemargin import recipe as module

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
    more = """policy = "mixed_bfloat16"
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


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("epochs = 2", "epoch = 2", "unknown key.*'epoch'.*mean 'epochs'"),
        ("epochs = 2", "", "needs `epochs`"),
        ("epochs = 2", "epochs = 2.5", "`epochs` must be an int.*epochs = 2.5"),
        ("epochs = 2", "epochs = true", "`epochs` must be an int"),
        ("epochs = 2", "epochs = 0", "`epochs` must be at least 1"),
        ("[data]", "[date]", r"unknown key.*'date'.*mean 'data'"),
        ("path =", "paths =", r"key of \[data\].*'paths'.*mean 'path'"),
        ('"CosFace"', '"Cosface"', r"name of \[head\].*'Cosface'.*mean 'CosFace'"),
        ("margin =", "margins =", "argument of CosFace.*'margins'.*mean 'margin'"),
        ('"SGD"', '"SDG"', r"name of \[optimizer\].*'SDG'.*mean 'SGD'"),
        ("momentum =", "momentun =", "argument of SGD.*'momentun'.*mean 'momentum'"),
        ('model = "small.keras"', "", "needs a `backbone`.*or a `model`"),
        ("[head]", "[[head]]", r"\[head\] must be a table"),
        ("epochs = 2", "epochs = ", "must be a TOML file"),
        ("seed = 3", "augmentation = 3", "`augmentation` must be a list of tables"),
        ("seed = 3", 'schedule = {name = "sine"}', "'sine'.*mean 'cosine'"),
        ("seed = 3", 'schedule = {name = "steps"}', r"\[schedule\] of steps needs `at`"),
        ("seed = 3", "margin_ramp = {epoch = 2}", "argument of MarginRamp.*mean 'epochs'"),
        ("seed = 3", "seed = -1", "`seed` must be at least 0"),
        ("save_every = 2", "save_every = 0", "`save_every` must be at least 1"),
        ("seed = 3", 'policy = "mixed_bloat16"', "policy.*'mixed_bloat16'.*mean 'mixed_bfloat16'"),
        ('path = "people"', 'path = "people"\non_bad = "skp"', "on_bad.*'skp'.*mean 'skip'"),
        ('path = "people"', "path = 3", "`data.path` must be a str.*path = 3"),
        ("learning_rate = 0.05", "learning_rate = nan", "`optimizer.learning_rate` must be a fin"),
        ("learning_rate = 0.05", "learning_rate = -inf", "`optimizer.learning_rate` must be a fin"),
        ("learning_rate = 0.05", "learning_rate = -0.1", "`optimizer.learning_rate` must be at le"),
        (
            "learning_rate = 0.05",
            'learning_rate = "0.1"',
            "`optimizer.learning_rate` must be a fin",
        ),
        ("learning_rate = 0.05", "learning_rate = true", "`optimizer.learning_rate` must be a fin"),
        ("momentum = 0.9", "nesterov = 1", "`optimizer.nesterov` must be true or false"),
        ("momentum = 0.9", "weight_decay = nan", "`optimizer.weight_decay` must be a finite"),
        ("momentum = 0.9", "weight_decay = [1]", "`optimizer.weight_decay` must be a finite"),
        ("scale = 16.0", "scale = inf", "`head.scale` must be a finite number.*scale = inf"),
        ("scale = 16.0", "scale = false", "`head.scale` must be a finite number"),
        ("scale = 16.0", "blockwise = 1", "`head.blockwise` must be true or false"),
        ("margin = 0.2", 'margin = "0.2"', "`head.margin` must be a finite number"),
        ("margin = 0.2", "margin = [0.2, nan]", "`head.margin` must be a finite number"),
        ("seed = 3", "margin_ramp = {epochs = [2]}", "`margin_ramp.epochs` must be a finite"),
        (
            "seed = 3",
            'augmentation = [{name = "RandomBlur", sigma = 2.0}]',
            "`augmentation.sigma` must be a list of 2 numbers",
        ),
        (
            "seed = 3",
            'schedule = {name = "cosine", warmup_epochs = 2}',
            "`schedule.warmup_epochs` must be less than `epochs`",
        ),
        (
            "seed = 3",
            'schedule = {name = "cosine", warmup_epochs = nan}',
            "`schedule.warmup_epochs` must be a finite number",
        ),
        ("seed = 3", 'schedule = {name = "steps", at = [true]}', "`schedule.at` must be a finite"),
        ("seed = 3", 'schedule = {name = "steps", at = [2, 1]}', "`schedule.at` .*ascending"),
        (
            "seed = 3",
            'schedule = {name = "steps", at = [1], factor = -1}',
            "`schedule.factor` must be at least 0",
        ),
    ],
)
def test_wrong_recipes_are_answered_with_the_rule(kitchen, old, new, rule):
    assert old in RECIPE
    with pytest.raises(ValueError, match=rule) as error:
        told(kitchen, RECIPE.replace(old, new))
    assert "Received: " in str(error.value) and "other.toml" in str(error.value)


def test_a_byte_order_mark_is_no_key(kitchen):
    file = kitchen / "recipe.toml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_recipe(file).top["epochs"] == 2
    file.write_text(RECIPE, encoding="utf-16")
    with pytest.raises(ValueError, match=r"a recipe in UTF-8. Received: a file in UTF-16"):
        read_recipe(file)


def test_whole_numbers_are_numbers(kitchen):
    """Keras refuses an int as a rate."""
    from keras_facemargin.recipe import _optimizer

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
def test_what_a_class_refuses_names_recipe_and_table(kitchen, old, new, rule):
    with pytest.raises(ValueError, match=rule):
        train(told(kitchen, RECIPE.replace(old, new)), kitchen / "run", progress=False)


def test_a_run_goes_on_with_the_faces_and_the_model_that_it_began_with(kitchen):
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


def test_one_run_at_a_directory(kitchen):
    recipe = read_recipe(kitchen / "recipe.toml")
    with (
        exclusive(kitchen / "run"),
        pytest.raises(BlockingIOError, match=r"Another process is writing to .*run\. Received"),
    ):
        train(recipe, kitchen / "run", progress=False)
    assert not (kitchen / "run" / "steps.csv").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_names_the_steps(kitchen, monkeypatch):
    from keras_facemargin import recipe as module

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
def test_a_full_disk_names_what_it_did_not_take(kitchen, monkeypatch, name):
    from keras_facemargin import recipe as module

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


def test_a_head_is_told_what_every_head_takes(kitchen):
    more = "margin = 0.2\nsample_rate = 0.5\nblockwise = true\ndetach_margin = true\n"
    recipe = told(kitchen, re.sub(r"margin = [\d.]+\n", more, RECIPE, count=1))
    assert recipe.head["sample_rate"] == 0.5 and recipe.head["blockwise"] is True
    with pytest.raises(ValueError, match="mean 'sample_rate'"):
        told(kitchen, re.sub(r"margin = [\d.]+\n", "sampel_rate = 1\n", RECIPE, count=1))


def test_every_head_but_the_abstract_one_can_be_named():
    assert set(TABLES["head"]) == {
        name
        for name, value in vars(heads).items()
        if inspect.isclass(value) and issubclass(value, heads.MarginHead)
    } - {"MarginHead"}


def test_the_page_declares_every_key():
    page = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| (.+) \|$", page, re.M)
    declared = [
        (f"{table}.{key}" if table else key, default, what)
        for table, keys in KEYS.items()
        for key, (_, default, what) in keys.items()
    ]
    assert [(name, what) for name, _, what in rows] == [(name, what) for name, _, what in declared]
    for (_, written, _), (name, default, _) in zip(rows, declared, strict=True):
        required = not isinstance(default, str | int | float | type(None))
        assert written == (
            "required" if required else "-" if default is None else f"`{default}`"
        ), name
    for table in TABLES:
        assert f"[{table}]" in page


def test_the_recipe_of_the_page_is_one(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    recipe = told(tmp_path, text)
    assert recipe.schedule["at"] == [10, 16] and recipe.margin_ramp == {"epochs": 4}
