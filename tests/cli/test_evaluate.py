"""Protocols on small sets with the published layouts: tables, plots, results and pages."""

import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from one_sentence import assert_one_sentence
from onnx import TensorProto, helper
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

from keras_facemargin import open_embedder, zoo
from keras_facemargin.data import write_pairs_bin
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.report.draws import Resampling

embed_module = importlib.import_module("keras_facemargin.evaluate.embedding")
OPENED = {}  # digest -> embedder


@pytest.fixture(autouse=True)
def cheap_work(monkeypatch):
    """Opens each embedder once for all tests; pages have 50 draws, not 1,000."""
    opened = zoo.load_embedder

    def load_embedder(model):
        digest = hashlib.sha256(Path(model).read_bytes()).digest()
        if digest not in OPENED:
            OPENED[digest] = opened(model)
        return OPENED[digest]

    monkeypatch.setattr("keras_facemargin.zoo.open.load_embedder", load_embedder)
    few = property(lambda self: dataclasses.asdict(self) | {"replicates": 50})
    monkeypatch.setattr(Resampling, "options", few)


def test_evaluate_lfw_writes_plots_and_figures(facemargin, model, tmp_path, real_plots):
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
    assert record["category"] == "Unrestricted, Labeled Outside Data"
    assert 0 <= record["accuracy"] <= 1
    low, high = record["intervals"]["accuracy"]
    assert 0 <= low <= high <= 1
    assert (record["intervals"]["resampled"], record["intervals"]["units"]) == ("identities", 6)
    assert f"95% intervals over people: accuracy {low:.2%} to {high:.2%}" in out
    before = sorted(path.name for path in Path("results").iterdir())
    assert before == ["hardest_pairs.png", "results.json", "roc.png", "scores.png"]
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


def test_evaluate_writes_one_page_that_compares_and_groups(
    facemargin, model, few_pairs, real_plots
):
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
        ("-m MODEL --report r.html --groups pairs.txt", ["pairs.txt, line 1: must be a CSV"]),
    ],
)
def test_comparisons_need_a_page_and_valid_groups(facemargin, model, few_pairs, more, parts):
    shutil.copy(model, "other.keras")
    words = [model if word == "MODEL" else word for word in more.split()]
    assert_one_sentence(facemargin(*few_pairs, *words), *parts)
    assert not Path("r.html").exists()
    assert not Path("lfw-results").exists()


def test_evaluate_all_pairs_writes_a_page(facemargin, model, faces):
    command = ("evaluate", "all-pairs", faces, "-m", model, "--report", "all.html")
    code, out, _ = facemargin(*command)
    assert code == 0
    assert "TAR @ FAR 1e-8" in out
    assert "all.html, all.json" in out
    assert sorted(path.name for path in Path().iterdir()) == ["all.html", "all.json"]
    record = json.loads(Path("all.json").read_text())
    assert record["about"] == ["The embedding of the mirror image is appended."]
    assert record["models"][str(model)]["impostor_pairs"] == 1_792
    assert record["intervals"]["units"] == 8


def test_evaluate_all_pairs_compares_files_and_groups(facemargin, model, faces):
    assert facemargin("embed", faces, "-m", model, "-o", "a.npz")[0] == 0
    arrays = dict(np.load("a.npz"))
    np.savez("b.npz", embeddings=arrays["embeddings"][:, :2], paths=arrays["paths"])
    rows = [f"person_{number:03},{'odd' if number % 2 else 'even'}" for number in range(8)]
    Path("groups.csv").write_text("\n".join(["person,parity", *rows]))
    command = ("evaluate", "all-pairs", "a.npz", "b.npz", "--groups", "groups.csv")
    assert_one_sentence(facemargin(*command), "2 files without --report")
    assert facemargin(*command, "--report", "both.html")[0] == 0
    record = json.loads(Path("both.json").read_text())
    assert record["title"] == "All pairs of a.npz, b.npz"
    assert [*record["models"]] == ["a.npz", "b.npz"]
    id = open_embedder(model).id_of(mirrored=True)
    assert f"a.npz: embeddings of tiny.keras, id {id}." in record["about"]
    assert "b.npz does not name its embedder." in record["about"]
    of_a = record["models"]["a.npz"]
    first = of_a["hardest_pairs"][0]["first"]
    assert first in arrays["paths"]
    assert [group["name"] for group in of_a["groups"]["parity"]["groups"]] == [
        *("all pairs", "even", "odd", "even / odd")
    ]
    assert "Differences from a.npz" in Path("both.html").read_text()
    np.savez("b.npz", embeddings=arrays["embeddings"], paths=arrays["paths"][::-1])
    result = facemargin(*command, "--report", "again.html")
    assert_one_sentence(result, "same faces in the same order", "a.npz and b.npz")
    assert not Path("again.html").exists()


