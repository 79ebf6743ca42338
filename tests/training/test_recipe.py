"""Recipes: every key checked before anything is opened; a run is what the recipe says."""

import csv
import inspect
import re
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin import heads
from keras_facemargin.training.recipe import KEYS, TABLES, read_recipe

SIDE, PEOPLE, COUNT = 16, 3, 22
DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"
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


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("epochs = 2", "epoch = 2", "key is unknown.*'epoch'.*mean 'epochs'"),
        ("epochs = 2", "", "needs `epochs`"),
        ("epochs = 2", "epochs = 2.5", "`epochs` must be a whole number.*epochs = 2.5"),
        ("epochs = 2", "epochs = true", "`epochs` must be a whole number"),
        ("epochs = 2", "epochs = 0", "`epochs` must be at least 1"),
        ("[data]", "[date]", r"key is unknown.*'date'.*mean 'data'"),
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
        ("seed = 3", 'schedule = {name = "steps"}', r"\[schedule\] needs `milestones`"),
        ("seed = 3", "margin_ramp = {epoch = 2}", "argument of MarginRamp.*mean 'epochs'"),
        ("seed = 3", "seed = -1", "`seed` must be at least 0"),
        ("save_every = 2", "save_every = 0", "`save_every` must be at least 1"),
        (
            "seed = 3",
            'dtype_policy = "mixed_bloat16"',
            "dtype_policy.*'mixed_bloat16'.*mean 'mixed_bfloat16'",
        ),
        ('path = "people"', 'path = "people"\non_bad = "skp"', "on_bad.*'skp'.*mean 'skip'"),
        ('path = "people"', "path = 3", "`data.path` must be a text.*path = 3"),
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
        (
            "seed = 3",
            'schedule = {name = "steps", milestones = [true]}',
            "`schedule.milestones` must be a finite",
        ),
        (
            "seed = 3",
            'schedule = {name = "steps", milestones = [2, 1]}',
            "`schedule.milestones` .*ascending",
        ),
        ("seed = 3", 'policy = "float32"', "key `policy` has a new name, `dtype_policy`.*Rename"),
        (
            "seed = 3",
            'schedule = {name = "steps", at = [1]}',
            "key `at` has a new name, `schedule.milestones`",
        ),
        ("seed = 3", 'validation = {lfw = "l"}', r"\[validation\] needs `images`"),
        ("seed = 3", 'validation = {images = "l"}', "needs one of .*Received: .*none of them"),
        ("seed = 3", 'validation = {lfw = "l", held_out = 0.1}', "one of .*lfw and held_out"),
        ("seed = 3", 'validation = {images = "l", held_out = 0.1}', "takes none with `held_out`"),
        ("seed = 3", "validation = {held_out = 1}", "`validation.held_out` must be a share"),
        ("seed = 3", "validation = {held_out = 0.0}", "`validation.held_out` must be a share"),
        ("seed = 3", "validation = {heldout = 0.1}", r"key of \[validation\].*mean 'held_out'"),
        (
            "seed = 3",
            'validation = {pairs = "p", images = "i", on_missing = "skip"}',
            "on_missing is unknown",
        ),
        ('model = "small.keras"', 'backbone = "ShpereNet"', "backbone is unknown.*'SphereNet'"),
        ('model = "small.keras"', 'model = "m"\narguments = {widths = [8]}', "needs a `backbone`"),
        (
            "seed = 3",
            'schedule = {name = "steps", milestones = [1], factor = -1}',
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
    assert recipe.schedule["milestones"] == [10, 16] and recipe.margin_ramp == {"epochs": 4}


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [
        ('backbone = "SphereNet"\narguments = {widths = [16, 32], depths = [1, 1]}', [16, 32]),
        ('backbone = "SphereNet"\n[embedder.arguments]\nwidths = [16]', [16]),
        ('backbone = "GhostFaceNetV1"\narguments.width = 1', 1.0),
        ('backbone = "IResNet50"\narguments.padding = "same"', "same"),
        ('backbone = "IResNet"\narguments.depths = [1, 1, 1, 1]', [1, 1, 1, 1]),
        ('backbone = "MobileNetV2"\narguments.alpha = 0.5', 0.5),
    ],
)
def test_a_backbone_takes_its_arguments(kitchen, arguments, checked):
    recipe = told(kitchen, RECIPE.replace('model = "small.keras"', arguments))
    assert next(iter(recipe.embedder["arguments"].values())) == checked


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ('"SphereNet"\narguments.width = [16]', "argument of SphereNet.*mean 'widths'"),
        ('"SphereNet"\narguments.widths = 16', "`embedder.arguments.widths` must be a list"),
        ('"SphereNet"\narguments.widths = [16.5]', "`embedder.arguments.widths` .*whole numbers"),
        ('"SphereNet"\narguments.widths = ["a"]', "`embedder.arguments.widths` must be a finite"),
        ('"SphereNet"\narguments.input_shape = [1]', "argument of SphereNet is unknown"),
        ('"IResNet50"\narguments.depths = [1]', "argument of IResNet50 is unknown"),
        ('"MobileNetV2"\narguments.alhpa = 0.5', "argument of MobileNetV2.*mean 'alpha'"),
        ('"MobileNetV2"\narguments.include_top = true', "argument of MobileNetV2 is unknown"),
        ('"MobileNetV2"\narguments = 3', "`embedder.arguments` must be a table"),
    ],
)
def test_wrong_backbone_arguments_are_refused(kitchen, arguments, rule):
    with pytest.raises(ValueError, match=rule):
        told(kitchen, RECIPE.replace('model = "small.keras"', f"backbone = {arguments}"))


