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
from keras_facemargin.training.arguments import TABLES
from keras_facemargin.training.checks import Table
from keras_facemargin.training.recipe import Settings, read_recipe

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


def recipe_of(kitchen, text):
    file = kitchen / "other.toml"
    file.write_text(text)
    return read_recipe(file)


def steps(directory):
    with (directory / "steps.csv").open() as stream:
        return list(csv.reader(stream))[1:]


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("epochs = 2", "epoch = 2", "`epoch` is unknown.*epoch = 2.*mean 'epochs'"),
        ("epochs = 2", "", "needs `epochs`: passes over the images"),
        ("epochs = 2", "epochs = 2.5", "`epochs` must be a whole number.*epochs = 2.5"),
        ("epochs = 2", "epochs = true", "`epochs` must be a whole number"),
        ("epochs = 2", 'epochs = "2"', "`epochs` must be a whole number"),
        ("epochs = 2", "epochs = 0", "`epochs` must be at least 1"),
        ("[data]", "[date]", "`date` is unknown.*mean 'data'"),
        ("path =", "paths =", "`data.paths` is unknown.*mean 'data.path'"),
        ('path = "people"', "", "needs `data.path`: folder, .rec or"),
        ('"CosFace"', '"Cosface"', "`head.name` must be one of.*'Cosface'.*mean 'CosFace'"),
        ('name = "CosFace"', "", "`head.name` must be one of.*name = None"),
        ("margin =", "margins =", "`head.margins` is unknown.*mean 'head.margin'"),
        ('"SGD"', '"SDG"', "`optimizer.name` must be one of.*'SDG'.*mean 'SGD'"),
        ("momentum =", "momentun =", "`optimizer.momentun` is unknown.*mean 'optimizer.momentum'"),
        ('model = "small.keras"', "", "needs a `backbone`.*or a `model`"),
        ("[head]", "[[head]]", "`head` must be a table"),
        ("epochs = 2", "epochs = ", "must be a TOML file"),
        ("seed = 3", "augmentation = 3", "`augmentation` must be a list"),
        ("seed = 3", "augmentation = [3]", "`augmentation` must be a table"),
        ("seed = 3", 'schedule = {name = "sine"}', "`schedule.name` .*'sine'.*mean 'cosine'"),
        ("seed = 3", 'schedule = {name = "steps"}', r"\[schedule\] needs `milestones`"),
        (
            "seed = 3",
            "margin_ramp = {epoch = 2}",
            "`margin_ramp.epoch` .*mean 'margin_ramp.epochs'",
        ),
        ("seed = 3", "scale_ramp = {epochs = 2}", "needs `scale_ramp.start`"),
        ("seed = 3", "seed = -1", "`seed` must be at least 0"),
        ("save_every = 2", "save_every = 0", "`save_every` must be at least 1"),
        (
            "seed = 3",
            'dtype_policy = "mixed_bloat16"',
            "`dtype_policy` must be .*'mixed_bloat16'.*mean 'mixed_bfloat16'",
        ),
        (
            'path = "people"',
            'path = "people"\non_bad = "skp"',
            "`data.on_bad` must be 'refuse' or 'skip'.*'skp'.*mean 'skip'",
        ),
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
            "`augmentation.sigma` must be a list",
        ),
        (
            "seed = 3",
            'augmentation = [{name = "RandomBlur", sigma = [2.0]}]',
            "`augmentation.sigma` must be a list of 2 values",
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
        ("seed = 3", "validation = {held_out = 1}", "`validation.held_out` must be below 1"),
        ("seed = 3", "validation = {held_out = 0.0}", "`validation.held_out` must be above 0"),
        (
            "seed = 3",
            "validation = {heldout = 0.1}",
            "`validation.heldout` .*'validation.held_out'",
        ),
        (
            "seed = 3",
            'validation = {pairs = "p", images = "i", on_missing = "skip"}',
            "`validation.on_missing` must be 'refuse' or 'reject'",
        ),
        ('model = "small.keras"', 'backbone = "ShpereNet"', "`embedder.backbone` .*'SphereNet'"),
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
        recipe_of(kitchen, RECIPE.replace(old, new))
    sentence = str(error.value)
    assert "Received: " in sentence and "other.toml" in sentence
    assert "\n" not in sentence and "pydantic" not in sentence


def test_a_byte_order_mark_is_no_key(kitchen):
    file = kitchen / "recipe.toml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_recipe(file).settings.epochs == 2
    file.write_text(RECIPE, encoding="utf-16")
    with pytest.raises(ValueError, match=r"a recipe in UTF-8. Received: a file in UTF-16"):
        read_recipe(file)


def test_a_head_is_told_what_every_head_takes(kitchen):
    more = "margin = 0.2\nsample_rate = 0.5\nblockwise = true\ndetach_margin = true\n"
    more += 'prototypes_initializer = "he_normal"\nprototypes_constraint = "unit_norm"\n'
    recipe = recipe_of(kitchen, re.sub(r"margin = [\d.]+\n", more, RECIPE, count=1))
    assert recipe.settings.head["sample_rate"] == 0.5 and recipe.settings.head["blockwise"] is True
    with pytest.raises(ValueError, match=r"mean 'head.sample_rate'"):
        recipe_of(kitchen, re.sub(r"margin = [\d.]+\n", "sampel_rate = 1\n", RECIPE, count=1))


def test_a_margin_by_class_size_is_for_heads_that_take_one_for_each_class(kitchen):
    def recipe(name, margin, more=""):
        head = f'name = "{name}"\n{more}margin = {margin}\n'
        return recipe_of(kitchen, re.sub(r'name = "CosFace"\nmargin = [\d.]+\n', head, RECIPE))

    largest = {"by_class_size": 0.3}
    for name, more in (("CosFace", ""), ("ArcFace", ""), ("SVSoftmax", 'variant = "am"\n')):
        assert recipe(name, "{by_class_size = 0.3}", more).settings.head["margin"] == largest
    for name in ("CurricularFace", "SphereFace2"):
        with pytest.raises(ValueError, match=r"needs a head .*Received: .*other.toml.*Choose an"):
            recipe(name, "{by_class_size = 0.3}")
    with pytest.raises(ValueError, match="within its range"):
        recipe("ArcFace", "{by_class_size = 4.0}")
    for wrong in ("{by_size = 0.3}", "{by_class_size = 0}", "{by_class_size = 'x'}", "{}"):
        with pytest.raises(ValueError, match=r"`head.margin` must be a number, .*Received: "):
            recipe("CosFace", wrong)


def test_every_head_but_the_abstract_one_can_be_named():
    assert set(TABLES["head"]) == {
        name
        for name, value in vars(heads).items()
        if inspect.isclass(value) and issubclass(value, heads.MarginHead)
    } - {"MarginHead"}


def fields(model, table=""):
    """Every key with a description, and its field; `schedule.name` for a key of an inner table."""
    inner = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Table)]
        if tables:
            inner[name] = tables[0]
        elif field.description:
            yield table + name, field
    for name, each in inner.items():
        yield from fields(each, f"{name}.")


