"""The command line: every help shows an example that parses, every wrong door says one sentence."""

import inspect
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import typer
from PIL import Image
from published_sets import (
    write_agedb,
    write_agedb_images,
    write_blufr,
    write_cfp,
    write_cfp_images,
    write_crossed,
    write_ijb,
    write_ijba,
    write_ijbc_covariates,
    write_megaface,
    write_trillion,
    write_ytf,
)
from tiny import tiny_embedder
from typer.testing import CliRunner

from keras_facemargin import cli
from keras_facemargin.cli import faces as faces_commands
from keras_facemargin.cli import training
from keras_facemargin.cli.console import console
from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.cli.training import Head
from keras_facemargin.data import FaceFolder, write_face_records, write_pairs_bin
from keras_facemargin.data.synthetic import write_synthetic_faces
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.finetune import HEADS, finetune
from keras_facemargin.zoo import DIRECTORY, load_card, load_embedder

ROOT = typer.main.get_command(cli.app)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    tiny_embedder().save(path)
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(directory, 8, 8)
    return directory


@pytest.fixture
def facemargin(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["facemargin", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


def assert_one_sentence(result, *parts):
    """Exit code 1 and, apart from progress, one line on standard error that holds the parts."""
    code, _, error = result
    assert code == 1
    (line,) = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert error.rstrip().splitlines()[-1] == line
    assert "Traceback" not in error
    for part in parts:
        assert str(part) in line


# Help.


def commands(command=ROOT, words=("facemargin",)):
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


COMMANDS = dict(commands())


def examples(command):
    return re.findall(r"`(facemargin [^`]+)`", command.help)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_answers(words):
    result = CliRunner().invoke(cli.app, [*words[1:], "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert "Usage: " in result.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_example_is_of_that_command_and_parses(words):
    (example,) = examples(COMMANDS[words])
    found, rest = (), shlex.split(example)
    while rest and (*found, rest[0]) in COMMANDS:
        found += (rest.pop(0),)
    assert found[: len(words)] == words
    COMMANDS[found].make_context(found[-1], rest)  # raises on what it does not know


def test_the_examples_names_are_the_demos():
    from keras_facemargin import demo

    folder = f"facemargin-demo/faces-{demo.PEOPLE}x{demo.IMAGES_EACH}-seed0"
    texts = " ".join(example for each in COMMANDS.values() for example in examples(each))
    assert set(re.findall(r"facemargin-demo/faces[^/ ]*", texts)) == {folder}


def test_the_command_and_the_function_agree_on_defaults():
    mine, theirs = (inspect.signature(f).parameters for f in (training.finetune, finetune))
    for name in ("head", "epochs", "batch_size", "learning_rate", "seed"):
        assert mine[name].default == theirs[name].default
    assert list(Head) == list(HEADS)


# What each command does.


def test_embed_writes_embeddings_and_paths(facemargin, model, faces):
    code, out, _ = facemargin("embed", faces, "-m", model, "-o", "new/folder/e.npz")
    assert code == 0
    assert "new/folder/e.npz: 64 embeddings of 48 numbers" in out
    with np.load("new/folder/e.npz", allow_pickle=False) as file:
        assert file["embeddings"].shape == (64, 48)
        assert file["embeddings"].dtype == "float32"
        assert list(file["paths"]) == [str(path) for path in sorted(faces.rglob("*.jpg"))]
    assert [path.name for path in Path("new/folder").iterdir()] == ["e.npz"]


def test_embed_takes_files_in_order_and_passes_over_hidden_ones(facemargin, model, faces):
    shutil.copytree(faces / "person_001", "more")
    Path("more/._000.jpg").write_bytes(b"junk")
    first = faces / "person_003" / "002.jpg"
    code, *_ = facemargin("embed", first, "more", "--no-flip", "-m", model, "-o", "e.npz")
    assert code == 0
    with np.load("e.npz") as file:
        assert file["embeddings"].shape == (9, 24)
        assert file["paths"][0] == str(first)


def test_verify_at_a_threshold_of_ones_own(facemargin, model, faces):
    pair = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"]
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "-1")
    assert (code, out.split(":")[0]) == (0, "same person")
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "1")
    assert (code, out.split(":")[0]) == (0, "different people")
    code, out, _ = facemargin("verify", pair[0], pair[0], "-m", model, "--threshold", "0.999")
    assert "same person: cosine 1.0000, threshold 0.9990" in out


def test_verify_at_the_cards_threshold(facemargin, faces):
    different = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"]
    chosen = load_card(DEFAULT).threshold
    _, out, _ = facemargin("verify", *different)
    assert out.startswith("different people: ")
    assert f"threshold {chosen.cosine:.4f}" in out
    assert f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs" in out


@pytest.mark.filterwarnings("always")
def test_verify_warns_of_what_looks_like_an_unaligned_photo(facemargin, model, faces):
    face = faces / "person_000" / "000.jpg"
    Image.new("RGB", (250, 250), "grey").save("photo.jpg")
    code, _, error = facemargin("verify", face, "photo.jpg", "-m", model, "--threshold", "0.5")
    assert code == 0
    assert "1 of 2 images were resized to 112x112" in error
    assert "photo.jpg (250x250)" in error
    _, _, error = facemargin("verify", face, face, "-m", model, "--threshold", "0.5")
    assert error == ""


@pytest.mark.parametrize(
    "head",
    [pytest.param(head, marks=[] if head is Head.cosface else pytest.mark.slow) for head in Head],
)
def test_finetune_trains_with_each_head(facemargin, model, faces, head):
    code, out, _ = facemargin(
        *("finetune", faces, "-m", model, "--head", head.value),
        *("--epochs", 4, "--learning-rate", 0.003, "-o", "new/[1]"),
    )
    assert code == 0
    assert "new/[1]/embedder.keras, classifier.keras, report.json" in out
    assert re.search(r"EER\W+\d+\.\d+%\W+\d+\.\d+%", out)
    record = json.loads(Path("new/[1]/report.json").read_text())
    assert record["head"].lower() == head.value
    assert record["history"]["loss"][-1] < record["history"]["loss"][0]
    assert keras.saving.load_model("new/[1]/embedder.keras").output_shape == (None, 24)


@pytest.mark.filterwarnings("always")
def test_finetune_leaves_bad_images_out_when_told(facemargin, model, faces):
    shutil.copytree(faces, "faces")
    Path("faces/person_000/bad.jpg").write_bytes(b"junk")
    code, _, error = facemargin("finetune", "faces", "-m", model)
    assert code == 1
    assert error.startswith(
        "Error: faces has 1 entry that is no face crop:\n  faces/person_000/bad"
    )
    assert 'on_bad="skip"' in error
    assert not Path("finetuned").exists()
    code, out, error = facemargin(
        "finetune", "faces", "-m", model, "--epochs", 1, "--on-bad", "skip"
    )
    assert code == 0
    assert "64 images of 8 identities" in out
    assert "Warning: faces has 1 entry" in error
    assert "faces/person_000/bad.jpg" in error


def test_evaluate_lfw_writes_plots_and_figures(facemargin, model, tmp_path):
    write_synthetic_faces("synthetic", 6, 2)
    for person in Path("synthetic").iterdir():
        for number, image in enumerate(sorted(person.iterdir()), start=1):
            place = Path("lfw", person.name, f"{person.name}_{number:04d}.jpg")
            place.parent.mkdir(parents=True, exist_ok=True)
            image.rename(place)
    lines = ["2\t3"]
    for fold in range(2):
        names = [f"person_{3 * fold + number:03d}" for number in range(3)]
        lines += [f"{name}\t1\t2" for name in names]
        lines += [f"{names[i]}\t1\t{names[i - 1]}\t2" for i in range(3)]
    Path("pairs.txt").write_text("\n".join(lines) + "\n")
    command = ("evaluate", "lfw", "--images", "lfw", "--pairs", "pairs.txt", "-m", model)
    code, out, _ = facemargin(*command, "-o", "results")
    assert code == 0
    assert "6 genuine, 6 impostor" in out
    record = json.loads(Path("results/results.json").read_text())
    assert record["folds"] == [1, 2]
    assert 0 <= record["accuracy"] <= 1
    for name in ("roc", "scores", "hardest_pairs"):
        with Image.open(f"results/{name}.png") as picture:
            assert picture.width > 300

    Path("lfw/person_000/person_000_0002.jpg").unlink()
    code, _, error = facemargin(*command, "-o", "refused")
    assert code == 1
    assert "person_000_0002.jpg" in error
    assert not Path("refused").exists()
    code, out, _ = facemargin(*command, "-o", "rejected", "--on-missing", "reject")
    assert code == 0
    assert "counted as rejected" in out


@pytest.fixture
def few_pairs():
    """A file of pairs and its images, as LFW's are laid out; the command to evaluate them."""
    files = write_synthetic_faces("people", 6, 2)
    lines = ["2\t3"]
    for number, image in enumerate(files):
        name = f"p{number // 2}"
        place = Path("lfw", name, f"{name}_{number % 2 + 1:04d}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        Path(image).rename(place)
    for names in (("p0", "p1", "p2"), ("p3", "p4", "p5")):
        lines += [f"{name}\t1\t2" for name in names]
        lines += [f"{names[i]}\t1\t{names[i - 1]}\t2" for i in range(3)]
    Path("pairs.txt").write_text("\n".join(lines) + "\n")
    return "evaluate", "lfw", "--images", "lfw", "--pairs", "pairs.txt"


def test_evaluate_writes_one_page_that_compares_and_groups(facemargin, model, few_pairs):
    shutil.copy(model, "other.keras")
    rows = [f"p{number},{'odd' if number % 2 else 'even'}" for number in range(6)]
    Path("groups.csv").write_text("\n".join(["person,parity", *rows]))
    command = (*few_pairs, "-m", model, "-m", "other.keras")
    code, out, _ = facemargin(*command, "--report", "new/page.html", "--groups", "groups.csv")
    assert code == 0
    assert "new/page.html, page.json" in out
    assert re.search(r"Measure +┃ \S+tiny.keras +┃ other.keras", out)
    assert sorted(path.name for path in Path("new").iterdir()) == ["page.html", "page.json"]
    assert not Path("lfw-results").exists()
    record = json.loads(Path("new/page.json").read_text())
    one, other = record["models"][str(model)], record["models"]["other.keras"]
    assert one == other
    assert record["intervals"]["resampled"] == "identities"
    assert [group["name"] for group in one["groups"]["parity"]["groups"]][:2] == [
        "all pairs",
        "even",
    ]
    assert "Errors by parity" in Path("new/page.html").read_text()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ("-m MODEL -m other.keras", ["2 models without --report"]),
        ("-m MODEL --groups groups.csv", ["--groups without --report"]),
        ("-m MODEL -m MODEL --report r.html", ["named once"]),
        ("-m MODEL --report r.pdf", ["*.html", "Received: r.pdf"]),
        ("-m MODEL --report r.html --groups nothere.csv", ["nothere.csv: No such file"]),
        ("-m MODEL --report r.html --groups pairs.txt", ["pairs.txt: must be a CSV"]),
    ],
)
def test_comparisons_that_cannot_be_written(facemargin, model, few_pairs, more, parts):
    shutil.copy(model, "other.keras")
    words = [model if word == "MODEL" else word for word in more.split()]
    assert_one_sentence(facemargin(*few_pairs, *words), *parts)
    assert not Path("r.html").exists()
    assert not Path("lfw-results").exists()


def test_evaluate_all_pairs_writes_a_page(facemargin, model, faces):
    command = ("evaluate", "all-pairs", faces, "-m", model, "--report", "all.html")
    assert facemargin(*command)[0] == 0
    assert sorted(path.name for path in Path().iterdir()) == ["all.html", "all.json"]
    record = json.loads(Path("all.json").read_text())
    assert record["models"][str(model)]["impostor_pairs"] == 1_792
    assert record["intervals"]["units"] == 8
    assert facemargin("embed", faces, "-m", model, "-o", "e.npz")[0] == 0
    assert facemargin("evaluate", "all-pairs", "e.npz", "--report", "file.html")[0] == 0
    again = json.loads(Path("file.json").read_text())["models"]["e.npz"]
    assert again == record["models"][str(model)]


def test_evaluate_bin_writes_a_page(facemargin, model):
    files = write_synthetic_faces("people", 4, 2)
    pairs = [*files[:2], files[0], files[2], *files[4:6], files[4], files[6]]
    write_pairs_bin("pairs.bin", pairs, [True, False, True, False])
    code, _, _ = facemargin(
        *("evaluate", "bin", "pairs.bin", "-m", model, "--folds", 2, "--report", "bin.html")
    )
    assert code == 0
    assert json.loads(Path("bin.json").read_text())["intervals"]["resampled"] == "pairs"


def test_calibrate_writes_the_threshold_into_the_card(facemargin, faces):
    shutil.copytree(DIRECTORY / DEFAULT, DEFAULT)
    card = Path(DEFAULT, "card.json")
    before = json.loads(card.read_text())
    command = ("calibrate", faces, "--card", card)
    code, out, _ = facemargin(*command, "--far", 0.01, "--no-flip")
    assert code == 0
    assert "all pairs of 64 images of 8 people, faces" in out
    after = json.loads(card.read_text())
    threshold = after.pop("threshold")
    old = before.pop("threshold")
    assert after == before
    assert (threshold["far"], threshold["flip"]) == (0.01, False)
    assert (threshold["genuine_pairs"], threshold["impostor_pairs"]) == (224, 1_792)
    assert f"{old['cosine']:.4f}" in out and f"{threshold['cosine']:.4f}" in out
    embedder = load_embedder(DEFAULT)
    people = FaceFolder(faces)
    scores, same = all_pairs(
        embed(embedder, people.paths, flip=False, progress=False), people.labels
    )
    impostors = scores[~same]
    # One per cent of 1,792; the next impostor lies at the threshold, but for a rounding.
    assert (impostors > threshold["cosine"] + 1e-9).sum() == 17
    assert (impostors > threshold["cosine"] - 1e-9).sum() == 18
    assert threshold["tar"] == np.mean(scores[same] > threshold["cosine"] + 1e-9)
    written = card.read_bytes()
    assert_one_sentence(
        facemargin(*command, "--far", 1e-4), "not supported by 1,792 impostor pairs"
    )
    assert_one_sentence(facemargin(*command, "--far", 1.5), "--far must be a rate")
    assert_one_sentence(facemargin("calibrate", faces, "--card", "no.json"), "no.json")
    assert card.read_bytes() == written


def write_view_1(folder):
    """Two people of two images each, who choose and judge."""
    write_synthetic_faces(folder / "drawn", 2, 2)
    for person in (folder / "drawn").iterdir():
        for number, image in enumerate(sorted(person.iterdir()), start=1):
            (folder / person.name).mkdir(exist_ok=True)
            image.rename(folder / person.name / f"{person.name}_{number:04d}.jpg")
    text = "1\nperson_000\t1\t2\nperson_000\t1\tperson_001\t2\n"
    for name in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("command", "write", "said", "key"),
    [
        ("lfw-view1", write_view_1, "Accuracy, View 1", "threshold"),
        (
            "cfp-ff",
            lambda here: (write_cfp(here), write_cfp_images(here)),
            "10 genuine, 10 impostor",
            "fold_accuracies",
        ),
        (
            "cfp-fp",
            lambda here: (write_cfp(here, "1,2", "1,5"), write_cfp_images(here)),
            "10 genuine, 10 impostor",
            "fold_accuracies",
        ),
        (
            "agedb-30",
            lambda here: write_agedb_images(write_agedb(here)),
            "20 genuine, 20 impostor",
            "fold_accuracies",
        ),
        (
            "calfw",
            lambda here: write_crossed(here, "pairs_CALFW.txt"),
            "10 genuine, 10 impostor",
            "fold_accuracies",
        ),
        (
            "cplfw",
            lambda here: write_crossed(here, "pairs_CPLFW.txt"),
            "10 genuine, 10 impostor",
            "fold_accuracies",
        ),
        ("ytf", write_ytf, "2 genuine, 2 impostor", "fold_accuracies"),
        ("ijba --split 1 --split 4", write_ijba, "TAR @ FAR 0.1", "standard_deviation"),
        ("ijba --split 1 --task search", write_ijba, "Rank-1", "splits"),
        (
            "ijbb --lambda 0.5",
            lambda here: write_ijb(here, "ijbb", ("S1", "S2"), True),
            "4 genuine, 12 impostor",
            "eer",
        ),
        (
            "ijbc --task search",
            lambda here: write_ijb(here, "ijbc", ("G1", "G2"), False),
            "G1, G2",
            "splits",
        ),
        ("ijbc --task covariates --by GENDER", write_ijbc_covariates, "3 + 12", "by"),
        ("blufr", write_blufr, "Rank-1", "mean_minus_standard_deviation"),
        ("megaface --size 10 --refined", write_megaface, "18, 9 images of 3 people", "rank_1"),
    ],
)
def test_evaluate_a_protocol(facemargin, model, command, write, said, key):
    write(Path.cwd())
    words = ("evaluate", *command.split(), "--lists", ".", "--images", ".", "-m", model)
    code, out, error = facemargin(*words, "-o", "results")
    assert code == 0, error
    assert said in out
    record = json.loads(Path("results/results.json").read_text())
    assert key in record
    assert (record["model"], record["flip"]) == (str(model), True)
    plots = {path.name for path in Path("results").glob("*.png")}
    assert {f"{path}.png" for path in ("roc", "scores")} <= plots or "fold" not in key


