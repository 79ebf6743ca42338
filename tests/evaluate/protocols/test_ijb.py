"""IJB-A, B and C: lists laid out as NIST and InsightFace publish them, and IJB-A's real ones."""

import numpy as np
import pytest
from published_sets import IJBA_HEADER, write_ijb, write_ijba, write_ijbc_covariates
from shades import mean_colour, write_shades

from keras_facemargin.evaluate import evaluate_searches
from keras_facemargin.evaluate.identification import mean_over_galleries
from keras_facemargin.evaluate.protocols import (
    read_ijb,
    read_ijb_search,
    read_ijba,
    read_ijba_search,
    read_ijbc_covariates,
)
from keras_facemargin.evaluate.splits import verify_by_fold, verify_by_value
from keras_facemargin.evaluate.templates import evaluate_template_pairs


@pytest.fixture
def ijba(tmp_path):
    return write_ijba(tmp_path)


def test_ijba_pairs_are_of_their_split(ijba):
    pairs = read_ijba(ijba, ijba, splits=(1, 4))
    assert len(pairs) == 9 + 4
    assert pairs.folds.tolist() == [1] * 9 + [4] * 4
    assert pairs.same.tolist() == [*np.eye(3).ravel().tolist(), 1, 0, 0, 1]
    templates = pairs.templates
    assert len(templates) == 10  # template 31 of split 1 is not template 31 of split 4
    assert np.bincount(templates.template).tolist() == [3, 1] * 5
    of_first = templates.media[templates.template == 0]
    assert of_first[0] != of_first[1] == of_first[2]  # frames of one video
    assert templates.images[1] == ijba / "frame/1_00000_201.png"
    assert templates.images[2] == ijba / "frame/1_00030_301.jpg"  # a crop of another format
    assert set(templates.covariates) == {"GENDER", "SKIN_TONE"}
    result = evaluate_template_pairs(mean_colour, pairs, progress=False)
    assert verify_by_fold(result.scores, pairs.same, pairs.folds).measures()["EER"] == (0.0, 0.0)


def test_ijba_searches_have_strangers(ijba):
    task = read_ijba_search(ijba, ijba, splits=(1,))
    gallery, probes = task.searches["1"]
    assert task.templates.subjects[gallery].tolist() == ["1", "2"]
    assert task.templates.subjects[probes].tolist() == ["1", "2", "3"]
    found = evaluate_searches(mean_colour, task, progress=False).results["1"]
    assert (found.rank_rate(1), len(found.best_scores)) == (1.0, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SUBJECT_ID", "SUBJECT", "line 1: must name the column SUBJECT_ID"),
        ("11,1,img/1.jpg", "x,1,img/1.jpg", "line 2: TEMPLATE_ID must be a number"),
        ("12,1,img/1_b", "012,1,img/1_b", "line 5: TEMPLATE_ID must be a number.*no leading"),
        ("11,1,img/1.jpg", f"{'9' * 30},1,img/1.jpg", "line 2: .* of at most 18 digits"),
        ("11,1,img/1.jpg", "\u0661\u0661,1,img/1.jpg", "line 2: TEMPLATE_ID must be a number"),
        ("11,1,img/1.jpg", "11,,img/1.jpg", "line 2: SUBJECT_ID must not be empty"),
        ("11,1,img/1.jpg", '11,1,"img/1.jpg', "line 2: .* each quote closed on its line"),
        (
            "12,1,img/1_b.jpg,81,401",
            "\n11,1,img/1.jpg,1,101",
            "line 6: an image of a template must be listed once.* line 2",
        ),
        ("11,1,frame/1_00000", "11,2,frame/1_00000", r"line 3: template 11 must be of one person"),
    ],
)
def test_broken_metadata_are_refused_at_their_line(ijba, old, new, message):
    file = ijba / "IJB-A_11_sets/split1/verify_metadata_1.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_ijba(ijba, ijba, splits=(1,))


def test_missing_crops_are_counted_and_may_leave_their_template(ijba):
    (ijba / "img/3_103.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)1 of 12 images missing.*img/3_103.jpg"):
        read_ijba(ijba, ijba, splits=(1,))
    (ijba / "img/2_b_402.jpg").unlink()
    pairs = read_ijba(ijba, ijba, splits=(1,), on_missing="reject")
    assert pairs.templates.enrolled.tolist() == [True, True, True, False, True, True]
    assert np.flatnonzero(pairs.failed_to_enrol).tolist() == [1, 4, 7]


def test_a_pair_of_unknown_templates_is_refused(ijba):
    file = ijba / "IJB-A_11_sets/split1/verify_comparisons_1.csv"
    file.write_text("11,12\n\n11,77\n")
    with pytest.raises(ValueError, match=r"_1.csv, line 3: must be two templates.*11,77"):
        read_ijba(ijba, ijba, splits=(1,))
    file.write_text("11,12\n\n12,11\n")
    with pytest.raises(ValueError, match=r"line 3: a pair must be listed once"):
        read_ijba(ijba, ijba, splits=(1,))
    file.write_text(f"11,{'9' * 30}\n")
    with pytest.raises(ValueError, match=r"line 1: a line is 'template,template'"):
        read_ijba(ijba, ijba, splits=(1,))
    for splits in ((), (11,), (1, 1)):
        with pytest.raises(ValueError, match="different numbers from 1 to 10"):
            read_ijba(ijba, ijba, splits=splits)
    (ijba / "IJB-A_11_sets/split1/verify_metadata_1.csv").write_text(IJBA_HEADER + "\n")
    with pytest.raises(ValueError, match="only a header"):
        read_ijba(ijba, ijba, splits=(1,))


