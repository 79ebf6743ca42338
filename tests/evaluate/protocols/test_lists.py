"""What the official lists' formats share: every broken line is named."""

import numpy as np
import pytest
from shades import write_shades

from keras_facemargin.evaluate.protocols.lists import (
    find_images,
    read_integers,
    read_lines,
    read_table,
)


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('A,FILENAME,C\n1,"x, y.jpg",\n2,z.jpg,c\n\n')
    table = read_table(file, ["A", ("FILE", "FILENAME")])
    assert table == {"A": ["1", "2"], "FILE": ["x, y.jpg", "z.jpg"], "C": ["", "c"]}
    file.write_text("A,FILE\n")
    assert read_table(file, ["A"]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B,FILE\n", r"t.csv, line 1: must name the column A. Received: 'B,FILE'"),
        ("", "line 1: must name the column A"),
        ("A,X\n", "line 1: must name the column FILE or FILENAME"),
        ("A,FILE\n1,x\n2\n", r"line 3: must have 2 fields. Received: '2'"),
        ("A,FILE\n1,x,y\n", "line 2: must have 2 fields"),
    ],
)
def test_a_broken_table_is_refused_at_its_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv", ["A", ("FILE", "FILENAME")])


def test_numbers_are_read_and_the_line_that_has_none_is_named(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("1,2\r\n3,44\r\n")
    np.testing.assert_array_equal(read_integers(file, 2, ",", "two."), [[1, 2], [3, 44]])
    for text, message in (
        ("1,2\n3,x\n", r"line 2: two. Received: '3,x'"),
        ("1,2\n3\n", "line 2: two"),
        ("1,2,3\n", "line 1: two"),
        ("1,2\n3,99999999999999999999\n", "cannot be read"),
        ("", "an empty file"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_integers(file, 2, ",", "two.")


def test_a_picture_is_no_list(tmp_path):
    (tmp_path / "list").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="must be a list of pairs, a text file"):
        read_lines(tmp_path / "list", "a list of pairs")


def test_a_crop_may_be_of_another_format_than_its_photo(tmp_path):
    colours = dict.fromkeys(["a/1.png", "a/2.jpg", "J._K._Ada_0001.png", "b.jpeg", "b.png"], 9)
    write_shades(tmp_path, colours)
    names = ["a/1.jpg", "a/2.jpg", "J._K._Ada_0001", "b.jpeg", "a/1.jpg"]
    images, missing = find_images(names, tmp_path, "list")
    assert [path.relative_to(tmp_path).as_posix() for path in images.values()] == [
        "a/1.png",
        "a/2.jpg",
        "J._K._Ada_0001.png",
        "b.jpeg",
    ]
    assert not missing


def test_an_image_lies_in_its_folder(tmp_path):
    for name in ("../x.jpg", "/etc/x.jpg"):
        with pytest.raises(ValueError, match="an image lies below"):
            find_images([name], tmp_path, "list")