def test_evaluate_trillion_pairs_writes_the_file_to_send(facemargin, model):
    write_trillion(Path.cwd())
    words = ("evaluate", "trillion-pairs", "--lists", ".", "--images", ".", "-m", model)
    code, out, _ = facemargin(*words, "-o", "features.bin", "--no-flip")
    assert code == 0
    assert "features.bin: 7 rows of 24 numbers" in out
    assert Path("features.bin").stat().st_size == 16 + 7 * 24 * 4


def test_evaluate_identification_searches_folders(facemargin, model, faces):
    for person in sorted(faces.iterdir()):
        for number, image in enumerate(sorted(person.iterdir())):
            part = "known" if number < 4 and person.name < "person_006" else "searched"
            place = Path(part, person.name, image.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place)
    words = ("evaluate", "identification", "--gallery", "known", "-m", model)
    code, out, _ = facemargin(*words, "--probes", "searched", "-o", "results")
    assert code == 0
    assert "Probes, in a gallery of 6" in out
    assert "24 mated, 16 non-mated" in out
    record = json.loads(Path("results/results.json").read_text())
    assert record["splits"]["folders"]["mated_probes"] == 24
    assert 0 < record["mean"]["Rank-1"] <= 1
    result = facemargin(*words, "--probes", "known/person_000", "-o", "refused")
    assert_one_sentence(result, "must not be in the gallery", "4 images in both")


