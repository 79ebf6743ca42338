"""CFP, CALFW, CPLFW and AgeDB-30: the lists laid out as published, and every way to break them."""

import numpy as np
import pytest
from published_sets import (
    AGEDB,
    write_agedb,
    write_agedb_images,
    write_cfp,
    write_cfp_images,
    write_crossed,
)
from scipy.io import savemat
from shades import mean_colour, write_shades

from keras_facemargin.evaluate import evaluate_pairs
from keras_facemargin.evaluate.protocols import read_agedb, read_calfw, read_cfp, read_cplfw
from keras_facemargin.evaluate.splits import verify_by_fold


def test_cfp_numbers_its_images(tmp_path):
    lists = write_cfp(tmp_path, genuine="10,4", impostor="10,5")
    write_cfp_images(tmp_path / "Images")
    pairs = read_cfp(lists, tmp_path / "Images", "FP")
    assert pairs.same.tolist() == [True, False] * 10
    assert pairs.folds.tolist() == np.repeat(np.arange(1, 11), 2).tolist()
    names = [path.relative_to(tmp_path / "Images").as_posix() for path in pairs.first[:2]]
    assert names == ["001/frontal/10.png"] * 2
    assert pairs.second[0] == tmp_path / "Images/001/profile/04.png"
    assert pairs.second[1] == tmp_path / "Images/002/profile/01.png"
    assert pairs.people[0][:2].tolist() == ["001", "001"]
    assert pairs.people[1][:2].tolist() == ["001", "002"]


def test_cfp_is_measured_by_fold(tmp_path):
    pairs = read_cfp(write_cfp(tmp_path), write_cfp_images(tmp_path)[0].parents[2], "FF")
    result = evaluate_pairs(mean_colour, pairs, progress=False)
    assert result.accuracy.mean == 1.0
    measures = verify_by_fold(result.scores, pairs.same, pairs.folds).measures()
    assert measures["EER"] == (0.0,) * 10
    assert measures["AUC"] == (1.0,) * 10


@pytest.mark.parametrize(
    ("genuine", "impostor", "message"),
    [
        ("1;2", "1,11", r"01/same.txt, line 1: must be two numbers from 1, to 120 and 120"),
        ("0,2", "1,11", "same.txt, line 1: must be two numbers"),
        ("1,121", "1,11", "same.txt, line 1: must be two numbers"),
        ("1,11", "1,11", r"same.txt, line 1: must be two images of one person.*'1,11: 001/"),
        ("1,2", "1,2", "diff.txt, line 1: must be two images of two people"),
        ("1,01", "1,11", "same.txt, line 1: must be two images of one person"),
        ("1,2\n\n1,2", "1,11", "same.txt, line 3: a pair must be listed once"),
        (f"1,{'9' * 5000}", "1,11", "same.txt, line 1: must be two numbers"),
    ],
)
def test_a_broken_cfp_fold_is_refused(tmp_path, genuine, impostor, message):
    with pytest.raises(ValueError, match=message):
        read_cfp(write_cfp(tmp_path, genuine, impostor), tmp_path, "FF")


def test_a_broken_cfp_list_is_refused(tmp_path):
    write_cfp(tmp_path)
    (tmp_path / "Pair_list_P.txt").write_text("2 ../Data/Images/001/profile/01.jpg\n")
    with pytest.raises(ValueError, match=r"Pair_list_P.txt, line 1: must be the image's number, 1"):
        read_cfp(tmp_path, tmp_path, "FP")
    with pytest.raises(ValueError, match=r"one of \('FF', 'FP'\). Received: kind='FX'"):
        read_cfp(tmp_path, tmp_path, "FX")
    with pytest.raises(FileNotFoundError, match=r"(?s)3 of 3 images missing.*001/frontal/01.jpg"):
        read_cfp(tmp_path, tmp_path, "FF")


def test_official_cfp_lists(shared_data, tmp_path):
    """350 and 350 pairs a fold of 500 people; the images are not there, but their names are."""
    lists = shared_data / "protocols" / "cfp"
    for kind, second in (("FF", "frontal"), ("FP", "profile")):
        write_shades(tmp_path, {"001/frontal/01.png": 9})
        pairs = read_cfp(lists, tmp_path, kind, on_missing="reject")
        assert np.bincount(pairs.folds).tolist() == [0] + [700] * 10
        assert np.bincount(pairs.folds[pairs.same]).tolist() == [0] + [350] * 10
        assert {path.parent.name for path in pairs.first} == {"frontal"}
        assert {path.parent.name for path in pairs.second} == {second}
        assert len(set(pairs.people[0]) | set(pairs.people[1])) == 500


