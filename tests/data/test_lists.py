"""Lists as programs write them: every line is an image or a named fault, or the list is refused."""

import codecs
import os
import re

import numpy as np
import pytest

from keras_facemargin.data.containers import list_faces

PEOPLE, EACH = 12, 3
ROWS = [(f"imgs/p{label}/{n}.jpg", label) for label in range(PEOPLE) for n in range(EACH)]
COUNT = len(ROWS)
CSV = "".join(f"{path},{label}\n" for path, label in ROWS)
LST = "".join(f"{path}\t{label}\n" for path, label in ROWS)
TXT = "".join(f"{path} {label}\n" for path, label in ROWS)
IM2REC = "".join(f"{row}\t{label}.000000\t{path}\n" for row, (path, label) in enumerate(ROWS))
INSIGHTFACE = "".join(f"1\t{path}\t{label}\n" for path, label in ROWS)


def listed(file, text, **options):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list_faces(file, **options)


def found(listing, root):
    """Path below the root -> its identity, of every image listed."""
    identities = [listing.identities[label] for label in listing.labels.tolist()]
    paths = [os.path.relpath(path, root) for path in listing.images]
    return dict(zip(paths, identities, strict=True))


def expected(rows=ROWS):
    return {path: str(label) for path, label in rows}


# One quote, one line


@pytest.mark.parametrize(("name", "text"), [("a.lst", LST), ("a.csv", CSV), ("a.txt", TXT)])
def test_a_quote_spoils_only_its_own_line(tmp_path, name, text):
    lines = text.splitlines()
    lines[19] = '"' + lines[19]
    listing = listed(tmp_path / name, "\n".join(lines))
    images, others = found(listing, tmp_path), expected(ROWS[:19] + ROWS[20:])
    if name == "a.csv":
        assert images == others
        (bad,) = listing.skipped
        assert bad.path == f"{tmp_path}/a.csv, line 20"
        assert f"Received: '\"{ROWS[19][0]},{ROWS[19][1]}'" in bad.reason
    else:  # a character like any other
        (quoted,) = images.keys() - others.keys()
        assert quoted.startswith('"')
        assert not listing.skipped


def test_fields_in_quotes(tmp_path):
    lines = ['"a, b/1.jpg", Ada', '"say ""Bo""/1.jpg","Bo"', 'c/1.jpg,"Cy"x', '"d/1.jpg",', "e,f,g"]
    listing = listed(tmp_path / "a.csv", "\n".join(lines))
    assert found(listing, tmp_path) == {"a, b/1.jpg": "Ada", 'say "Bo"/1.jpg': "Bo"}
    assert [re.search(r"line (\d)|d/1.jpg", bad.path)[0] for bad in listing.skipped] == [
        "line 3",
        "line 5",
        "d/1.jpg",
    ]


# One list, one order


@pytest.mark.parametrize("form", ["{}", "{}.0", "{}.000000", " {}"])
@pytest.mark.parametrize(
    "layout", ["a.csv {path},{label}", "a.lst {path}\t{label}", "a.txt {path} {label}"]
)
def test_whole_numbers_are_one_identity_in_any_form_and_sort_by_value(tmp_path, layout, form):
    name, line = layout.split(" ", 1)
    lines = [line.format(path=path, label=form.format(label)) for path, label in reversed(ROWS)]
    listing = listed(tmp_path / name, "\n".join(lines))
    assert listing.identities == [str(label) for label in range(PEOPLE)]
    assert listing.labels.tolist() == sorted(label for _, label in ROWS)
    assert found(listing, tmp_path) == expected()


def test_numbers_come_first_and_leading_zeros_make_another_identity(tmp_path):
    names = ["Ada", "10", "-3", "9", "007", "7", "x9", "٣", "'", "9" * 5000]
    lines = [f"{row}.jpg,{name}" for row, name in enumerate(names)]
    listing = listed(tmp_path / "a.csv", "\n".join(lines))
    assert listing.identities == ["007", "7", "9", "10", "'", "-3", "Ada", "x9", "٣"]
    (long,) = listing.skipped
    assert "at most 255 bytes" in long.reason


# As other programs write them


def windows(text):
    return text.replace("/", "\\").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("im2rec.lst", IM2REC),
        ("insightface.lst", INSIGHTFACE),
        ("two labels.lst", IM2REC.replace(".000000\t", ".000000\t7.000000\t")),
        ("landmarks.lst", INSIGHTFACE.replace("\n", "\t38.3\t51.7\n")),
        ("spaces.lst", LST.replace("\t", " ")),
        ("spaces im2rec.lst", IM2REC.replace("\t", "  ")),
        ("head.csv", "label, path\n" + "".join(f"{label}, {path}\n" for path, label in ROWS)),
        ("head.lst", "Image\tnote\tID\n" + LST.replace("\t", "\tx\t")),
        ("blank.csv", "\n \n" + CSV.replace("\n", "\n\n  \n")),
        ("dos.csv", CSV.replace("\n", "\r\n")),
        ("old mac.csv", CSV.replace("\n", "\r")),
        ("windows.csv", windows(CSV)),
        ("windows.lst", windows(LST)),
        ("windows.txt", windows(TXT)),
        ("dots.csv", CSV.replace("imgs/", "./imgs/p0/../")),
    ],
)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_unambiguous_lists_are_read(tmp_path, name, text, mark):
    listing = listed(tmp_path / name, mark + text.encode())
    assert listing.skipped == []
    assert found(listing, tmp_path) == expected()