def test_evaluate_all_pairs_of_a_folder_and_of_its_embeddings(facemargin, model, faces):
    code, out, _ = facemargin("evaluate", "all-pairs", faces, "-m", model, "-o", "folder")
    assert code == 0
    assert "224 genuine, 1,792 impostor" in out
    assert "not supported by 1,792 impostor pairs" in out
    assert facemargin("embed", faces, "-m", model, "-o", "e.npz")[0] == 0
    assert facemargin("evaluate", "all-pairs", "e.npz", "-o", "file")[0] == 0
    of_folder, of_file = (
        json.loads(Path(name, "results.json").read_text()) for name in ("folder", "file")
    )
    assert of_folder.pop("flip") is True
    assert of_folder.pop("model") == str(model)
    assert of_folder.pop("faces") == str(faces)
    assert of_file.pop("faces") == "e.npz"
    assert of_folder == of_file
    assert [path.name for path in Path("file").iterdir()] == ["results.json"]


def test_evaluate_all_pairs_takes_labels_and_goes_on_from_its_state(facemargin):
    embeddings = np.random.default_rng(0).normal(size=(6, 4))
    np.savez("e.npz", embeddings=embeddings, labels=[1, 1, 2, 2, 3, 3])
    Path("out").mkdir()
    Path("out/state.npz").write_bytes(b"of something else")
    assert_one_sentence(facemargin("evaluate", "all-pairs", "e.npz", "-o", "out"), "state.npz")
    Path("out/state.npz").unlink()
    code, out, _ = facemargin("evaluate", "all-pairs", "e.npz", "-o", "out")
    assert code == 0
    assert "3 genuine, 12 impostor" in out


