"""LFW's files, read strictly, and its protocol on the real pairs."""

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.evaluate import evaluate_lfw, read_pairs
from keras_facemargin.evaluate.uncertainty.resampling import Draws

VIEW_2 = """2\t1
Ada\t1\t2
Ada\t1\tBob\t1
Bob\t1\t2
Bob\t2\tCy\t1
"""


def write(tmp_path, text, names=("Ada 1", "Ada 2", "Bob 1", "Bob 2", "Cy 1")):
    """A pair file and its images: one shade for each person."""
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    for name, index in map(str.split, names):
        (tmp_path / name).mkdir(exist_ok=True)
        face = np.zeros((112, 112, 3), np.uint8)
        face[..., "ABC".index(name[0])] = 100 + int(index)
        Image.fromarray(face).save(tmp_path / name / f"{name}_{int(index):04d}.png")
    return file


def mean_colour(batch):
    return batch.mean(axis=(1, 2))


def test_view_2_has_folds(tmp_path):
    pairs = read_pairs(write(tmp_path, VIEW_2), tmp_path)
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [1, 1, 2, 2]
    assert [path.name for path in pairs.first] == [
        "Ada_0001.png",
        "Ada_0001.png",
        "Bob_0001.png",
        "Bob_0002.png",
    ]
    assert pairs.second[3] == tmp_path / "Cy" / "Cy_0001.png"
    assert [side.tolist() for side in pairs.people] == [
        ["Ada", "Ada", "Bob", "Bob"],
        ["Ada", "Bob", "Bob", "Cy"],
    ]


def test_view_1_has_none(tmp_path):
    text = "1\nAda\t1\t2\nAda\t1\tBob\t1\n"
    assert read_pairs(write(tmp_path, text), tmp_path).folds is None
    result = evaluate_lfw(mean_colour, tmp_path, tmp_path / "pairs.txt", progress=False)
    assert result.accuracy is None
    assert result.auc == 1.0


def test_blank_lines_are_no_pairs(tmp_path):
    text = VIEW_2.replace("2\t1\n", "\n2\t1\n\n").replace("Bob\t1\t2\n", " \nBob\t1\t2\n\n")
    assert len(read_pairs(write(tmp_path, text), tmp_path)) == 4


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path):
    file = write(tmp_path, VIEW_2)
    file.write_bytes(b"\xef\xbb\xbf" + VIEW_2.encode())
    assert len(read_pairs(file, tmp_path)) == 4
    file.write_text(VIEW_2, encoding="utf-16")
    with pytest.raises(ValueError, match="Received: a file in UTF-16"):
        read_pairs(file, tmp_path)


def test_windows_line_ends_are_read(tmp_path):
    file = write(tmp_path, VIEW_2)
    file.write_bytes(VIEW_2.replace("\n", "\r\n").encode())
    assert len(read_pairs(file, tmp_path)) == 4


