"""Lists of one's own: two paths and a truth, as other programs write them."""

import numpy as np
import pytest
from shades import mean_colour, shade_of, write_shades

from keras_facemargin.evaluate import evaluate_pairs
from keras_facemargin.evaluate.protocols import read_own_pairs

ROWS = [
    ("a/1.jpg", "a/2.jpg", "1"),
    ("a/1.jpg", "b/1.jpg", "0"),
    ("b/1.jpg", "b/2.jpg", "1"),
    ("b/2.jpg", "a/2.jpg", "0"),
]


@pytest.fixture
def listed(tmp_path):
    """Writes a list; gives its file."""
    names = {f"{person}/{image}.jpg" for person in "ab" for image in (1, 2)}
    write_shades(tmp_path, {name: shade_of("ab".index(name[0]), int(name[2])) for name in names})
    file = tmp_path / "pairs"

    def write(text):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def lines(separator, rows=ROWS, end="\n"):
    return end.join(separator.join(row) for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        *(lines(separator) for separator in ("\t", ",", " ", ", ", "   ")),
        lines("\t", end="\r\n"),
        "img1,img2,label\n\n" + lines(","),
        "first\tsecond\tis_same\n" + lines("\t") + "\n\n",
        b"\xef\xbb\xbf" + lines(",").encode(),
        "\n\n" + lines(" ", end="\n\n"),
        lines(",").replace("1\n", "True\n").replace("0\n", "false\n"),
        lines(",").replace("a/1.jpg", '"a/1.jpg"'),
    ],
)
def test_every_form_is_the_same_list(tmp_path, listed, text):
    pairs = read_own_pairs(listed(text), tmp_path)
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.first[3] == tmp_path / "b/2.jpg"
    assert pairs.people is pairs.folds is None
    result = evaluate_pairs(mean_colour, pairs, progress=False)
    assert (result.eer, result.accuracy) == (0.0, None)


def test_folds_are_a_fourth_column(tmp_path, listed):
    rows = [(*row, fold) for row, fold in zip(ROWS, "1122", strict=True)]
    pairs = read_own_pairs(listed(lines(",", [("x", "y", "same", "fold"), *rows])), tmp_path)
    assert pairs.folds.tolist() == ["1", "1", "2", "2"]
    assert evaluate_pairs(mean_colour, pairs, progress=False).accuracy.mean == 1.0


def test_paths_may_hold_spaces(tmp_path, listed):
    write_shades(tmp_path, {"Ada L/1 x.jpg": 9})
    pairs = read_own_pairs(listed(lines("\t") + "\nAda L/1 x.jpg\ta/2.jpg\t0\n"), tmp_path)
    assert pairs.first[4] == tmp_path / "Ada L/1 x.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must list pairs of images. Received: none"),
        ("a,b,same\n", "must list pairs of images"),
        ("a/1.jpg a/2.jpg\n", "pairs, line 1: must be 'PATH PATH TRUTH'"),
        ("a/1.jpg,a/2.jpg,x\n" + lines(","), "line 1: must be 'PATH PATH TRUTH'"),
        ("1 a/1.jpg a/2.jpg\n", "line 1: must be 'PATH PATH TRUTH'"),
        ("Ada L/1.jpg a/2.jpg 1\n", "line 1: .*Paths with spaces need tabs or commas"),
        (lines(";"), "line 1: .*whose fields are separated by semicolons"),
        (lines(",") + "\n\na/1.jpg,b/2.jpg\n", "line 6: must be 'PATH"),
        (lines(",") + "\na/1.jpg,b/2.jpg,2\n", "line 5: must be 'PATH"),
        (lines(",") + "\na/1.jpg,b/2.jpg,0,1\n", "line 5: must be 'PATH"),
        (
            lines(",") + '\n"a/1.jpg,b/2.jpg,0\n',
            "line 5: must be cells separated by commas, each q",
        ),
        (lines(",") + "\n,b/2.jpg,0\n", "line 5: must be 'PATH"),
        ('"a/1.jpg,b/2.jpg,0"\n', "line 1: must be 'PATH"),
        (lines(" ") + "\na/1.jpg a/1.jpg 1\n", "line 5: must pair two different images"),
        (lines(" ") + "\na/2.jpg a/1.jpg 0\n", "line 5: must not contradict line 1"),
        (lines(" ") + "\n../x.jpg a/1.jpg 0\n", "an image must be below"),
        (lines(",").encode("utf-16"), "Received: a file in UTF-16"),
    ],
)
def test_a_broken_list_is_refused_at_its_line(tmp_path, listed, text, message):
    with pytest.raises(ValueError, match=message):
        read_own_pairs(listed(text), tmp_path)


def test_a_pair_that_is_listed_twice_is_a_warning(tmp_path, listed):
    with pytest.warns(UserWarning, match="1 of 5 pairs repeat earlier ones, for example number 5"):
        pairs = read_own_pairs(listed(lines(" ") + "\na/2.jpg a/1.jpg 1\n"), tmp_path)
    assert np.count_nonzero(pairs.same) == 3


def test_a_missing_image_is_refused_or_counted(tmp_path, listed):
    (tmp_path / "a/1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 images missing"):
        read_own_pairs(listed(lines(",")), tmp_path)
    pairs = read_own_pairs(listed(lines(",")), tmp_path, on_missing="reject")
    assert pairs.failed_to_enrol.tolist() == [True, True, False, False]
