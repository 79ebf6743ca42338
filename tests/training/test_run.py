"""A run is what its recipe says, on one device and on several workers, and continues exactly."""

import errno
import os
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from processes import finish, start
from strategies import replicas
from training.test_recipe import RECIPE, SIDE, kitchen, recipe_of, steps  # noqa: F401  (kitchen is a fixture)

from keras_facemargin.callbacks import RestoreBestByPairs
from keras_facemargin.data import open_faces
from keras_facemargin.files import exclusive
from keras_facemargin.training import run
from keras_facemargin.training.recipe import read_recipe
from keras_facemargin.training.run import train
from keras_facemargin.training.validation import sample_images, split_for_validation

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


def test_people_with_fewer_images_have_a_larger_margin(kitchen):  # noqa: F811
    *_, last = sorted((kitchen / "people").iterdir())
    sorted(last.iterdir())[0].unlink()
    changes = ["epochs=1", "head.margin={by_class_size=0.3}"]
    train(read_recipe(kitchen / "recipe.toml", changes), kitchen / "run", progress=False)
    head = keras.saving.load_model(kitchen / "run" / "classifier.keras").head
    counts = np.bincount(open_faces(kitchen / "people", image_size=SIDE).labels)
    assert len(np.unique(head.margin)) > 1
    np.testing.assert_allclose(head.margin, 0.3 * (min(counts) / counts) ** 0.25)


def test_a_run_that_was_stopped_goes_on(kitchen, monkeypatch):  # noqa: F811
    class Stopped(BaseException):
        pass

    recipe = read_recipe(kitchen / "recipe.toml")
    whole = train(recipe, kitchen / "whole", progress=False)
    log = run._StepLog.on_train_batch_end

    def stop(self, batch, logs=None):
        log(self, batch, logs)
        if (self._epoch, batch) == (1, 2):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run._StepLog, "on_train_batch_end", stop)
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
        train(recipe_of(kitchen, RECIPE.replace("0.2", "0.3")), kitchen / "run", progress=False)


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

    recipe = recipe_of(kitchen, f"{RECIPE}\n[schedule]\n{schedule}")
    rate = _optimizer(recipe, 3)._learning_rate
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx(rates, abs=1e-7)


def test_augmentation_ramps_and_policy_reach_the_run(kitchen, monkeypatch):  # noqa: F811
    seen = {}

    class Classifier(run.MarginClassifier):
        def fit(self, data, callbacks, **options):
            seen.update(callbacks=callbacks, options=options, classifier=self)
            return type("History", (), {"history": {"loss": [1.0], "accuracy": [0.5]}})

    faces = run.open_faces

    def opened(*arguments, **options):
        found = faces(*arguments, **options)
        dataset = found.dataset
        found.dataset = lambda *a, **o: seen.update(dataset=o) or dataset(*a, **o)
        return found

    monkeypatch.setattr(run, "MarginClassifier", Classifier)
    monkeypatch.setattr(run, "open_faces", opened)
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
        recipe_of(
            kitchen, top + more.split("[[")[0] + "[data]" + rest + "[[" + more.split("[[", 1)[1]
        ),
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
    assert float(_optimizer(recipe_of(kitchen, text), 3).learning_rate) == 1.0


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
        train(recipe_of(kitchen, RECIPE.replace(old, new)), kitchen / "run", progress=False)


def test_a_run_resumes_with_the_faces_and_the_model_of_its_start(kitchen):  # noqa: F811
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
    with pytest.raises(ValueError, match=r"other embedder.model than those of .*Restore them"):
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
    enter = run._StepLog.__enter__

    def entered(self):
        enter(self)
        self._stream.close()
        self._stream = Path("/dev/full").open("a", buffering=1)  # noqa: SIM115
        return self

    monkeypatch.setattr(run._StepLog, "__enter__", entered)
    with pytest.raises(OSError, match=r"disk is full: '.*steps.csv'"):
        train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)


