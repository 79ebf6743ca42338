"""The experiments of the five papers: recipes, settings, and the cleaning of labels."""

import csv
from pathlib import Path

import crops
import final
import numpy as np
import pytest
import reproduce
from PIL import Image
from studies import STUDIES

from keras_facemargin.images.synthetic import synthesize_faces
from keras_facemargin.training.recipe import read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "zoo" / "recipes").glob("*/*.toml"))
SETTINGS = [(paper, setting) for paper, settings in STUDIES.items() for setting in settings]


def test_the_recipes_differ_in_the_head_only():
    assert len(RECIPES) > 5
    first, *others = (read_recipe(path).settings.model_dump(exclude={"head"}) for path in RECIPES)
    assert all(other == first for other in others)


@pytest.mark.parametrize(("paper", "setting"), SETTINGS)
def test_a_recipe_takes_the_changes_of_a_setting(paper, setting):
    path = reproduce.ROOT / "zoo" / "recipes" / paper / f"{setting.recipe}.toml"
    read_recipe(path, [*setting.changes, "seed=1"])


def test_runs_have_folders_of_their_own():
    keys = [
        reproduce.key_of(paper, setting, seed) for paper, setting in SETTINGS for seed in (0, 1)
    ]
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


def test_view_1_chooses_one_setting_of_each_recipe():
    view1 = {("a", "m=1"): (0.7, 0.9), ("a", "m=2"): (0.8, 0.9), ("b", "m=1"): (0.5, 0.5)}
    rows = [
        {"recipe": recipe, "changes": changes, "seed": seed, "view1": str(value)}
        for (recipe, changes), values in view1.items()
        for seed, value in enumerate(values)
    ]
    assert final.chosen(rows) == [rows[2], rows[3], rows[4], rows[5]]


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(tmp_path, monkeypatch):
    """Drawn faces, one epoch, one setting."""
    images, _ = synthesize_faces(8, 4, seed=0)
    data = tmp_path / "data"
    for number, image in enumerate(images):
        person, count = divmod(number, 4)
        folder = ("celeb/train", "celeb2/train", "lfw/aligned")[min(person // 3, 2)]
        place = data / folder / f"p{person}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image, np.uint8)).save(place / f"p{person}_000{count + 1}.jpg")
    for file in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (data / "lfw" / file).write_text("1\np6\t1\t2\np6\t1\tp7\t1\n")
    setting = STUDIES["cosface"][0]
    quick = setting._replace(changes=("epochs=2", "batch_size=4", *setting.changes))
    monkeypatch.setitem(STUDIES, "cosface", [quick])
    results = tmp_path / "results.csv"
    arguments = ["cosface", "--data", data, "--work", tmp_path / "work", "--results", results]
    arguments += ["--seeds", 0, "--teacher", "spherenet_distilled"]
    for _ in range(2):
        reproduce.main([str(each) for each in arguments])
    with results.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["changes"], row["seed"]) == (" ".join(quick.changes), "0")
    assert float(row["fisher"]) > 0
