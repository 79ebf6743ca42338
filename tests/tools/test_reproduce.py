"""The experiments of the five papers: recipes, settings, and the cleaning of labels."""

import csv
import itertools
from pathlib import Path

import crops
import keras
import measure
import numpy as np
import pytest
import reproduce
import small_models
import tables
from numpy.testing import assert_allclose
from PIL import Image
from studies import RECIPES, STUDIES, Setting, Study
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import Pairs
from keras_facemargin.evaluate.protocols import View1
from keras_facemargin.files import exclusive
from keras_facemargin.images.synthetic import synthesize_faces
from keras_facemargin.training.recipe import read_recipe
from keras_facemargin.zoo import DIRECTORY, load_embedder

FILES = sorted(RECIPES.glob("*/*.toml"))
SETTINGS = list(
    dict.fromkeys(setting for study in STUDIES.values() for setting in study.all_settings)
)


def test_the_recipes_differ_in_the_head_only():
    assert len(FILES) > 5
    first, *others = (read_recipe(path).settings.model_dump(exclude={"head"}) for path in FILES)
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", small_models.LOSSES)
def test_a_model_takes_the_head_of_an_experiment(name):
    """View 1 was read there."""
    loss = small_models.LOSSES[name]
    head = {"name": loss.head, **loss.arguments}
    assert head in [tables.arguments_of(setting)["head"] for setting in SETTINGS]


def test_the_models_in_the_zoo_are_small():
    assert all(map(small_models.is_whole, small_models.LOSSES))
    files = [DIRECTORY / name / "embedder.keras" for name in small_models.LOSSES]
    assert sum(file.stat().st_size for file in files) < 12e6


def test_a_model_without_figures_is_not_whole():
    """A stop after the first form of its card left one."""
    names = ("cosface_small", "adaface_ir101_webface12m", "none")
    assert [*map(small_models.is_whole, names)] == [True, False, False]


def test_people_of_the_card_are_not_trained_on():
    crop, seen = Path("celeb2/train/c6/0.jpg"), Path("celeb/train/c6/0.jpg")
    other = Path("celeb2/train/c10/0.jpg")
    assert small_models.split([(crop, "c6"), (other, "c10")]) == (
        [(other, "c10")],
        [(crop, "c6")],
    )
    # A person with crops in both sets: the default embedder has seen some.
    assert small_models.split([(crop, "c6"), (seen, "c6")])[1] == []


def test_a_small_embedder_has_the_first_stages_of_the_default():
    images = synthesize_faces(2, 2, seed=0)[0].astype("float32")
    origin = load_embedder(small_models.ORIGIN).get_layer("spherenet")
    third = origin.get_layer(small_models.FIRST_OF_LAST).output
    maps = keras.Model(origin.inputs[0], third).predict(images, verbose=0)
    embedder, last = small_models.small_embedder()
    expected = embedder.predict(images, verbose=0)
    assert_allclose(last.predict(maps, verbose=0), expected, atol=1e-4)