@pytest.mark.parametrize("name", ["history.csv", "embedder.keras", "classifier.keras"])
def test_a_full_disk_names_what_it_did_not_take(kitchen, monkeypatch, name):  # noqa: F811
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save = keras.Model.save
    if name == "history.csv":
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=rf"disk is full: '.*{name}'"):
            run._write_history(kitchen / name, {"loss": [1.0], "accuracy": [0.5]})
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


WORKER = """
import json, os, sys, time
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    sys.exit(3)
time.sleep(600)
"""


def test_a_worker_that_fails_ends_all():
    assert run._start_workers([sys.executable, "-c", WORKER], 2) == 3


PAIRS = '[validation]\npairs = "pairs.csv"\nimages = "dev"\n'
HELD_OUT = "[validation]\nheld_out = 0.3\n"


@pytest.fixture
def validated(kitchen):  # noqa: F811
    """The kitchen with eight identities, and development images of four others."""
    rng = np.random.default_rng(1)
    patterns = rng.uniform(0, 255, (12, SIDE, SIDE, 3))

    def draw(file, person):
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = patterns[person] + rng.normal(0, 60, (SIDE, SIDE, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(file)

    shutil.rmtree(kitchen / "people")
    for number in range(24):
        draw(kitchen / "people" / str(number % 8) / f"{number:02d}.png", number % 8)
    names = "ABCD"
    for person, name in enumerate(names, 8):
        for image in (1, 2):
            draw(kitchen / "dev" / name / f"{name}_{image:04d}.png", person)
    genuine = [f"{name} 1 2" for name in names]
    impostor = ["A 1 B 1", "B 2 C 1", "C 2 D 1", "D 2 A 2"]
    for file in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (kitchen / file).write_text("\n".join(["4", *genuine, *impostor]))
    lines = [f"{n}/{n}_0001.png,{n}/{n}_0002.png,1" for n in names]
    lines += [f"{n}/{n}_0001.png,{m}/{m}_0002.png,0" for n in names for m in names if n < m]
    (kitchen / "pairs.csv").write_text("\n".join(lines))
    return kitchen


@pytest.mark.parametrize(
    ("table", "figures"),
    [
        ('[validation]\nlfw = "."\nimages = "dev"\n', ["view_1_accuracy", "view_1_eer"]),
        (PAIRS, ["pairs_eer", "pairs_tar_at_far_0.166667"]),
        (HELD_OUT, ["pairs_eer", "pairs_tar_at_far_0.111111"]),
    ],
)
def test_validation_reaches_the_history_and_the_best_weights_stay(
    validated, table, figures, monkeypatch
):
    made = []

    class Best(RestoreBestByPairs):
        def __init__(self, pairs):
            super().__init__(pairs)
            made.append(self)

    monkeypatch.setattr("keras_facemargin.training.run.RestoreBestByPairs", Best)
    monkeypatch.chdir(validated.parent)  # paths are relative to the recipe
    recipe = recipe_of(validated, RECIPE + table)
    history = train(recipe, validated / "run", progress=False)
    assert list(history) == ["loss", "accuracy", *figures]
    with (validated / "run" / "history.csv").open() as stream:
        assert stream.readline() == f"epoch,loss,accuracy,{','.join(figures)}\n"
    (best,) = made
    assert [each[figures[0]] for each in best.history[1:]] == history[figures[0]]
    saved = keras.saving.load_model(validated / "run" / "embedder.keras")
    for ours, theirs in zip(saved.get_weights(), best._best_values, strict=False):
        np.testing.assert_array_equal(ours, theirs)
    # A finished run, started again, remembers the best weights without a check.
    train(recipe, validated / "run", progress=False)
    assert made[1].best == best.best
    assert len(made[1].history) == 3
    again = keras.saving.load_model(validated / "run" / "embedder.keras")
    for ours, theirs in zip(again.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_stopped_run_remembers_the_best_weights(validated, monkeypatch):
    """The rate is too large, so that the initial weights stay the best."""

    class Stopped(BaseException):
        pass

    recipe = recipe_of(validated, RECIPE.replace("0.05", "50") + HELD_OUT)
    whole = train(recipe, validated / "whole", progress=False)
    log = run._StepLog.on_train_batch_end

    def stop(self, batch, logs=None):
        log(self, batch, logs)
        if (self._epoch, batch) == (1, 2):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run._StepLog, "on_train_batch_end", stop)
        with pytest.raises(Stopped):
            train(recipe, validated / "run", progress=False)
    assert train(recipe, validated / "run", progress=False) == whole
    initial = keras.saving.load_model(validated / "small.keras").get_weights()
    for name in ("run", "whole"):
        saved = keras.saving.load_model(validated / name / "embedder.keras").get_weights()
        for ours, theirs in zip(saved, initial, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_held_out_identities_are_not_trained_on(validated):
    recipe = recipe_of(validated, RECIPE + HELD_OUT)
    faces = open_faces(validated / "people", image_size=SIDE)
    training, (paths, labels) = split_for_validation(
        faces, recipe.settings.validation, place=validated, seed=3
    )
    held_out = {Path(path).parent.name for path in paths}
    assert len(held_out) == 2 and not held_out & set(training.identities)
    assert len(training) + len(paths) == len(faces) and labels.max() == 1
    train(recipe, validated / "run", progress=False)
    classifier = keras.saving.load_model(validated / "run" / "classifier.keras")
    assert classifier.head.num_classes == 6


def test_at_most_two_thousand_held_out_images():
    class Many:
        num_classes = 1_500
        labels = np.repeat(np.arange(1_500), np.arange(1_500) % 3 + 1)
        paths = range(len(labels))

        def __len__(self):
            return len(self.labels)

    paths, labels = sample_images(Many(), 0)
    assert len(paths) == 2_000
    assert (np.unique(labels, return_counts=True)[1] == 2).all()
    np.testing.assert_array_equal(Many.labels[paths.astype(int)], labels)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_each_side_needs_two_identities(validated, share):
    recipe = recipe_of(validated, RECIPE + HELD_OUT.replace("0.3", str(share)))
    rule = rf"two identities.*held_out = {share} of 8 identities.*share from 0.25"
    with pytest.raises(ValueError, match=rule):
        train(recipe, validated / "run", progress=False)


def test_held_out_identities_of_one_image_have_no_genuine_pair(validated):
    for file in (validated / "people").glob("*/*"):
        if int(file.stem) >= 8:
            file.unlink()
    with pytest.raises(ValueError, match=r"must have a genuine pair.*Received: 2 held-out"):
        train(recipe_of(validated, RECIPE + HELD_OUT), validated / "run", progress=False)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_validation_image_must_not_be_a_training_image(validated, link):
    link(validated / "dev" / "A" / "A_0002.png", validated / "people" / "0" / "other.png")
    with pytest.raises(ValueError, match=r"must not be training images. Received: 1 of 8 .*A_0002"):
        train(recipe_of(validated, RECIPE + PAIRS), validated / "run", progress=False)


def test_pairs_with_folds_are_refused(validated):
    lines = (validated / "pairs.csv").read_text().splitlines()
    folded = [f"{line},{number % 2}" for number, line in enumerate(lines)]
    (validated / "pairs.csv").write_text("\n".join(folded))
    with pytest.raises(ValueError, match=r"no folds.*pairs.csv with 2 folds. Remove the fourth"):
        train(recipe_of(validated, RECIPE + PAIRS), validated / "run", progress=False)


def test_a_run_continues_with_the_pairs_it_started_with(validated):
    recipe = recipe_of(validated, RECIPE + PAIRS)
    train(recipe, validated / "run", progress=False)
    lines = (validated / "pairs.csv").read_text().splitlines()
    (validated / "pairs.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match="other validation than those of"):
        train(recipe, validated / "run", progress=False)


def test_replicas_give_the_figures_of_one_device(validated):
    """`predict_on_batch` would return each batch once for each replica. Without dropout, whose
    draws differ on each replica."""
    keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(6)]
    ).save(validated / "small.keras")
    recipe = recipe_of(validated, RECIPE + PAIRS)
    one = train(recipe, validated / "one", progress=False)
    two = train(recipe, validated / "two", replicas(2), progress=False)
    assert two["pairs_eer"] == pytest.approx(one["pairs_eer"])


def test_the_output_must_not_be_inside_the_faces(validated):
    (validated / "link").symlink_to(validated / "people")
    for output in ("people/run", "link/run", "people"):
        with pytest.raises(ValueError, match=r"must not be inside the folder of faces.*Received"):
            train(read_recipe(validated / "recipe.toml"), validated / output, progress=False)
    assert not (validated / "people" / "run").exists()


def test_a_changed_run_continues_with_the_same_changes_only(kitchen):  # noqa: F811
    changed = read_recipe(kitchen / "recipe.toml", ["head.margin=0.4"])
    train(changed, kitchen / "run", progress=False)
    assert keras.saving.load_model(kitchen / "run" / "classifier.keras").head.margin == 0.4
    with pytest.raises(ValueError, match=r"head.margin = 0.2 \(there 0.4\).*every --set"):
        train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", progress=False)
    # The copy is a recipe, and a comment does not make another one.
    shutil.copy(kitchen / "run" / "recipe.toml", kitchen / "copy.toml")
    train(read_recipe(kitchen / "copy.toml"), kitchen / "run", progress=False)


@pytest.mark.parametrize(
    ("table", "name", "count"),
    [
        ('backbone = "SphereNet"\narguments = {widths = [4, 6], depths = [1, 1]}', "spherenet", 6),
        ('backbone = "MobileNetV2"\narguments.alpha = 0.35', "mobilenetv2_0.35_224", None),
    ],
)
def test_a_backbone_is_built_with_its_arguments(kitchen, table, name, count):  # noqa: F811
    text = RECIPE.replace('model = "small.keras"', f"{table}\n")
    embedder = run._build(recipe_of(kitchen, text), kitchen)
    backbone = next(each for each in embedder.layers if isinstance(each, keras.Model))
    assert backbone.name.startswith(name.split("_")[0])
    assert count is None or backbone.output_shape[-1] == count
    assert embedder.output_shape == (None, 512)


def test_a_backbone_is_the_same_with_and_without_arguments(kitchen):  # noqa: F811
    """SphereNet ends at 2x2 on such a crop, and is not enlarged in either case."""
    backbone = f'backbone = "SphereNet"\nimage_size = {SIDE * 2}'
    tables = backbone, f"{backbone}\narguments.depths = [1, 2, 4, 1]"
    plain, with_arguments = (
        run._build(recipe_of(kitchen, RECIPE.replace('model = "small.keras"', table)), kitchen)
        for table in tables
    )
    assert [layer.name for layer in plain.layers] == [each.name for each in with_arguments.layers]
    assert plain.get_layer("spherenet").output_shape == (None, 2, 2, 512)
    assert [w.shape for w in plain.weights] == [w.shape for w in with_arguments.weights]


def test_a_backbone_that_refuses_its_arguments_names_the_recipe(kitchen):  # noqa: F811
    table = 'backbone = "MobileNetV2"\narguments.weights = "no.weights.h5"'
    text = RECIPE.replace('model = "small.keras"', table)
    with pytest.raises(ValueError, match=r"other.toml: \[embedder\]: "):
        run._build(recipe_of(kitchen, text), kitchen)


def test_tensorboard_is_one_sentence_where_it_is_missing(kitchen, monkeypatch):  # noqa: F811
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"not installed. Received: --tensorboard. Install it"):
        train(read_recipe(kitchen / "recipe.toml"), kitchen / "run", tensorboard=True)
    assert not (kitchen / "run").exists()


def test_tensorboard_gets_the_figures(validated, monkeypatch):
    seen = []

    class Board(keras.callbacks.Callback):
        def __init__(self, folder, **options):
            super().__init__()
            self.folder = folder

        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.folder, set(logs)))

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("keras.callbacks.TensorBoard", Board)
    recipe = recipe_of(validated, RECIPE + HELD_OUT)
    train(recipe, validated / "run", progress=False, tensorboard=True)
    assert len(seen) == 2
    assert seen[0][0] == validated / "run" / "tensorboard"
    assert {"loss", "accuracy", "pairs_eer"} < seen[0][1]
