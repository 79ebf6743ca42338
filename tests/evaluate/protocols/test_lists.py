"""What the official lists' formats share: every broken line is named."""

import numpy as np
import pytest
from shades import write_shades

from keras_facemargin.evaluate.protocols.lists import (
    find_images,
    line_of,
    note_repeats,
    read_integers,
    read_lines,
    read_table,
)


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('A,FILENAME,C\n1,"x, y.jpg",\n\n 2, z.jpg ,c\n\n')
    numbers, table = read_table(file, ["A", ("FILE", "FILENAME")])
    assert numbers == [2, 4]
    assert table == {"A": ["1", "2"], "FILE": ["x, y.jpg", "z.jpg"], "C": ["", "c"]}
    file.write_text("A,FILE\n")
    assert read_table(file, ["A"]) == ([], {"A": [], "FILE": []})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B,FILE\n", r"t.csv, line 1: must name the column A. Received: 'B,FILE'"),
        ("", "line 1: must name the column A"),
        ("A,X\n", "line 1: must name the column FILE or FILENAME"),
        ("A,FILE\n1,x\n2\n", r"line 3: must have 2 fields. Received: '2'"),
        ("A,FILE\n1,x,y\n", "line 2: must have 2 fields"),
        ("A,FILE\n\n1,x\n\n2\n", "line 5: must have 2 fields"),
        ("A,A,FILE\n", "line 1: must name each column once"),
        ("A;FILE\n1;x\n", "line 1: must name the column A.*separated by semicolons"),
        ('A,FILE\n1,"x\n2,y\n3,z\n', r"""line 2: .* each quote closed .*'1,"x'"""),
        ('A,FILE\n1,"x\n2,y"\n3,z\n', "line 2: .* each quote closed on its line"),
        ('A,FILE\n1,"x"y\n', "line 2: must be cells separated by commas"),
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
        ("1,2\n3,99999999999999999999\n", "line 2: two"),
        (f"1,2\n3,{'9' * 5000}\n", "line 2: two"),
        ("1,2\n\n3,٣\n", "line 3: two"),
        ("1;2\n", "line 1: two. Received: '1;2', whose fields are separated by semicolons"),
        ("", "an empty file"),
        ("\n", "an empty file"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_integers(file, 2, ",", "two.")


def test_a_picture_is_no_list(tmp_path):
    (tmp_path / "list").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="must be a list of pairs in UTF-8"):
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
    for name in ("../x.jpg", "/etc/x.jpg", "", ".", "a\0.jpg"):
        with pytest.raises(ValueError, match="an image must be below"):
            find_images([name], tmp_path, "list")


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path):
    file = tmp_path / "list"
    file.write_bytes(b"\xef\xbb\xbfA,FILE\r\n1,2\r\n")
    assert read_lines(file, "a list") == [(1, "A,FILE"), (2, "1,2")]
    assert read_table(file, ["A", "FILE"]) == ([2], {"A": ["1"], "FILE": ["2"]})
    file.write_bytes(b"\xef\xbb\xbf1,2\n3,4\n")
    assert read_integers(file, 2, ",", "two.").tolist() == [[1, 2], [3, 4]]
    file.write_text("1,2\n", encoding="utf-16")
    for read in (
        lambda: read_lines(file, "a list"),
        lambda: read_table(file, ["A"]),
        lambda: read_integers(file, 2, ",", "two."),
    ):
        with pytest.raises(ValueError, match=r"Received: a file in UTF-16. Save it as UTF-8"):
            read()


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    file = tmp_path / "list"
    file.write_text("1,2\n\n \n3,4\n")
    assert read_integers(file, 2, ",", "two.").tolist() == [[1, 2], [3, 4]]
    assert line_of(file, 1) == 4
    file.write_bytes("a\u2028b\x0cc\rd\n".encode())
    assert read_lines(file, "a list") == [(1, "a\u2028b\x0cc"), (2, "d")]


def test_a_list_with_backslashes_gets_a_hint(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="separates folders by backslashes: replace them by slashes"
    ):
        find_images(["imgs\\p0\\a.jpg"], tmp_path, "list")


def test_what_is_named_again_is_counted():
    with pytest.warns(UserWarning, match=r"list: 2 of 5 pairs repeat earlier ones, .* number 3"):
        note_repeats("list", [1, 2, 1, 3, 2], "pairs")
    note_repeats("list", [1, 2], "pairs")