def test_official_ijba_counts(shared_data, tmp_path):
    """Comparisons and genuine pairs of each split as reference/papers.md counts them."""
    write_shades(tmp_path, {"img/10281_28739.jpg": 9})
    pairs = read_ijba(shared_data / "protocols/ijba", tmp_path, splits=(1, 2), on_missing="reject")
    assert np.bincount(pairs.folds).tolist() == [0, 11_787, 11_779]
    assert np.bincount(pairs.folds[pairs.same]).tolist() == [0, 1_803, 1_779]
    assert len(pairs.templates) == 1_970 + 1_952
    assert len(pairs.templates.images) == 17_997 + 18_715


@pytest.mark.parametrize("insightface", [False, True])
@pytest.mark.parametrize(("name", "galleries"), [("ijbb", ("S1", "S2")), ("ijbc", ("G1", "G2"))])
def test_both_forms_of_ijb_say_the_same(tmp_path, name, galleries, insightface):
    folder = write_ijb(tmp_path, name, galleries, insightface)
    pairs = read_ijb(name, folder, folder)
    assert (len(pairs), pairs.same.sum(), len(pairs.templates)) == (16, 4, 8)
    assert np.bincount(pairs.templates.template).tolist() == [3] * 8
    assert (pairs.templates.quality is not None) == insightface
    media = pairs.templates.media.reshape(8, 3)
    assert (media[:, 1] == media[:, 2]).all() and (media[:, 0] != media[:, 1]).all()
    result = evaluate_template_pairs(
        mean_colour, pairs, quality_weight=1.0 if insightface else 0.0, progress=False
    )
    assert result.eer == 0.0

    task = read_ijb_search(name, folder, folder)
    found = evaluate_searches(mean_colour, task, progress=False)
    assert list(found.results) == list(galleries)
    for result in found.results.values():
        assert (result.gallery, len(result.ranks), len(result.best_scores)) == (2, 2, 2)
    assert found.mean("Rank-1") == mean_over_galleries(found.results.values()) == 1.0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("face_tid_mid", "1.jpg 1 10", "1.jpg 1", r"face_tid_mid.txt, line 1: must be 'IMAGE"),
        ("face_tid_mid", "1.jpg 1 10", "1.jpg 77 10", "face_tid_mid.txt, line 1: must be two"),
        ("template_pair_label", "1 102 0", "1 102 1", r"label.txt, line 2: the label must be 1"),
        ("template_pair_label", "1 102 0", "1 102", "line 2: a line is 'template template label'"),
        ("name_5pts_score", "1.5 0.90", "0.90", r"score.txt, line 1: must be 'IMAGE x1"),
        ("name_5pts_score", "1.5 0.90", "1.5 1.90", "line 1: must be 'IMAGE x1"),
        ("name_5pts_score", "1.jpg", "0.jpg", r"a line for each image. Received: no 1.jpg"),
        ("name_5pts_score", "2.jpg", "1.jpg", r"line 2: must give 1.jpg one score, 0.9"),
        ("face_tid_mid", "1.jpg 1 10", f"1.jpg {'9' * 30} 10", "line 1: must be 'IMAGE"),
        ("template_pair_label", "1 102 0", "\n1 102 1", r"label.txt, line 3: the label must be 1"),
    ],
)
def test_broken_insightface_lists_are_refused(tmp_path, file, old, new, message):
    folder = write_ijb(tmp_path, "ijbc", ("G1", "G2"), True)
    path = folder / f"ijbc_{file}.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_ijb("ijbc", folder, folder)


@pytest.mark.parametrize(
    ("file", "insightface", "message"),
    [
        ("ijbc_11_G1_G2_matches.csv", False, "1 of 17 pairs repeat earlier ones"),
        ("ijbc_1N_probe_mixed.csv", False, "1 of 13 images of templates repeat earlier ones"),
        ("ijbc_face_tid_mid.txt", True, "1 of 25 images repeat earlier ones"),
    ],
)
def test_repeats_of_ijb_are_a_warning(tmp_path, file, insightface, message):
    folder = write_ijb(tmp_path, "ijbc", ("G1", "G2"), insightface)
    path = folder / file
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.warns(UserWarning, match=message):
        read_ijb("ijbc", folder, folder)


def test_a_subject_has_no_spaces_around(ijba):
    file = ijba / "IJB-A_11_sets/split1/verify_metadata_1.csv"
    file.write_text(file.read_text().replace("12,1,img", "12, 1,img"))
    pairs = read_ijba(ijba, ijba, splits=(1,))
    assert pairs.same.tolist() == np.eye(3, dtype=bool).ravel().tolist()


@pytest.mark.parametrize("name", ["verify_metadata_1.csv", "verify_comparisons_1.csv"])
def test_ijba_is_read_with_a_byte_order_mark(ijba, name):
    file = ijba / "IJB-A_11_sets/split1" / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_ijba(ijba, ijba, splits=(1,))) == 9


def test_there_is_no_ijb_d(tmp_path):
    with pytest.raises(ValueError, match=r"one of \('ijbb', 'ijbc'\). Received: name='ijbd'"):
        read_ijb("ijbd", tmp_path, tmp_path)


def test_covariates_are_of_single_images(tmp_path):
    write_ijbc_covariates(tmp_path)
    task = read_ijbc_covariates(tmp_path, tmp_path)
    result = evaluate_template_pairs(mean_colour, task, progress=False)
    assert (len(task), task.same.sum()) == (66, 6)
    found = verify_by_value(result.scores, task.same, task.covariate("GENDER"))
    assert list(found.results) == ["0", "1"]  # people of two genders have no genuine pair
    assert [group.genuines for group in found.results.values()] == [3, 3]
    assert [group.impostors for group in found.results.values()] == [12, 12]
    assert task.covariate("AGE")[0].tolist() == ["unknown"]