def test_changes_are_toml_values_or_bare_texts(kitchen):
    changes = ["head.margin=0.4", "margin_ramp.epochs = 3", "data.path=a=b", "optimizer.name=Adam"]
    changes += ["optimizer.momentum=0.5"]  # not an argument of Adam
    with pytest.raises(ValueError, match="argument of Adam"):
        read_recipe(kitchen / "recipe.toml", changes)
    text = (kitchen / "recipe.toml").read_text().replace("momentum = 0.9\n", "")
    (kitchen / "recipe.toml").write_text(text)
    recipe = read_recipe(kitchen / "recipe.toml", changes[:-1])
    assert (recipe.head["margin"], recipe.margin_ramp) == (0.4, {"epochs": 3})
    assert (recipe.data["path"], recipe.optimizer["name"]) == ("a=b", "Adam")
    assert tomllib.loads(recipe.text) == recipe.document
    assert read_recipe(kitchen / "recipe.toml").text == text


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("head.margin", "--set must be KEY=VALUE"),
        ("head.margin=", "--set must be KEY=VALUE"),
        ("head..margin=1", "--set must be KEY=VALUE"),
        ("epochs.more=1", "`epochs` is not a table"),
        ("head.margn=0.4", "argument of CosFace.*mean 'margin'"),
        ("heat.margin=0.4", "key is unknown.*mean 'head'"),
        ("head.margin=0,4", "`head.margin` must be a finite number.*'0,4'"),
        ("head.margin=nan", "`head.margin` must be a finite number"),
        ("epochs=3\nseed=4", "`epochs` must be a whole number"),
        ("seed=2026-01-01", "`seed` must be a whole number"),
    ],
)
def test_wrong_changes_are_refused(kitchen, change, rule):
    with pytest.raises(ValueError, match=rule):
        read_recipe(kitchen / "recipe.toml", [change])


def test_a_changed_recipe_is_written_as_toml(kitchen):
    """Every type and awkward text, in tables, lists of tables and dotted keys."""
    text = RECIPE.replace("seed = 3", "augmentation = [{name = 'RandomMirror', rate = 1e-7}]")
    text = text.replace('"people"', '"""a \\"b\\" \\\\ \\u007f \\n ü"""')
    text = text.replace("margin = 0.2", "margin = [0.1, 0.2]\nblockwise = true")
    (kitchen / "other.toml").write_text(text, encoding="utf-8")
    recipe = read_recipe(kitchen / "other.toml", ["epochs=7"])
    assert tomllib.loads(recipe.text) == recipe.document
    assert recipe.document == tomllib.loads(text) | {"epochs": 7}
    assert recipe.text.startswith("# other.toml with --set epochs=7\n")