def test_jpeg_comes_before_png(tmp_path):
    file = write(tmp_path, VIEW_2)
    Image.new("RGB", (112, 112)).save(tmp_path / "Cy" / "Cy_0001.jpg")
    assert read_pairs(file, tmp_path).second[3].suffix == ".jpg"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\t1\n", "two folds\n", "pairs.txt, line 1: must hold the number of folds"),
        ("2\t1\n", "2\t1\t1\n", "line 1: must hold"),
        ("2\t1\n", "0\t1\n", "line 1: must hold"),
        ("2\t1\n", "3\t1\n", "must have 6 pairs, as line 1 states. Received: 4 lines"),
        ("Bob\t1\t2\n", "", "must have 4 pairs, as line 1 states. Received: 3 lines"),
        ("Bob\t1\t2\n", "Bob\t1\n", "line 4: a genuine pair is 'name i j'.*'Bob\\\\t1'"),
        ("Bob\t1\t2\n", "Bob\t1\t1\n", "line 4: .*two different images"),
        ("Bob\t1\t2\n", "Bob\t1\t01\n", "line 4: .*two different images"),
        ("Bob\t1\t2\n", "Bob\t1\t" + "9" * 5000 + "\n", "line 4: .*two different images"),
        ("Bob\t1\t2\n", "\nAda\t2\t1\n", "line 5: a pair must be listed once.* line 2"),
        ("Bob\t1\t2\n", "Bob\t1\tCy\t1\n", "line 4: a genuine pair"),
        ("Bob\t1\t2\n", "Bob\t0\t2\n", "line 4: .*counted from 1"),
        ("Ada\t1\tBob\t1\n", "Ada\t1\tBob\tx\n", "line 3: an impostor pair"),
        ("Ada\t1\tBob\t1\n", "Ada\t1\tAda\t2\n", "line 3: .*two different names"),
    ],
)
def test_a_broken_file_is_refused_at_its_line(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(write(tmp_path, VIEW_2.replace(old, new, 1)), tmp_path)


def test_a_picture_is_no_list_of_pairs(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xd8\xff\xe0 a JPEG")
    with pytest.raises(ValueError, match="list of pairs"):
        read_pairs(tmp_path / "pairs.txt", tmp_path)


def test_missing_images_are_counted_and_listed(tmp_path):
    file = write(tmp_path, VIEW_2, names=("Ada 1", "Ada 2", "Bob 1"))
    with pytest.raises(FileNotFoundError, match=r"(?s)2 of 5 images missing.*Bob_0002.*Cy_0001"):
        read_pairs(file, tmp_path)


def test_a_missing_image_can_count_as_rejected(tmp_path):
    file = write(tmp_path, VIEW_2, names=("Ada 1", "Ada 2", "Bob 1", "Cy 1"))
    pairs = read_pairs(file, tmp_path, on_missing="reject")
    assert pairs.failed_to_enrol.tolist() == [False, False, True, True]
    result = evaluate_lfw(mean_colour, tmp_path, file, on_missing="reject", progress=False)
    # Fold 2's genuine pair is lost, its impostor pair rightly rejected.
    assert result.accuracy.accuracies[1] == 0.5
    assert result.failed_to_enrol == result.to_dict()["failed_to_enrol"] == 2
    assert any("missing image" in measure for measure, _ in result.rows())


def test_no_image_at_all_is_a_wrong_folder(tmp_path):
    file = write(tmp_path, VIEW_2)
    with pytest.raises(FileNotFoundError, match="5 of 5 images missing"):
        read_pairs(file, tmp_path / "elsewhere", on_missing="reject")
    with pytest.raises(ValueError, match=r"'refuse' or 'reject'. Received: 'skip'"):
        read_pairs(file, tmp_path, on_missing="skip")


def test_official_files(shared_data):
    lfw = shared_data / "lfw"
    pairs = read_pairs(lfw / "pairs.txt", lfw / "aligned", on_missing="reject")
    assert np.bincount(pairs.folds).tolist() == [0] + [600] * 10
    assert pairs.same.sum() == 3000
    assert Draws(pairs.same, pairs.people).units == 4_281
    # No face was found in one photo, which makes one genuine pair of the last fold.
    assert [path.name for path in pairs.missing] == ["Marilyn_Monroe_0002.jpg"]
    assert np.flatnonzero(pairs.failed_to_enrol).tolist() == [5608]
    for name, count in (("pairsDevTrain.txt", 2200), ("pairsDevTest.txt", 1000)):
        view_1 = read_pairs(lfw / name, lfw / "aligned", on_missing="reject")
        assert len(view_1) == count
        assert view_1.folds is None


@pytest.mark.slow  # reads 7,701 images; the other tests read lists and generated faces
def test_raw_pixels_are_the_floor(shared_data):
    """What an embedder must beat: the cosine of pixels, thinned out to 28x28."""
    lfw = shared_data / "lfw"

    def pixels(batch):
        return batch.reshape(len(batch), 28, 4, 28, 4, 3).mean(axis=(2, 4)).reshape(len(batch), -1)

    result = evaluate_lfw(
        pixels, lfw / "aligned", lfw / "pairs.txt", flip=False, on_missing="reject", progress=False
    )
    assert result.genuines == result.impostors == 3000
    assert 0.60 < result.accuracy.mean < 0.66
    assert result.tar_at_far[2].supported
    assert not result.tar_at_far[3].supported
