"""A bench has the numbers of the functions that it puts side by side."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from keras_facemargin.bench import bench
from keras_facemargin.bench.models import Cut
from keras_facemargin.evaluate import (
    embed,
    error_versus_discard,
    evaluate_lfw,
    read_pairs,
    verify_all_pairs,
)
from keras_facemargin.evaluate.verification import FAR_TARGETS
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.quality import norm_weight
from keras_facemargin.quality.judge import norm_and_agreement

# The plots of a page are alike in most tests; those with `real_plots` draw each kind.
pytestmark = pytest.mark.usefixtures("empty_plots")

PEOPLE, IMAGES = 8, 4
CELLS = 28


def colours(images):
    return np.asarray(images)[:, ::CELLS, ::CELLS].reshape(len(images), -1)


def greys(images):
    return np.asarray(images)[:, ::CELLS, ::CELLS].mean(axis=-1).reshape(len(images), -1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """LFW's layout: NAME/NAME_0001.png, and its list of pairs in two folds."""
    drawn = tmp_path_factory.mktemp("drawn") / "faces"
    write_synthetic_faces(drawn, PEOPLE, IMAGES)
    folder = tmp_path_factory.mktemp("lfw") / "faces"
    names = [f"Person_{chr(ord('A') + number)}" for number in range(PEOPLE)]
    for name, person in zip(names, sorted(drawn.iterdir()), strict=True):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(sorted(person.iterdir()), start=1):
            shutil.copyfile(image, folder / name / f"{name}_{number:04d}{image.suffix}")
    lines = ["2\t3"]
    for fold in (0, 3):
        lines += [f"{names[fold + each]}\t1\t{2 + each}" for each in range(3)]
        lines += [f"{names[fold + each]}\t1\t{names[fold + each + 1]}\t2" for each in range(3)]
    pairs = folder.with_name("pairs.txt")
    pairs.write_text("\n".join(lines) + "\n")
    return folder, pairs, names


@pytest.fixture
def benched(tmp_path, faces):
    """Runs a bench with few draws; returns its result, page and record."""

    def run(models, **options):
        folder, pairs, _ = faces
        options = {"pairs": pairs, "replicates": 20, "progress": False} | options
        found = bench(tmp_path / "b.html", models, folder, **options)
        text = re.sub(r'<span class="power">(.*?)</span>', r"\1", (tmp_path / "b.html").read_text())
        return found, text, json.loads((tmp_path / "b.json").read_text())

    return run


@pytest.mark.parametrize("flip", [False, True])
def test_the_numbers_are_those_of_the_protocol_and_of_all_pairs(benched, faces, flip):
    folder, pairs, _ = faces
    found, page, record = benched({"colours": colours, "greys": greys}, flip=flip)
    paths = sorted(folder.glob("*/*"))
    for name, function in (("colours", colours), ("greys", greys)):
        alone = evaluate_lfw(function, folder, pairs, flip=flip, progress=False)
        one = found[name]
        assert one.official.accuracy == alone.accuracy
        np.testing.assert_array_equal(one.official.scores, alone.scores)
        rows = embed(function, paths, flip=flip, progress=False)
        labels = [path.parent.name for path in paths]
        exact = verify_all_pairs(rows, labels, fars=FAR_TARGETS, progress=False)
        assert one.all_pairs.result.tar_at_far == exact.tar_at_far
        held = record["models"][name]
        assert held["eer"] == exact.eer
        assert held["official_pairs"]["accuracy"] == alone.accuracy.mean
        assert held["official_pairs"]["standard_error"] == alone.accuracy.standard_error
        assert f"{alone.accuracy.mean:.2%} ± {alone.accuracy.standard_error:.2%}" in page
        assert f"<td>{exact.tar_at_far[1].threshold:.4f}</td>" in page
        assert held["official_pairs"]["error_versus_discard"] is None  # 6 impostor pairs
        assert held["bars"]["Windows Hello"]["verdict"].startswith("not supported by")
    impostors = found["greys"].all_pairs.result.impostors
    assert f"not supported by {impostors:,} impostor pairs" in page


def test_utility_is_judged_on_the_official_pairs(real_plots, benched, faces, tmp_path):
    folder, _, names = faces
    lines = ["2\t16"]
    for fold in (names[:4], names[4:]):
        lines += [f"{name}\t{a}\t{b}" for name in fold for a, b in ("12", "13", "14", "34")]
        lines += [f"{fold[0]}\t{a}\t{name}\t{b}" for a in "12" for name in fold[1:] for b in "12"]
        lines += [f"{fold[1]}\t{a}\t{fold[2]}\t{b}" for a in "12" for b in "12"]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(lines) + "\n")
    models = {"colours": colours, "greys": greys}
    _, page, record = benched(models, flip=True, pairs=pairs)
    assert ">Error versus discard</h2>" in page
    assert "at each embedder&#x27;s threshold of FAR 0.1 on them" in page
    for name, function in models.items():
        rows = embed(function, sorted(folder.glob("*/*")), progress=False)
        norms, agreements = norm_and_agreement(*np.split(rows, 2, axis=1))
        utilities = norm_weight(norms, agreements) * np.log(norms) + agreements
        listed = read_pairs(pairs, folder)
        place = {path: number for number, path in enumerate(sorted(folder.glob("*/*")))}
        sides = [
            utilities[[place[path] for path in side]] for side in (listed.first, listed.second)
        ]
        alone = evaluate_lfw(function, folder, pairs, progress=False)
        expected = error_versus_discard(alone.scores, alone.same, sides, far=0.1, replicates=2)
        found = record["models"][name]["official_pairs"]["error_versus_discard"]["utility"]
        assert found["fnmr"] == pytest.approx(expected.fnmr)
        assert found["area"] == pytest.approx(expected.area)
    _, page, _ = benched(models, pairs=pairs)
    assert "Error versus discard" not in page