def test_the_page_declares_every_key():
    page = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| (.+) \|$", page, re.M)
    declared = list(fields(Settings))
    assert [(name, what) for name, _, what in rows] == [(n, f.description) for n, f in declared]
    for (_, written, _), (name, field) in zip(rows, declared, strict=True):
        default = field.default
        assert written == (
            "required" if field.is_required() else "-" if default is None else f"`{default}`"
        ), name
    for table in TABLES:
        assert f"[{table}]" in page


def test_the_recipe_of_the_page_is_one(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    recipe = recipe_of(tmp_path, text)
    assert recipe.settings.schedule.milestones == [10, 16] and recipe.settings.margin_ramp == {
        "epochs": 4
    }


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
    recipe = recipe_of(kitchen, RECIPE.replace('model = "small.keras"', arguments))
    assert next(iter(recipe.settings.embedder.arguments.values())) == checked


@pytest.mark.parametrize(("size", "shape"), [("160", (160, 160)), ('"112x96"', (112, 96))])
def test_the_crop_has_one_side_or_two(kitchen, size, shape):
    embedder = f'backbone = "SphereNet"\nimage_size = {size}'
    recipe = recipe_of(kitchen, RECIPE.replace('model = "small.keras"', embedder))
    assert recipe.settings.embedder.crop.shape == shape


@pytest.mark.parametrize("size", ["0", "true", '"112x"', "[112, 96]", '"9999x9999"', "1.5"])
def test_another_size_is_refused(kitchen, size):
    embedder = f'backbone = "SphereNet"\nimage_size = {size}'
    with pytest.raises(ValueError, match=r"`embedder.image_size` must be .*112x96.*image_size = "):
        recipe_of(kitchen, RECIPE.replace('model = "small.keras"', embedder))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ('"SphereNet"\narguments.width = [16]', "arguments.width` is unknown.*arguments.widths'"),
        ('"SphereNet"\narguments.widths = 16', "`embedder.arguments.widths` must be a list"),
        ('"SphereNet"\narguments.widths = [16.5]', "`embedder.arguments.widths` .*whole number"),
        ('"SphereNet"\narguments.widths = ["a"]', "`embedder.arguments.widths` .*whole number"),
        ('"SphereNet"\narguments.input_shape = [1]', "`embedder.arguments.input_shape` is unkno"),
        ('"IResNet50"\narguments.depths = [1]', "`embedder.arguments.depths` is unknown"),
        ('"MobileNetV2"\narguments.alhpa = 0.5', "arguments.alhpa` .*mean .*arguments.alpha'"),
        ('"MobileNetV2"\narguments.include_top = true', "arguments.include_top` is unknown"),
        ('"MobileNetV2"\narguments = 3', "`embedder.arguments` must be a table"),
    ],
)
def test_wrong_backbone_arguments_are_refused(kitchen, arguments, rule):
    with pytest.raises(ValueError, match=rule):
        recipe_of(kitchen, RECIPE.replace('model = "small.keras"', f"backbone = {arguments}"))


def test_changes_are_toml_values_or_bare_texts(kitchen):
    changes = ["head.margin=0.4", "margin_ramp.epochs = 3", "data.path=a=b", "optimizer.name=Adam"]
    changes += ["optimizer.momentum=0.5"]  # not an argument of Adam
    with pytest.raises(ValueError, match=r"`optimizer.momentum` is unknown"):
        read_recipe(kitchen / "recipe.toml", changes)
    text = (kitchen / "recipe.toml").read_text().replace("momentum = 0.9\n", "")
    (kitchen / "recipe.toml").write_text(text)
    recipe = read_recipe(kitchen / "recipe.toml", changes[:-1])
    assert (recipe.settings.head["margin"], recipe.settings.margin_ramp) == (0.4, {"epochs": 3})
    assert (recipe.settings.data.path, recipe.settings.optimizer["name"]) == ("a=b", "Adam")
    assert tomllib.loads(recipe.text) == recipe.document
    assert read_recipe(kitchen / "recipe.toml").text == text


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("head.margin", "--set must be KEY=VALUE"),
        ("head.margin=", "--set must be KEY=VALUE"),
        ("head..margin=1", "--set must be KEY=VALUE"),
        ("epochs.more=1", "`epochs` is not a table"),
        ("head.margn=0.4", "`head.margn` is unknown.*mean 'head.margin'"),
        ("heat.margin=0.4", "`heat` is unknown.*mean 'head'"),
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