@pytest.fixture
def unknown(tmp_path):
    """An ONNX file of the colours in a grid of 4x4, which does not state its input."""
    sides = {"kernel_shape": [28, 28], "strides": [28, 28]}
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["image"], ["grid"], **sides),
            helper.make_node("Flatten", ["grid"], ["out"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", 48])],
    )
    opsets = [helper.make_opsetid("", 15)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "u.onnx")
    return "u.onnx"


def test_the_input_of_a_file_is_named_beside_a_model_that_needs_no_words(
    facemargin, model, faces, unknown
):
    command = ("evaluate", "all-pairs", faces, "-m", model, "-m", unknown, "--report", "all.html")
    assert_one_sentence(facemargin(*command), "u.onnx", "without crop and pixels", "--pixels")
    assert_one_sentence(facemargin(*command, "--crop", "x"), "--crop must be a height", "--crop x")
    assert_one_sentence(facemargin(*command, "--crop", 96, "--pixels", "raw"), "u.onnx", "112x112")
    assert_one_sentence(facemargin(*command, "--crop", 112, "--pixels", "y"), "raw, 0..1", "'y'")
    assert not Path("all.html").exists()
    code, _, error = facemargin(*command, "--crop", "112:arcface", "--pixels", "0..1")
    assert code == 0, error
    assert [*json.loads(Path("all.json").read_text())["models"]] == [str(model), unknown]
    command = ("evaluate", "all-pairs", faces, "-m", model, "--pixels", "raw", "-o", "out")
    assert_one_sentence(facemargin(*command), "tiny.keras, whose input is known. Leave them out")


def test_evaluate_bin_writes_a_page(facemargin, model):
    files = write_synthetic_faces("people", 4, 2)
    pairs = [*files[:2], files[0], files[2], *files[4:6], files[4], files[6]]
    write_pairs_bin("pairs.bin", pairs, [True, False, True, False])
    code, _, _ = facemargin(
        *("evaluate", "bin", "pairs.bin", "-m", model, "--folds", 2, "--report", "bin.html")
    )
    assert code == 0
    assert json.loads(Path("bin.json").read_text())["intervals"]["resampled"] == "pairs"


def write_view_1(folder):
    """Two people with two images each, for both lists of View 1."""
    write_synthetic_faces(folder / "drawn", 2, 2)
    for person in (folder / "drawn").iterdir():
        for number, image in enumerate(sorted(person.iterdir()), start=1):
            (folder / person.name).mkdir(exist_ok=True)
            image.rename(folder / person.name / f"{person.name}_{number:04d}.jpg")
    text = "1\nperson_000\t1\t2\nperson_000\t1\tperson_001\t2\n"
    for name in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("command", "write", "output", "key"),
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
            "ijbb --quality-weight 0.5",
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
def test_evaluate_a_protocol(facemargin, model, command, write, output, key):
    write(Path.cwd())
    words = ("evaluate", *command.split(), "--lists", ".", "--images", ".", "-m", model)
    code, out, error = facemargin(*words, "-o", "results")
    assert code == 0, error
    assert output in out
    record = json.loads(Path("results/results.json").read_text())
    assert key in record
    assert (record["model"], record["flip"]) == (str(model), True)
    plots = {path.name for path in Path("results").glob("*.png")}
    assert {f"{path}.png" for path in ("roc", "scores")} <= plots or "fold" not in key


@pytest.mark.parametrize(
    ("command", "write", "output", "figure"),
    [
        (
            "ijbb --quality-weight 0.5",
            lambda here: write_ijb(here, "ijbb", ("S1", "S2"), True),
            "Templates are pooled with quality weight 0.5.",
            ("intervals", "resampled", "identities"),
        ),
        (
            "ijba --split 1 --split 4",
            write_ijba,
            "Errors by SKIN_TONE",
            ("intervals", "resampled", "identities"),
        ),
        (
            "ijbc --task search",
            lambda here: write_ijb(here, "ijbc", ("G1", "G2"), False),
            "Cumulative match characteristic",
            ("intervals", "units", 4),
        ),
        (
            "ijbc --task covariates",
            write_ijbc_covariates,
            "ROC of each GENDER",
            ("by", "GENDER"),
        ),
        ("megaface --size 10", write_megaface, "among 10 distractors", ("intervals", "units", 3)),
        (
            "blufr",
            write_blufr,
            "2 trials of 24 images",
            ("intervals", "verification", "units", 8),
        ),
        (
            "lfw-view1",
            write_view_1,
            "the most accurate one on pairsDevTrain.txt",
            ("intervals", "units", 2),
        ),
    ],
)
def test_evaluate_a_protocol_writes_a_page(facemargin, model, command, write, output, figure):
    write(Path.cwd())
    words = ("evaluate", *command.split(), "--lists", ".", "--images", ".", "-m", model)
    code, out, error = facemargin(*words, "--report", "new/page.html")
    assert code == 0, error
    assert "new/page.html, page.json" in out
    assert re.search(r"Measure +┃ \S+tiny.keras", out)
    assert sorted(path.name for path in Path("new").iterdir()) == ["page.html", "page.json"]
    page, record = Path("new/page.html").read_text(), json.loads(Path("new/page.json").read_text())
    assert output in page
    assert "The embedding of the mirror image is appended." in record["about"]
    *keys, expected = figure
    for key in keys:
        record = record[key]
    assert record == expected


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
    code, out, _ = facemargin(*words, "--probes", "searched", "--report", "page.html")
    assert code == 0
    assert "of 8 people with replacement" in Path("page.html").read_text()
    result = facemargin(*words, "--probes", "known/person_000", "-o", "refused")
    assert_one_sentence(result, "must not be in the gallery", "4 images in both")
    of_folders = record["mean"]

    for part in ("known", "searched"):
        assert facemargin("embed", part, "-m", model, "-o", f"{part}.npz")[0] == 0
    assert facemargin("embed", "searched", "-m", model, "--no-flip", "-o", "single.npz")[0] == 0
    words = ("evaluate", "identification", "--gallery", "known.npz")
    assert facemargin(*words, "--probes", "searched.npz", "-o", "of_files")[0] == 0
    record = json.loads(Path("of_files/results.json").read_text())
    assert record["mean"] == pytest.approx(of_folders)
    assert record["embedding_id"] == open_embedder(model).id_of(mirrored=True)
    assert facemargin(*words, "--probes", "searched.npz", "--report", "files.html")[0] == 0
    assert "Embeddings of known.npz of tiny.keras, id " in Path("files.html").read_text()
    # Another id, no id, one file and one folder, images that are gone.
    ids = [open_embedder(model).id_of(mirrored=flip) for flip in (True, False)]
    assert_one_sentence(facemargin(*words, "--probes", "single.npz"), *ids, "known.npz of tiny")
    arrays = dict(np.load("searched.npz"))
    del arrays["embedding_id"]
    np.savez("own.npz", **arrays)
    result = facemargin(*words, "--probes", "own.npz")
    assert_one_sentence(result, "own.npz without an `embedding_id`", "a text that names")
    assert_one_sentence(facemargin(*words, "--probes", "searched"), "both be folders")
    shutil.rmtree("searched")
    result = facemargin(*words, "--probes", "searched.npz", "--report", "no.html")
    assert_one_sentence(result, "searched.npz, whose image", "Leave --report out")
    assert not Path("no.html").exists()


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


def test_evaluate_all_pairs_takes_labels_and_resumes_from_its_state(facemargin):
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
    assert record["intervals"]["resampled"] == "pairs"
    assert {path.name for path in Path("bin-results").iterdir()} == {
        *("results.json", "roc.png", "scores.png", "hardest_pairs.png")
    }
    code, _, _ = facemargin(*command, "--folds", 0, "-o", "plain")
    assert code == 0
    assert not {"accuracy", "intervals"} & json.loads(Path("plain/results.json").read_text()).keys()
    code, _, error = facemargin(*command, "-o", "refused")
    assert code == 1
    assert "Each fold needs pairs of both kinds" in error
    assert not Path("refused").exists()


LONG = "x" * 245  # the name of its draft is too long for every file system, also for root


@pytest.mark.parametrize(
    "command",
    [
        "evaluate lfw --lists . --images lfw --report {long}.html",
        "evaluate lfw --lists . --images lfw --report taken.html",
        "evaluate lfw --lists . --images lfw -o taken",
        "evaluate pairs own.csv --images lfw -o taken",
        "evaluate bin b.bin --folds 0 --report {long}.html",
        "evaluate all-pairs lfw --report {long}.html",
        "evaluate all-pairs lfw -o taken",
        "evaluate identification --gallery lfw/p0 --probes lfw/p1 --report taken.html",
        "evaluate trillion-pairs --lists . --images . -o {long}.bin",
        "embed lfw -o {long}.npz",
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_work(
    facemargin, model, few_pairs, monkeypatch, command
):
    """The refusal comes before the images are embedded, and leaves no file."""
    Path("own.csv").write_text("p0/p0_0001.jpg,p0/p0_0002.jpg,1\np0/p0_0001.jpg,p1/p1_0001.jpg,0\n")
    write_trillion(Path.cwd())
    write_pairs_bin("b.bin", sorted(Path("lfw").rglob("*.jpg"))[:4], [True, False])
    Path("taken/results.json").mkdir(parents=True)
    Path("taken.json").mkdir()
    monkeypatch.setattr(embed_module, "_embed_batch", lambda *_: pytest.fail("images are embedded"))
    before = sorted(Path().rglob("*"))
    result = facemargin(*command.format(long=LONG).split(), "-m", model)
    assert_one_sentence(result, LONG if "{long}" in command else "taken")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("where", ["--report page.html", "-o results"])
def test_without_matplotlib_nothing_is_embedded(facemargin, model, few_pairs, monkeypatch, where):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(embed_module, "_embed_batch", lambda *_: pytest.fail("images are embedded"))
    result = facemargin(*few_pairs, "-m", model, *where.split())
    assert_one_sentence(result, "pip install 'keras_facemargin[plots]'")


def test_file_names_that_are_not_utf8_do_not_stop_an_evaluation(facemargin, model, few_pairs):
    """Bytes of another encoding in the names of images, people, files and models."""
    name = os.fsdecode(b"caf\xe9")
    shutil.copytree("lfw", name)
    shutil.copy(model, f"{name}.keras")
    person = Path(name, "p0").rename(Path(name, f"p{name}"))
    command = ("evaluate", "all-pairs", name, "-m", f"{name}.keras")
    code, out, error = facemargin(*command, "--report", f"{name}.html")
    assert (code, error.count("Error")) == (0, 0)
    assert "caf\\udce9.html" in out
    page = Path(f"{name}.html").read_text(encoding="utf-8")
    assert "caf\\udce9" in page
    record = json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
    assert record["title"] == f"All pairs of {name}"
    shown = record["models"]["caf\\udce9.keras"]["hardest_pairs"]
    assert any(str(person) in pair["first"] for pair in shown)
    assert facemargin("embed", name, "-m", model, "-o", "e.npz")[0] == 0
    assert facemargin("evaluate", "all-pairs", "e.npz", "--report", "of-file.html")[0] == 0
    assert facemargin("evaluate", "all-pairs", "e.npz", "-o", name)[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="a umask is POSIX")
def test_results_get_the_mode_of_the_umask(facemargin, model, few_pairs):
    write_trillion(Path.cwd())
    before = os.umask(0o077)
    try:
        assert facemargin(*few_pairs, "-m", model, "-o", "results")[0] == 0
        assert facemargin(*few_pairs, "-m", model, "--report", "page.html")[0] == 0
        words = ("evaluate", "trillion-pairs", "--lists", ".", "--images", ".", "-m", model)
        assert facemargin(*words, "-o", "features.bin")[0] == 0
    finally:
        os.umask(before)
    made = [*Path("results").iterdir(), *(Path(n) for n in ("page.html", "page.json"))]
    for path in [*made, Path("features.bin")]:
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_evaluate_pairs_takes_your_own_list(facemargin, model, few_pairs):
    rows = [f"p{n}/p{n}_0001.jpg\tp{n}/p{n}_0002.jpg\t1" for n in range(6)]
    rows += [f"p{n}/p{n}_0001.jpg\tp{(n + 1) % 6}/p{(n + 1) % 6}_0001.jpg\t0" for n in range(6)]
    Path("own.tsv").write_text("\n\n".join(rows))
    Path("groups.csv").write_text(
        "image,half\n"
        + "".join(f"p{n}_000{i}.jpg,{'ab'[n % 2]}\n" for n in range(6) for i in (1, 2))
    )
    command = ("evaluate", "pairs", "own.tsv", "--images", "lfw", "-m", model)
    code, out, _ = facemargin(*command)
    assert code == 0
    assert "6 genuine, 6 impostor" in out and "Accuracy" not in out
    record = json.loads(Path("pairs-results/results.json").read_text())
    assert (record["protocol"], record["file"]) == ("pairs", "own.tsv")
    assert len(list(Path("pairs-results").iterdir())) == 4
    code, _, _ = facemargin(*command, "--report", "own.html", "--groups", "groups.csv")
    assert code == 0
    assert json.loads(Path("own.json").read_text())["intervals"]["resampled"] == "pairs"
    Path("own.tsv").write_text("\n".join(f"{row}\t{n % 6 // 3}" for n, row in enumerate(rows)))
    code, out, _ = facemargin(*command, "-o", "folds")
    assert code == 0
    assert "Accuracy (2-fold" in out


def test_lists_and_pairs_are_one_option_of_lfw(facemargin, model, few_pairs):
    *command, _, _ = few_pairs
    of = {}
    for words in ("--lists .", "--lists pairs.txt", "--pairs pairs.txt"):
        assert facemargin(*command, *words.split(), "-m", model, "-o", "results")[0] == 0
        of[words] = Path("results/results.json").read_text()
    assert len({*of.values()}) == 1