def test_the_page_has_facts_without_a_card_or_a_file(benched):
    found, page, record = benched({"colours": colours})
    facts = found["colours"].facts
    assert (facts.licence, facts.file, facts.embedder.runtime) == ("no card", None, "function")
    (latency,) = facts.latencies
    assert 0 < latency.low <= latency.median <= latency.high
    assert record["models"]["colours"]["latency_ms"][0]["median"] == latency.median
    assert record["machine"] in page
    assert '<td data-label="Commercial use">no card</td>' in page
    assert "Failures to enrol: 0 of these pairs" in page


def test_an_image_of_the_list_that_is_missing_fails_to_enrol(benched, faces, tmp_path):
    folder, pairs, names = faces
    there = tmp_path / "some"
    shutil.copytree(folder, there)
    next((there / names[0]).glob("*_0002.*")).unlink()
    found = bench(
        tmp_path / "b.html",
        {"colours": colours},
        there,
        pairs=pairs,
        replicates=20,
        progress=False,
    )
    assert found["colours"].official.failed_to_enrol == 1
    assert found["colours"].official.scores[0] == -1
    assert "Failures to enrol: 1 of these pairs" in (tmp_path / "b.html").read_text()


def test_groups_are_side_by_side(benched, faces, tmp_path):
    _, _, names = faces
    with open(tmp_path / "groups.csv", "w", newline="") as file:
        rows = [["person", "sex"], *([name, "fm"[i % 2]] for i, name in enumerate(names))]
        csv.writer(file).writerows(rows)
    found, page, _ = benched({"a": colours, "b": greys}, groups=tmp_path / "groups.csv")
    for kind in ("FMR", "FNMR"):
        assert f"<th>{kind} by sex</th><th>a</th><th>b</th>" in page
    rate = found["b"].all_pairs.groups[0].rates[1].fnmr
    assert f"{rate.rate:.2%} ({rate.interval.low:.2%} to" in page


def test_a_bench_without_official_pairs(real_plots, benched):
    found, page, record = benched({"colours": colours}, pairs=None)
    assert found["colours"].official is None
    assert "official_pairs" not in record["models"]["colours"]
    assert "Official pairs" not in page


def test_a_narrower_crop_is_cut_out_of_the_images(benched, faces):
    def narrow(images):
        assert images.shape[1:] == (112, 96, 3)
        return np.asarray(images)[:, ::CELLS, ::24].reshape(len(images), -1)

    narrow.crop = Crop(112, 96, "sphereface")
    _, page, _ = benched({"narrow": narrow})
    assert ">112x96, cut from the images</td>" in page
    paths = sorted(faces[0].glob("*/*"))
    cut = embed(lambda images: narrow(images[:, :, 8:104]), paths, flip=False, progress=False)
    rows = embed(Cut(narrow, narrow.crop), paths, flip=False, progress=False)
    np.testing.assert_array_equal(rows, cut)
    # The places of the eyes agree.
    points = Crop(112, 112, "arcface").points - [8, 0]
    np.testing.assert_allclose(points, narrow.crop.points, atol=1e-4)


def test_another_crop_is_refused_before_the_work(benched, tmp_path):
    calls = []

    def wide(images):
        calls.append(len(images))
        return images.mean(axis=(1, 2))

    wide.crop = Crop(150, 150, "dlib")
    with pytest.raises(ValueError, match=r"112x112 \(arcface\).*wide, which takes 150x150 \(dlib"):
        benched({"wide": wide})
    assert not list(tmp_path.iterdir())
    assert calls == [1]  # to learn its size


def test_too_few_people_and_a_list_without_folds_are_refused(tmp_path, faces):
    folder, _, names = faces
    for name in names[:2]:
        (tmp_path / "few" / name).mkdir(parents=True)
        image = next((folder / name).iterdir())
        shutil.copyfile(image, tmp_path / "few" / name / image.name)
    with pytest.raises(ValueError, match="at least two people, and two images of one"):
        bench(tmp_path / "b.html", {"colours": colours}, tmp_path / "few")
    listed = tmp_path / "dev.txt"
    listed.write_text(f"1\n{names[0]}\t1\t2\n{names[0]}\t1\t{names[1]}\t1\n")
    with pytest.raises(ValueError, match="must have folds"):
        bench(tmp_path / "b.html", {"colours": colours}, folder, pairs=listed)


def test_no_embedder_and_one_twice_are_refused(benched):
    with pytest.raises(ValueError, match="at least one"):
        benched({})
    with pytest.raises(ValueError, match="named once"):
        benched(["sface", "sface"])