@pytest.mark.parametrize(
    ("read", "name", "mark"),
    [(read_calfw, "pairs_CALFW.txt", "7"), (read_cplfw, "pairs_CPLFW.txt", "1")],
)
def test_calfw_and_cplfw_are_two_lines_a_pair(tmp_path, read, name, mark):
    images = write_crossed(tmp_path, name, mark)
    pairs = read(tmp_path, tmp_path)
    assert pairs.same.tolist() == [True] * 10 + [False] * 10
    assert pairs.folds.tolist() == [*range(1, 11), *range(1, 11)]
    assert (pairs.first[0], pairs.second[0]) == (images[0], images[1])
    assert pairs.people[0][3] == "Person_3"
    assert evaluate_pairs(mean_colour, pairs, progress=False).accuracy.mean > 0.8


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ([(2, "Person_0_0002.jpg")], r"pairs_CALFW.txt, line 2: must be an image and 0 or another"),
        ([(2, "Person_0_0002.jpg x")], "line 2: must be an image"),
        ([(2, "Person_0_0002.jpg 0")], "line 2: must have the number of line 1"),
        ([(1, ""), (2, "Person_0_0002.jpg")], "line 2: must be an image"),
        ([(1, ""), (2, "")], "10 folds of equal size. Received: 9 genuine"),
        (
            [(21, "Person_0_0001.jpg 00"), (22, "Person_1_0002.jpg 1")],
            "line 22: must have the number of",
        ),
    ],
)
def test_a_broken_calfw_is_refused_at_its_line(tmp_path, replace, message):
    write_crossed(tmp_path, "pairs_CALFW.txt", replace=replace)
    with pytest.raises(ValueError, match=message):
        read_calfw(tmp_path, tmp_path)


def test_a_name_of_calfw_that_contradicts_its_label_tells_nothing(tmp_path):
    write_crossed(tmp_path, "pairs_CALFW.txt")
    assert read_calfw(tmp_path, tmp_path).people is not None
    write_crossed(tmp_path, "pairs_CALFW.txt", replace=[(2, "Person_1_0002.jpg 1")])
    with pytest.warns(UserWarning, match=r"pairs_CALFW.txt: 1 of 20 pairs repeat earlier ones"):
        pairs = read_calfw(tmp_path, tmp_path)
    assert pairs.same[0] and pairs.people is None


def test_calfw_has_ten_folds(tmp_path):
    write_crossed(tmp_path, "pairs_CALFW.txt", people=9)
    with pytest.raises(ValueError, match=r"10 folds of equal size. Received: 9 genuine"):
        read_calfw(tmp_path, tmp_path)
    (tmp_path / "pairs_CALFW.txt").write_text("Person_0_0001.jpg 1\n")
    with pytest.raises(ValueError, match="a pair is two lines"):
        read_calfw(tmp_path, tmp_path)


def test_agedb_is_read_out_of_matlab(tmp_path):
    write_agedb_images(write_agedb(tmp_path))
    pairs = read_agedb(tmp_path, tmp_path)
    assert pairs.same.tolist() == [True, False, True, False] * 10
    assert pairs.folds.tolist() == np.repeat(np.arange(1, 11), 4).tolist()
    assert pairs.first[1] == tmp_path / "0_Ada_31_1_f.jpg"
    assert pairs.second[1] == tmp_path / "1_Ada_61_2_f.jpg"
    assert [side[1] for side in pairs.people] == ["0", "1"]
    assert evaluate_pairs(mean_colour, pairs, progress=False).accuracy.mean > 0.8


def test_a_name_that_contradicts_its_label_tells_nothing(tmp_path):
    write_agedb_images(write_agedb(tmp_path, labels=(1, -1)), columns=2)
    assert read_agedb(tmp_path, tmp_path).people is not None
    write_agedb(tmp_path, ["0_Ada_30_1_f", "1_Ada_60_2_f"], labels=(1, -1))
    with pytest.warns(UserWarning, match=r"19 of 20 pairs repeat earlier ones"):
        assert read_agedb(tmp_path, tmp_path).people is None


def test_another_matlab_file_is_refused(tmp_path):
    savemat(tmp_path / AGEDB, {"x": 1})
    with pytest.raises(ValueError, match="must hold `splits`, a cell for each fold"):
        read_agedb(tmp_path, tmp_path)
    savemat(tmp_path / AGEDB, {"splits": np.arange(3.0)})
    with pytest.raises(ValueError, match=r"fold 1: must be a structure.*Received: cells of shape"):
        read_agedb(tmp_path, tmp_path)
    write_agedb(tmp_path, labels=(1, 3))
    with pytest.raises(ValueError, match="fold 1: must be a structure"):
        read_agedb(tmp_path, tmp_path)
    write_agedb(tmp_path, names=["", "x"])
    with pytest.raises(ValueError, match="fold 1, pair 1: must be two names"):
        read_agedb(tmp_path, tmp_path)
    (tmp_path / AGEDB).write_text("no MATLAB file")
    with pytest.raises(ValueError, match="must be a MATLAB file of version 5 to 7"):
        read_agedb(tmp_path, tmp_path)


def test_a_zero_of_two_digits_marks_an_impostor(tmp_path):
    lines = [(21, "Person_0_0001.jpg 00"), (22, "Person_1_0002.jpg 00")]
    write_crossed(tmp_path, "pairs_CALFW.txt", replace=lines)
    assert read_calfw(tmp_path, tmp_path).same.tolist() == [True] * 10 + [False] * 10


def test_cfp_numbers_an_image_once_and_knows_both_orders_of_a_pair(tmp_path):
    write_cfp_images(tmp_path)
    lists = write_cfp(tmp_path, "1,2\n2,1", "1,11")
    assert len(read_cfp(lists, tmp_path, "FF")) == 30
    file = lists / "Pair_list_F.txt"
    first, _, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, "2 " + first.partition(" ")[2], *rest]))
    with pytest.raises(ValueError, match=r"line 2: an image must be listed once"):
        read_cfp(lists, tmp_path, "FF")
