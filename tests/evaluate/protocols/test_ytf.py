"""YTF's list, laid out as published, and the real one."""

import numpy as np
import pytest
from published_sets import YTF_LIST, write_ytf
from shades import mean_colour, write_shades

from keras_facemargin.evaluate.protocols import read_ytf
from keras_facemargin.evaluate.templates import evaluate_template_pairs


def test_a_video_is_a_template_of_its_frames(tmp_path):
    write_ytf(tmp_path)
    (tmp_path / "Ada/0/notes.txt").write_text("no frame")
    pairs = read_ytf(tmp_path, tmp_path)
    assert np.bincount(pairs.templates.template).tolist() == [3, 1, 2, 2]
    assert pairs.templates.subjects.tolist() == ["Ada", "Ada", "Bob", "Bob"]
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0, 2, 3], [1, 2, 3, 1])
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [1, 1, 2, 2]
    assert evaluate_template_pairs(mean_colour, pairs, progress=False).accuracy.mean == 1.0


def test_the_corrected_list_comes_first(tmp_path):
    write_ytf(tmp_path)
    (tmp_path / "splits_corrected.txt").write_text("\n".join(YTF_LIST.splitlines()[1:3]))
    assert len(read_ytf(tmp_path, tmp_path)) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ada/0, Ada/2, 1", "Ada/0, Ada/2", r"splits.txt, line 2: must be 'fold, pair"),
        ("Ada/0, Ada/2, 1", "Ada/0, Ada/2, 2", "line 2"),
        ("Ada/0, Ada/2, 1", "Ada, Ada/2, 1", "line 2"),
        ("Ada/0, Ada/2, 1", "Ada/.., Ada/2, 1", "line 2"),
        ("Ada/0, Bob/1, 0", "Ada/0, Bob/1, 1", "line 3"),
        ("2, 1, Bob", "x, 1, Bob", "line 4"),
        ("split number,", "x, 9, Ada/0, Ada/2, 1\nsplit number,", "line 1: must be"),
        ("split number,", "split number", "line 1: must be"),
        ("Ada/0, Ada/2, 1", "Ada/0, Ada/0, 1", "line 2: must be"),
        (
            "2, 1, Bob/1, Bob/3",
            "\n2, 1, Ada/2, Ada/0",
            "line 5: a pair must be listed once",
        ),
        ("1, 2, Ada/0, Bob/1, 0", "1; 2; Ada/0; Bob/1; 0", "line 3.*separated by semicolons"),
    ],
)
def test_a_broken_list_is_refused_at_its_line(tmp_path, old, new, message):
    write_ytf(tmp_path, YTF_LIST.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_ytf(tmp_path, tmp_path)


def test_an_empty_list_and_a_video_without_frames_are_told(tmp_path):
    (tmp_path / "splits.txt").write_text("\n")
    with pytest.raises(ValueError, match="must list pairs of videos"):
        read_ytf(tmp_path, tmp_path)
    for path in write_ytf(tmp_path)[-2:]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)1 of 4 without a frame.*Bob/3.*reject"):
        read_ytf(tmp_path, tmp_path)
    pairs = read_ytf(tmp_path, tmp_path, on_missing="reject")
    assert pairs.failed_to_enrol.tolist() == [False, False, True, True]
    with pytest.raises(FileNotFoundError, match="4 of 4"):
        read_ytf(tmp_path, tmp_path / "Ada", on_missing="reject")
    with pytest.raises(ValueError, match=r"'refuse' or 'reject'. Received: 'skip'"):
        read_ytf(tmp_path, tmp_path, on_missing="skip")


def test_official_list(shared_data, tmp_path):
    write_shades(tmp_path, {"Sadie_Frost/1/0.jpg": 9})
    pairs = read_ytf(shared_data / "protocols" / "ytf", tmp_path, on_missing="reject")
    assert np.bincount(pairs.folds).tolist() == [0] + [500] * 10
    assert np.bincount(pairs.folds[pairs.same]).tolist() == [0] + [250] * 10
    # Of the 3,425 videos of 1,595 people the pairs need these.
    assert len(pairs.templates) == 3_226
    assert len(set(pairs.templates.subjects.tolist())) == 1_447


@pytest.mark.parametrize("header", [True, False])
def test_a_byte_order_mark_hides_no_pair(tmp_path, header):
    lines = YTF_LIST.splitlines(keepends=True)[0 if header else 1 :]
    write_ytf(tmp_path, "".join(lines))
    file = tmp_path / "splits.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_ytf(tmp_path, tmp_path)) == 4