def test_each_side_of_a_crop_is_seen_once_in_an_epoch():
    maps = np.arange(2 * small_models.BATCH, dtype="float16").reshape(-1, 2, 1)
    data = small_models.Maps(maps, np.arange(small_models.BATCH))
    for _ in range(2):
        found = [data[number] for number in range(len(data))]
        sides = np.concatenate([batch for batch, _ in found])[:, 0]
        truth = np.concatenate([truth for _, truth in found])
        assert sorted(sides) == [*range(2 * small_models.BATCH)]
        assert_allclose(truth, sides // 2)
        data.on_epoch_end()


def test_each_recipe_is_trained():
    assert {RECIPES / f"{setting.recipe}.toml" for setting in SETTINGS} == set(FILES)


@pytest.mark.parametrize("setting", SETTINGS, ids=tables.name_of)
def test_a_recipe_takes_the_changes_of_a_setting(setting):
    read_recipe(RECIPES / f"{setting.recipe}.toml", [*setting.changes, "seed=1"])


def test_no_two_settings_are_the_same_training():
    """A recipe's own value is in more than one sweep and is trained once."""
    trainings = [str(sorted(tables.arguments_of(setting).items())) for setting in SETTINGS]
    assert len(set(trainings)) == len(trainings)


def test_runs_have_folders_of_their_own():
    keys = [reproduce.key_of(setting, seed) for setting in SETTINGS for seed in (0, 1)]
    assert len({reproduce.run_name(key) for key in keys}) == len(keys)


def test_labels_are_cleaned_by_embeddings():
    axes = np.eye(5)
    people = {  # label -> embeddings
        0: [axes[0], axes[0], axes[0]],
        1: [axes[0], axes[0], axes[1], axes[1], axes[1]],  # one of them is another person's
        2: [axes[0], axes[0]],  # the person of label 0
        3: [axes[3], axes[3]],  # of the test set
        4: [axes[4]],
    }
    people[1] = [axes[1], axes[1], axes[1], axes[0]]
    embeddings = np.array([row for rows in people.values() for row in rows])
    labels = np.repeat(list(people), [len(rows) for rows in people.values()])
    keep, person, dropped = crops.clean(embeddings, labels, (axes[[3, 3]], [0, 0]))
    assert person[keep].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert list(dropped.values()) == [1, 2, 1, 1, 1]


def test_each_development_list_is_judged_at_the_threshold_of_the_other():
    angles = {"a": 0.0, "b": 10.0, "c": 30.0, "d": 50.0, "e": 70.0}  # degrees
    embeddings = np.array([[np.cos(each), np.sin(each)] for each in np.deg2rad([*angles.values()])])
    rows = {Path(name): row for row, name in enumerate(angles)}
    train = Pairs([*"aa"], [*"cd"], np.array([True, False]))  # a threshold of 30 degrees
    test = Pairs([*"aaa"], [*"bde"], np.array([True, True, False]))  # of 50
    # Wrong: a-d of the tests at 30 degrees, a-d of the training list at 50, both read as the other.
    assert measure.accuracy_view_1(View1(train, test), embeddings, rows) == 3 / 5


def test_an_image_that_is_missing_is_rejected():
    pairs = Pairs([*"aa"], [*"ab"], np.array([True, True]), missing=frozenset({Path("b")}))
    scores = measure.scores_of(pairs, np.array([[2.0, 0.0]]), {Path("a"): 0})
    assert scores.tolist() == [1.0, -1.0]


def test_people_with_one_image_are_the_strangers_of_the_open_set():
    axes = np.eye(4)
    labels = np.array([0, 0, 1, 1, 2])
    close = axes[[0, 0, 1, 1, 3]]
    assert measure.open_set_rate(close, labels) is None  # one stranger: no 1 %
    strangers = np.tile(axes[3], (100, 1)) + 0.1 * axes[0]
    embeddings = np.concatenate([axes[[0, 0, 1, 2]], strangers])
    assert measure.open_set_rate(embeddings, np.array([0, 0, 1, 1, *range(2, 102)])) == 0.5


def test_an_embedder_that_learned_nothing_has_its_accuracy_only(tmp_path, monkeypatch):
    """`verify_all_pairs` refuses millions of equal scores."""

    def refuse(*_, **__):
        raise ValueError("At most 8,000,000 pairs ...")

    monkeypatch.setattr(measure, "verify_all_pairs", refuse)
    for person, image in itertools.product("ab", "12"):
        (tmp_path / "faces" / person).mkdir(parents=True, exist_ok=True)
        pixels = np.full((112, 112, 3), 50 * int(image), "uint8")
        Image.fromarray(pixels).save(tmp_path / "faces" / person / f"{person}_000{image}.png")
    tiny_embedder().save(tmp_path / "tiny.keras")
    faces = FaceFolder(tmp_path / "faces")
    sides = [[str(path) for path in paths] for paths in (faces.paths, faces.paths[::-1])]
    pairs = Pairs(*sides, np.array([True, False] * 2))
    folds = Pairs(*sides, np.array([True, False] * 2), np.array([0, 0, 1, 1]))
    tests = measure.Tests(faces, View1(pairs, pairs), folds, faces)
    row = measure.measure(tmp_path / "tiny.keras", tests)
    assert {name for name, value in row.items() if value} == {"view1", "view2"}
    assert [*row] == [*measure.COLUMNS]


def test_norms_of_blurred_crops_are_shares_of_those_of_the_clean(tmp_path):
    """The norm of the contrast: a blur removes a checkerboard."""
    board = 255 * (np.indices((112, 112)).sum(axis=0) % 2)
    for number in range(3):
        Image.fromarray(np.stack([board] * 3, axis=2).astype("uint8")).save(
            tmp_path / f"{number}.png"
        )
    contrast = keras.Sequential(
        [
            keras.Input((112, 112, 3)),
            keras.layers.Lambda(lambda x: keras.ops.mean(keras.ops.abs(x - 127.5), axis=(1, 2))),
        ]
    )
    share = measure.norm_of_blurred(contrast, sorted(tmp_path.glob("*.png")))
    assert share < 0.1


def test_a_training_that_fails_ends_with_its_code(tmp_path, capfd):
    """`facemargin train` has said why."""
    setting = Setting("cosface/cosface", ("head.margin=1.5e9",))
    key = reproduce.key_of(setting, 0)
    with pytest.raises(SystemExit) as stop:
        reproduce.train(key, setting, tmp_path / "run", tmp_path)
    assert stop.value.code not in (0, None)
    assert "Received:" in capfd.readouterr().err


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(tmp_path, monkeypatch):
    """Drawn faces, one epoch, one setting."""
    images = synthesize_faces(9, 4, seed=0)[0][:33]  # of the last person only one
    data = tmp_path / "data"
    for number, image in enumerate(images):
        person, count = divmod(number, 4)
        folder = ("celeb/train", "celeb2/train", "lfw/aligned")[min(person // 3, 2)]
        place = data / folder / f"p{person}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image, np.uint8)).save(place / f"p{person}_000{count + 1}.jpg")
    fold = "p6\t1\t2\np6\t1\tp7\t1\n"
    for file in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (data / "lfw" / file).write_text(f"1\n{fold}")
    (data / "lfw" / "pairs.txt").write_text(f"2\t1\n{fold}p6\t3\t4\np6\t2\tp7\t2\n")
    quick = Setting("cosface/cosface", ("epochs=2", "batch_size=4", "head.margin=0.0"))
    monkeypatch.setitem(STUDIES, "cosface", Study((), (quick,)))
    results = tmp_path / "results.csv"
    arguments = ["cosface", "--data", data, "--work", tmp_path / "work", "--results", results]
    arguments += ["--seeds", 0, "--teacher", "spherenet_distilled"]
    arguments += ["--corrections", tmp_path / "labels.csv"]
    arguments = [str(each) for each in arguments]
    name = reproduce.run_name(reproduce.key_of(quick, 0))
    with exclusive(tmp_path / "work" / "runs" / f"{name}-row"):
        reproduce.main(arguments)  # another process trains it
    assert not results.exists()
    for _ in range(2):
        reproduce.main(arguments)
    with results.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["changes"], row["seed"]) == (" ".join(quick.changes), "0")
    assert float(row["fisher"]) > 0


SPHERE = "sphereface/sphereface"
ROWS = [
    {"recipe": recipe, "changes": changes, "view1": str(view1), "tar_1e-04": tar}
    for recipe, changes, view1, tar in [
        (SPHERE, "head.margin=1", 0.7, "0.1"),
        (SPHERE, "head.margin=1", 0.9, ""),
        (SPHERE, "head.margin=2 head.base=0.0", 0.85, "0.2"),
        (SPHERE, "head.margin=2 head.base=0.0", 0.85, "0.4"),
        ("l2_softmax/softmax", "", 0.6, "0.3"),
        ("l2_softmax/softmax", "", 0.6, "0.3"),
        ("of/no_study", "", 0.9, "0.3"),
    ]
]
AT_ONE = Setting(SPHERE, ("head.margin=1",))
AT_TWO = Setting(SPHERE, ("head.margin=2", "head.base=0.0"))
SOFTMAX = Setting("l2_softmax/softmax")
ADAFACE = "heads/adaface"


def all_measures(row):
    return dict.fromkeys([*tables.MEASURES, *tables.MORE["cosface"], "accuracy"], "0.5") | row


def test_intervals_have_the_spread_over_seeds_of_all_settings():
    found = tables.results_of(map(all_measures, ROWS), [AT_ONE, AT_TWO, SOFTMAX], tables.MEASURES)
    first, second, third = found.values()
    # Squares 0.02, 0 and 0 with three degrees of freedom; t is 3.182.
    half = 3.182446 * np.sqrt(0.02 / 3) / np.sqrt(2)
    assert first["view1"] == pytest.approx((0.8, half))
    assert second["view1"] == pytest.approx((0.85, half))
    assert "tar_1e-04" not in first
    assert third["tar_1e-04"].mean == pytest.approx(0.3)


def test_a_setting_on_the_edge_of_failure_has_an_interval_of_its_own():
    values = iter((0.5, 0.7))  # one seed nearly fails
    edge = [all_measures(row) | {"accuracy": "0.3", "view1": next(values)} for row in ROWS[2:4]]
    alone = tables.results_of(map(all_measures, ROWS[:2]), [AT_ONE], tables.MEASURES)
    found = tables.results_of(
        [*map(all_measures, ROWS[:2]), *edge], [AT_ONE, AT_TWO], tables.MEASURES
    )
    assert found[AT_ONE] == alone[AT_ONE]
    assert found[AT_TWO]["view1"] == pytest.approx((0.6, 12.7062 * 0.1))


def test_a_setting_that_learned_nothing_has_no_interval_and_no_point():
    failed = [all_measures(row) | {"tar_1e-03": "", "accuracy": "0.001"} for row in ROWS[2:4]]
    rows = [*map(all_measures, ROWS[:2]), *failed]
    found = tables.results_of(rows, [AT_ONE, AT_TWO], tables.MEASURES)
    assert found[AT_TWO]["view1"].mean == 0.85 and np.isnan(found[AT_TWO]["view1"].half)
    assert found[AT_ONE]["view1"].half > 0
    figure = tables.draw_sweeps(found, Study((), (AT_ONE, AT_TWO)))
    assert [len(axes.containers) for axes in figure.axes] == [1, 1]


def test_view_1_of_the_first_seed_chooses_one_setting_of_each_recipe(tmp_path):
    rows = [
        reproduce.key_of(setting, seed) | {"view1": view_1}
        for setting, seed, view_1 in [
            (AT_ONE, 0, 0.7),
            (AT_TWO, 0, 0.8),
            (AT_ONE, 1, 0.9),
            (SOFTMAX, 0, 0.6),
        ]
    ]
    results = tmp_path / "rows.csv"
    reproduce.add_rows(results, rows[0], rows)
    study = Study(
        (SOFTMAX,), (AT_ONE, AT_TWO, Setting(ADAFACE, ("a",)), Setting(ADAFACE, ("b",))), True
    )
    runs = [(setting, seed) for _, setting, seed in reproduce.runs_of(study, (0, 1), results)]
    assert runs[:5] == [(setting, 0) for setting in study.all_settings]
    assert runs[5:] == [(SOFTMAX, 1), (AT_TWO, 1)]  # AdaFace is not measured


def test_what_is_chosen_is_read_after_the_runs_of_the_first_seed(tmp_path):
    results = tmp_path / "rows.csv"
    found = []
    for _, setting, seed in reproduce.runs_of(Study((), (AT_ONE, AT_TWO), True), (0, 2), results):
        found.append((setting, seed))
        row = reproduce.key_of(setting, seed) | {"view1": len(found)}
        reproduce.add_rows(results, row, [row])
    assert found == [(AT_ONE, 0), (AT_TWO, 0), (AT_TWO, 2)]


def test_a_table_stands_between_its_marks(tmp_path, monkeypatch, capsys):
    study = Study((SOFTMAX,), (AT_ONE, AT_TWO))
    monkeypatch.setattr(tables, "STUDIES", {"unknown": study, "cosface": study})
    results = tmp_path / "results.csv"
    rows = list(map(all_measures, ROWS))
    with results.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    page = tmp_path / "cosface.md"
    page.write_text(f"# CosFace\n\n{tables.BEGIN}old\n{tables.END}\n\nText\n")
    tables.main(["--results", str(results), "--docs", str(tmp_path)])
    assert "unknown: no page" in capsys.readouterr().out
    text = page.read_text()
    assert "| sphereface | margin=2, base=0.0 | 85.0 ± 18.4 | 50.0 ± 0.0 |" in text
    assert "old" not in text
    assert text.endswith(f"{tables.END}\n\nText\n")
    assert (tmp_path / "cosface.png").stat().st_size > 1000
    page.write_text("# CosFace\n")
    with pytest.raises(SystemExit, match="must have the marks"):
        tables.main(["--results", str(results), "--docs", str(tmp_path)])


def test_missing_rows_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"Received: .*none\.csv, which does not exist"):
        tables.main(["--results", str(tmp_path / "none.csv")])


def test_one_seed_has_no_interval():
    found = tables.results_of(map(all_measures, ROWS[4:5]), [SOFTMAX], tables.MEASURES)
    assert "| softmax |  | 60.0 | 50.0 |" in tables.table_of(found, tables.MEASURES)


def test_the_recipes_own_value_is_a_point_of_each_sweep():
    study = STUDIES["cosface"]
    sweeps, lines = tables.sweeps_of(dict.fromkeys((*study.baselines, *study.settings)), study)
    assert [sorted(points) for points in sweeps.values()] == [
        [0.0, 0.1, 0.2, 0.35, 0.45],
        [8.0, 16.0, 30.0, 64.0],
    ]
    assert sweeps[tables.Sweep("cosface/cosface", "head.scale", ())][30.0].changes == (
        "head.margin=0.35",
    )
    assert lines == [Setting(SPHERE, ("head.margin=1",))]


def test_depths_are_drawn_at_their_number_of_convolutions():
    assert tables.position("[1,2,4,1]") == 20
    assert tables.position("0.35") == 0.35
    assert tables.position("true") is None