def test_evaluate_bin_writes_plots_and_figures(facemargin, model):
    files = write_synthetic_faces("people", 4, 2)
    pairs = [*files[:2], files[0], files[2], *files[4:6], files[4], files[6]]
    write_pairs_bin("pairs.bin", pairs, [True, False, True, False])
    command = ("evaluate", "bin", "pairs.bin", "-m", model)
    code, out, _ = facemargin(*command, "--folds", 2)
    assert code == 0
    assert "2 genuine, 2 impostor" in out
    record = json.loads(Path("bin-results/results.json").read_text())
    assert record["folds"] == [1, 2]
    assert {path.name for path in Path("bin-results").iterdir()} == {
        *("results.json", "roc.png", "scores.png", "hardest_pairs.png")
    }
    code, _, _ = facemargin(*command, "--folds", 0, "-o", "plain")
    assert code == 0
    assert "accuracy" not in json.loads(Path("plain/results.json").read_text())
    code, _, error = facemargin(*command, "-o", "refused")
    assert code == 1
    assert "Each fold needs pairs of both kinds" in error
    assert not Path("refused").exists()


def test_finetune_takes_records(facemargin, model, faces):
    folder = FaceFolder(faces)
    write_face_records("faces.rec", folder.paths, folder.labels)
    code, out, _ = facemargin("finetune", "faces.rec", "-m", model, "--epochs", 1)
    assert code == 0
    assert "64 images of 8 identities" in out
    assert Path("finetuned/embedder.keras").exists()