def test_names_in_another_encoding_are_unchanged(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"M\xfcller/1.jpg,M\xfcller\nbo/1.jpg,Bo\n")
    listing = list_faces(tmp_path / "a.csv")
    name = os.fsdecode(b"M\xfcller")
    assert found(listing, tmp_path) == {f"{name}/1.jpg": name, "bo/1.jpg": "Bo"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", CSV.replace(",", ";"), "PATH,LABEL .* with semicolons .* by commas"),
        ("a.csv", "path;label\n" + CSV.replace(",", ";"), "'path;label', with semicolons"),
        ("a.csv", CSV.replace(",", "\t"), "with tabs between the columns. Separate them by commas"),
        ("a.csv", CSV.replace("\n", ",x\n"), "`path` and `label` .* Received: .*,0,x'.$"),
        ("a.lst", LST.replace("\t", ","), "PATH<tab>LABEL.* with commas .* by tabs"),
        ("a.lst", LST.replace("imgs/", "my imgs/").replace("\t", " "), "with spaces .* by tabs"),
        ("a.lst", IM2REC.replace("\t", "\t-", 1).replace(".0", ".5"), "KEY<tab>LABEL<tab>PATH"),
        ("a.txt", TXT.replace(" ", ","), "PATH LABEL.* with commas .* by spaces"),
        ("a.csv", CSV.encode("utf-16"), "a list of images in UTF-8. Received: a file in UTF-16"),
        ("a.lst", LST.encode("utf-16-le"), "Received: a file with NUL bytes"),
        ("a.csv", CSV.replace("imgs", "/data/imgs"), "must be below .*/data/imgs.*--images FOLDER"),
        ("a.csv", windows(CSV).replace("imgs", "C:\\imgs"), r"must be below .*Received: 'C:"),
    ],
)
def test_a_list_without_one_line_of_its_form_is_refused_in_one_sentence(
    tmp_path, name, text, message
):
    with pytest.raises(ValueError, match=message) as caught:
        listed(tmp_path / name, text)
    assert str(caught.value).startswith(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)


def test_the_lines_of_a_list_without_two_identities_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)Received: 1 in .*line 2: its path must be below"):
        listed(tmp_path / "a.csv", "a.jpg,3\n../../b.jpg,4\n")


# Paths


def test_paths_must_be_below_the_folder(tmp_path):
    root = tmp_path / "data" / "faces"
    inside = [f"{root}/imgs/p1/0.jpg,1", "imgs/../imgs/p2/0.jpg,2", "imgs/p..3/0.jpg,3"]
    outside = [
        f"{root}2/imgs/p4/0.jpg,4",
        "../faces2/0.jpg,5",
        f"{root}/../0.jpg,6",
        "/etc/passwd,7",
        "..\\..\\0.jpg,8",
        "imgs/../../x/0.jpg,9",
    ]
    listing = listed(tmp_path / "a.csv", "\n".join(inside + outside), images=root)
    assert found(listing, root) == {
        "imgs/p1/0.jpg": "1",
        "imgs/p2/0.jpg": "2",
        "imgs/p..3/0.jpg": "3",
    }
    assert [bad.path for bad in listing.skipped] == [
        f"{tmp_path}/a.csv, line {number}" for number in range(4, 10)
    ]
    assert all(f"must be below {root}" in bad.reason for bad in listing.skipped)
    # The way out: a folder that all of them are below.
    everywhere = listed(tmp_path / "a.csv", "\n".join(inside + outside), images="/")
    assert f"{root}2/imgs/p4/0.jpg" in everywhere.images
    assert everywhere.skipped == []


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"p/1.jpg,1\n{tmp_path}/faces/p/2.jpg,2\n../faces/p/3.jpg,3\n{tmp_path}/p/4.jpg,4\n"
    listing = listed(tmp_path / "a.csv", text, images="faces")
    assert found(listing, "faces") == {"p/1.jpg": "1", "p/2.jpg": "2", "p/3.jpg": "3"}
    listing = list_faces("a.csv")
    assert sorted(found(listing, ".")) == ["faces/p/2.jpg", "p/1.jpg", "p/4.jpg"]


# Damage


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", CSV), ("a.lst", LST), ("b.lst", IM2REC), ("c.lst", INSIGHTFACE), ("a.txt", TXT)],
)
def test_a_damaged_line_spoils_no_other(tmp_path, name, text):
    """A thousand mutations in all: every line is an image or a named fault."""
    rng = np.random.default_rng([7, len(text)])
    marks = [b'"', b"\t", b",", b" ", b";", b"/", b"..", b"\\", b"\xff", b"\n", b"\r", b"'", b"#"]
    for number in range(200):
        lines = text.encode().splitlines()
        hit = int(rng.integers(COUNT))
        line = bytearray(lines[hit])
        for _ in range(rng.integers(1, 4)):
            at, stop = sorted(rng.integers(0, len(line) + 1, 2).tolist())
            match rng.integers(4):
                case 0:
                    del line[at:stop]
                case 1:
                    line[at:at] = marks[rng.integers(len(marks))]
                case 2:
                    line[at:stop] = bytes(rng.integers(1, 256, stop - at, "uint8"))
                case _:
                    line[at:at] = line[at:stop]
        lines[hit] = bytes(line)
        listing = listed(tmp_path / name, b"\n".join(lines))
        left = [each for each in re.split(rb"[\r\n]", b"\n".join(lines)) if each.strip(b" \t")]
        assert len(listing.labels) + len(listing.skipped) == len(left), number
        images = found(listing, tmp_path)
        for row, (path, label) in enumerate(ROWS):
            assert row == hit or images[path] == str(label), number


def test_a_very_long_line_is_one_fault(tmp_path):
    listing = listed(tmp_path / "a.csv", CSV + "x" * 300_000 + ",1\n")
    (bad,) = listing.skipped
    assert bad.path.endswith(f"line {COUNT + 1}")
    assert len(bad.reason) < 500