def test_pack_says_what_it_skipped_and_why(facemargin, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "people")
    (tmp_path / "people" / "person_000" / "empty.jpg").write_bytes(b"")
    code, out, _ = facemargin("pack", "people", "made/train.rec")
    assert code == 0
    assert "made/train.rec: 64 images of 8 identities" in out
    assert "the file is empty (0 bytes)" in out
    assert "Each is listed in made/train.rec.skipped.csv." in out
    code, out, _ = facemargin("pack", "made/train.rec", "made/train.tfrecord", "--shards", 2)
    assert (code, "Skipped" in out) == (0, False)
    assert sorted(path.name for path in Path("made").glob("*.tfrecord")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    assert_one_sentence(facemargin("pack", "people", "made/train.rec"), "never written over")


def test_finetune_takes_tfrecords(facemargin, model, faces):
    facemargin("pack", faces, "faces.tfrecord")
    code, out, _ = facemargin("finetune", "faces.tfrecord", "-m", model, "--epochs", 1)
    assert code == 0
    assert "64 images of 8 identities" in out


@pytest.mark.filterwarnings("always")
def test_check_data_finds_what_was_put_there(facemargin, model, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "people")
    first, second = (tmp_path / "people" / f"person_00{number}" for number in (0, 1))
    shutil.copy(first / "000.jpg", second / "copied.jpg")
    shutil.copytree(tmp_path / "people" / "person_002", tmp_path / "people" / "again")
    (first / "empty.jpg").write_bytes(b"")
    code, out, error = facemargin("check-data", "people", "-m", model, "--against", faces)
    assert code == 0
    assert "0 bytes" in error
    assert re.search(r"Bad files, left out +│ +1 │", out)
    assert "Two labels, one person? again, person_002: 1.000" in out
    assert re.search(r"In both sets\? person_00\d, person_00\d: 1.000", out)
    with Image.open("check-data.png") as sheet:
        assert sheet.height > 112
    assert_one_sentence(facemargin("check-data", "people", "-o", "sheet.txt"), "*.png")


def test_export_to_onnx(facemargin, model):
    code, out, _ = facemargin("export", "-m", model, "-o", "made/embedder.onnx")
    assert code == 0
    assert "made/embedder.onnx: onnx float32, passed" in out
    assert Path("made/embedder.onnx").stat().st_size > 1000


def test_export_int8_by_faces_of_ones_own(facemargin, model, faces):
    code, out, _ = facemargin(
        *("export", "-m", model, "-o", "e.tflite", "--precision", "int8", "--images", faces)
    )
    assert code == 0
    assert "int8, passed" in out
    assert "over 32 images" in out  # the other 32 set the ranges


def test_zoo_lists_and_prints_cards(facemargin):
    console.width = 80  # the name is what one types: it must not be cut
    code, out, _ = facemargin("zoo")
    assert code == 0
    assert DEFAULT in out
    assert f"{load_card(DEFAULT).threshold.cosine:.3f}" in out
    code, out, _ = facemargin("zoo", DEFAULT)
    assert json.loads(out) == json.loads(json.dumps(load_card(DEFAULT).to_dict()))


# Wrong doors.


@pytest.fixture
def wrong(faces, model):
    """A folder's worth of wrong things, in the current one; returns a good image."""
    Path("bad.jpg").write_bytes(b"junk")
    Path("bad.keras").write_bytes(b"junk")
    Path("empty").mkdir()
    Path("one/a").mkdir(parents=True)
    good = faces / "person_000" / "000.jpg"
    Path("cut.jpg").write_bytes(good.read_bytes()[:2000])
    Image.new("RGB", (100, 80)).save("wide.png")
    shutil.copy(good, "one/a")
    for person in range(5):
        shutil.copytree(faces / f"person_{person:03d}", f"few/{person}")
    Path("finetuned").mkdir()
    Path("finetuned/embedder.keras").write_bytes(b"hours of work")
    Path("pairs.txt").write_text("10\t300\nA\t1\t2\n")
    Path("words.txt").write_text("no pairs\n")
    np.savez("wrong.npz", vectors=np.ones(3))
    return good


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("verify GOOD nothere.jpg --threshold 0", ["nothere.jpg: No such file"]),
        ("verify GOOD bad.jpg --threshold 0", ["bad.jpg: not an image"]),
        ("verify GOOD cut.jpg --threshold 0", ["cut.jpg: it does not decode"]),
        ("verify GOOD wide.png --threshold 0", ["wide.png: ", "must be square", "100x80"]),
        ("verify GOOD one --threshold 0", ["one: Is a directory"]),
        ("verify GOOD GOOD", ["needs a threshold", "Received: --model", "finetune prints"]),
        ("embed nothere", ["no such image or folder", "Received: nothere"]),
        ("embed empty", ["must hold images", "Received: empty"]),
        ("embed bad.jpg", ["bad.jpg: not an image"]),
        ("embed GOOD -o e.txt", ["*.npz", "Received: e.txt"]),
        ("embed GOOD -o bad.jpg/e.npz", ["bad.jpg"]),
        ("finetune nothere -o new", ["folder of identity folders", "nothere"]),
        ("finetune one -o new", ["at least two identities", "Received: 1"]),
        ("finetune few -o new", ["at least 8", "Received: 5 identities in few"]),
        ("finetune few", ["finetuned/embedder.keras is there already", "--output"]),
        ("finetune few -o bad.jpg", ["bad.jpg"]),
        ("demo --faces few -o new", ["at least 64 images", "Received: 40 images in few"]),
        ("demo --faces nothere -o new", ["folder of identity folders", "nothere"]),
        ("demo -o bad.jpg", ["bad.jpg: File exists"]),
        ("evaluate lfw --images few --pairs nothere.txt", ["nothere.txt: No such file"]),
        ("evaluate lfw --images few --pairs pairs.txt", ["announces 6,000 pairs", "1 lines"]),
        ("evaluate lfw --images few --pairs words.txt", ["words.txt, line 1", "'no pairs'"]),
        ("evaluate lfw-view1 --lists few --images few", ["pairsDevTrain.txt: No such file"]),
        ("evaluate cfp-fp --lists few --images few", ["Pair_list_F.txt: No such file"]),
        ("evaluate ijba --lists few --images few", ["verify_metadata_1.csv: No such file"]),
        ("evaluate megaface --lists . --images . --size 7", ["`size` must be one of"]),
        ("evaluate identification --gallery few --probes nothere", ["no such image or folder"]),
        ("evaluate bin nothere.bin", ["nothere.bin: No such file"]),
        ("evaluate bin bad.jpg", ["bad.jpg: a verification file must be a pickle", "byte 0"]),
        ("evaluate all-pairs nothere.npz", ["nothere.npz: No such file"]),
        ("evaluate all-pairs wrong.npz", ["`embeddings` and `paths`", "Received: wrong.npz"]),
        ("evaluate all-pairs one -o new", ["1 people", "0 impostor pairs"]),
        ("check-data nothere", ["folder of identity folders", "nothere"]),
        ("check-data list.csv", ["Faces are read from", "list.csv"]),
        ("finetune nothere.tfrecord -o new", ["neither this file nor a shard"]),
        ("finetune nothere.rec -o new", ["nothere.rec: No such file"]),
        ("export -o e.txt", ["*.tflite or *.onnx", "Received: e.txt"]),
        ("export -o e.onnx --precision int8", ["float32", "Received: --precision int8"]),
        ("export -o e.tflite --precision int8 --images few", ["at least 64", "40 images"]),
    ],
)
def test_wrong_doors(facemargin, model, wrong, command, parts):
    before = sorted(path for path in Path().rglob("*"))
    words = [str(wrong) if word == "GOOD" else word for word in command.split()]
    assert_one_sentence(facemargin(*words, "-m", model), *parts)
    after = sorted(path for path in Path().rglob("*") if path != Path("new"))
    assert after == before
    assert Path("finetuned/embedder.keras").read_bytes() == b"hours of work"


@pytest.mark.parametrize("command", ["embed GOOD", "verify GOOD GOOD", "finetune few -o new"])
@pytest.mark.parametrize(
    ("name", "part"),
    [("nosuch", "Received: 'nosuch'"), ("nothere.keras", "no such"), ("bad.keras", "bad.keras")],
)
def test_no_such_model(facemargin, wrong, command, name, part):
    words = [str(wrong) if word == "GOOD" else word for word in command.split()]
    assert_one_sentence(facemargin(*words, "-m", name), part)


def test_an_unknown_card(facemargin):
    assert_one_sentence(facemargin("zoo", "nosuch"), DEFAULT, "Received: 'nosuch'")


def test_an_embedding_file_is_replaced_whole_or_not_at_all(facemargin, model, faces, monkeypatch):
    Path("e.npz").write_bytes(b"before")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device", "e.npz")

    monkeypatch.setattr(np, "savez", full)
    result = facemargin("embed", faces / "person_000", "-m", model, "-o", "e.npz")
    assert_one_sentence(result, "e.npz: No space left on device.")
    assert Path("e.npz").read_bytes() == b"before"
    assert [path.name for path in Path().iterdir()] == ["e.npz"]


def test_what_looks_like_markup_is_printed_as_it_is(facemargin):
    assert_one_sentence(facemargin("embed", "[red]/[/]"), "Received: [red]/[/]")


def test_a_defect_keeps_its_traceback(facemargin, monkeypatch):
    monkeypatch.setattr(faces_commands, "image_files", lambda places: {}["defect"])
    monkeypatch.setattr(sys, "argv", ["facemargin", "embed", "x"])
    with pytest.raises(KeyError):
        cli.main()


def test_an_option_that_is_none_is_a_usage_error(facemargin):
    code, _, error = facemargin("embed", "x", "--nosuch")
    assert code == 2
    assert "--nosuch" in error
