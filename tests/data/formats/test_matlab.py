"""MATLAB's files: intact ones are read as by SciPy, damaged ones end in one clear error."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from data.test_fuzz_containers import fuzz, mutate
from published_sets import AGEDB, write_agedb, write_blufr
from scipy.io import loadmat, savemat

from keras_facemargin.data.formats import matlab
from keras_facemargin.data.formats.matlab import read_mat
from keras_facemargin.evaluate.protocols import read_agedb, read_blufr

BLUFR = "blufr_lfw_config.mat"
CELLS = np.empty((2, 2), object)
CELLS[:] = [["Ada", np.arange(3.0)], [np.zeros((0, 0)), "Grüße"]]
ALIKE = np.empty((1, 2), object)
ALIKE[0, 0], ALIKE[0, 1] = np.arange(2), np.arange(2)
VARIABLES = {
    **{f"of_{kind}": np.arange(6, dtype=kind).reshape(2, 3) for kind in "bBhHiIqQfd"},
    "truths": np.array([[True, False]]),
    "empty": np.zeros((0, 3)),
    "cube": np.arange(24.0).reshape(2, 3, 4),
    "complex": np.array([[1 + 2j, 3]]),
    "text": "a text",
    "nothing": "",
    "rows": np.array(["one", "three"]),
    "cells": CELLS,
    "alike": ALIKE,
    "structure": {"name": "Ada", "age": 30, "inner": {"cells": CELLS}},
}


def as_scipy(value):
    """What `loadmat` gives, in the form of `read_mat`."""
    if value.dtype.names:
        fields = [{n: as_scipy(each[n]) for n in each.dtype.names} for each in value.ravel("F")]
        return fields[0] if value.shape == (1, 1) else fields
    if value.dtype.kind == "U":
        texts = [str(each).rstrip() for each in value]
        return (texts[0] if texts else "") if len(texts) < 2 else texts
    if value.dtype == object:
        return [value.shape, [as_scipy(each) for each in value.ravel()]]
    return [value.shape, value.tolist()]


def as_lists(value):
    """What `read_mat` gives, in plain lists."""
    if isinstance(value, dict):
        return {name: as_lists(each) for name, each in value.items()}
    if isinstance(value, str):
        return value
    if value.dtype == object and value.ndim == 1:
        return value.tolist()
    if value.dtype == object:
        return [value.shape, [as_lists(each) for each in value.ravel()]]
    return [value.shape, value.tolist()]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_read_as_by_scipy(tmp_path, compressed):
    savemat(tmp_path / "a.mat", VARIABLES, do_compression=compressed)
    found = read_mat(tmp_path / "a.mat", VARIABLES)
    expected = loadmat(tmp_path / "a.mat", chars_as_strings=True)
    assert found.keys() == VARIABLES.keys()
    for name, value in found.items():
        assert as_lists(value) == as_scipy(expected[name]), name
    assert found["of_h"].dtype == np.int16
    assert found["truths"].dtype == bool
    assert read_mat(tmp_path / "a.mat", ["text", "absent"]) == {"text": "a text"}


def element(order, kind, content):
    return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(order, name, kind, shape, *content):
    head = element(order, 6, struct.pack(f"{order}II", kind, 0))
    head += element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    return element(order, 14, head + element(order, 1, name) + b"".join(content))


def header(order):
    return b"MATLAB 5.0 MAT-file".ljust(124) + {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}[order]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_both_orders_of_bytes_are_read(tmp_path, order, compressed):
    text = element(order, 17, "Ada ♥".encode("utf-16-le" if order == "<" else "utf-16-be"))
    cell = matrix(order, b"", 4, (1, 5), text)
    numbers = element(order, 9, np.array([1.5, -2.0], f"{order}f8").tobytes())
    variables = [
        matrix(order, b"cells", 1, (1, 2), cell, element(order, 14, b"")),
        matrix(order, b"numbers", 6, (1, 2), numbers),
    ]
    if compressed:
        packed = [zlib.compress(each) for each in variables]
        variables = [struct.pack(f"{order}II", 15, len(each)) + each for each in packed]
    (tmp_path / "a.mat").write_bytes(header(order) + b"".join(variables))
    found = read_mat(tmp_path / "a.mat", ["cells", "numbers"])
    assert found["cells"][0, 0] == "Ada ♥"
    assert found["cells"][0, 1].shape == (0, 0)
    assert found["numbers"].tolist() == [[1.5, -2.0]]


def deep(levels):
    value = matrix("<", b"", 6, (0, 0), element("<", 9, b""))
    for _ in range(levels):
        value = matrix("<", b"x", 1, (1, 1), value)
    return value


def compressed(data):
    packed = zlib.compress(data)
    return struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no MATLAB file", "without MATLAB's header"),
        (b"", "without MATLAB's header"),
        (struct.pack("<5i", 0, 1, 1, 0, 2) + b"x\0" + bytes(8), "of version 4, or another format"),
        (b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n", r"version 7.3 \(HDF5\).*'-v7'"),
        (header("<") + b"\x0e", "an element that is cut short"),
        (header("<") + element("<", 9, bytes(8)), "type 9 in place of a variable"),
        (header("<") + matrix("<", b"x", 5, (1, 1)), r"a sparse matrix \(`x`\)"),
        (header("<") + matrix("<", b"x", 3, (1, 1)), r"an object \(`x`\)"),
        (header("<") + matrix("<", b"x", 99, (1, 1)), r"class 99 \(`x`\)"),
        (header("<") + matrix("<", b"x", 1, (1 << 20, 1 << 20)), "1,099,511,627,776 cells in 0 by"),
        (
            header("<") + matrix("<", b"x", 6, (2, 2), element("<", 9, bytes(8))),
            "1 values in an arr",
        ),
        (
            header("<") + 2 * matrix("<", b"x", 6, (0, 0), element("<", 9, b"")),
            "two variables named",
        ),
        (header("<") + deep(100), "more than 16 deep"),
        (
            header("<") + compressed(matrix("<", b"y", 6, (0, 0)))[:-3],
            "place of|cut short|left",
        ),
        (header("<") + compressed(bytes(1 << 17)), "of more than 65,536 bytes"),
        (header("<") + struct.pack("<II", 15, 4) + b"abcd", "that is damaged"),
        (header("<") + bytes(1 << 17), r"131,200 bytes, more than 65,536"),
    ],
)
def test_other_files_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(matlab, "MOST_BYTES", 1 << 16)
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(
        ValueError, match=f"a.mat: must be a MATLAB file of version 5 to 7.*{message}"
    ):
        read_mat(tmp_path / "a.mat", ["x"])


def test_one_changed_byte_of_a_size_is_refused(tmp_path):
    """The class of a cell in 1 byte, not 8: SciPy's reader kills the process by SIGSEGV."""
    write_blufr(tmp_path)
    file = tmp_path / BLUFR
    whole = file.read_bytes()
    tag = struct.pack("<II", 6, 8)
    places = [at for at in range(128, len(whole)) if whole.startswith(tag, at)]
    assert len(places) == 24 + 1 + 1 + 3 * (1 + 2)  # names, their cells, labels, the trials
    for place in places:
        file.write_bytes(whole[: place + 4] + b"\x01" + whole[place + 5 :])
        with pytest.raises(ValueError, match="must be a MATLAB file of version 5 to 7"):
            read_blufr(tmp_path, tmp_path)


NUMBERS = [0, 1, 2, 4, 5, 6, 8, 9, 14, 15, 16, 17, 255, 65535, 1 << 16, 1 << 24, 1 << 31, 2**32 - 1]
WORDS = [*(struct.pack("<I", number) for number in NUMBERS), b"\0" * 8, b"\xff" * 8, b"IM"]


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """(name, images, content) of both official lists, as they are and compressed."""
    found = []
    for write, name in ((write_blufr, BLUFR), (lambda at: write_agedb(at, folds=2), AGEDB)):
        folder = tmp_path_factory.mktemp("mat")
        write(folder)
        content = (folder / name).read_bytes()
        found.append((name, content))
        stream = io.BytesIO()
        plain = loadmat(folder / name)
        wanted = {key: value for key, value in plain.items() if not key.startswith("__")}
        savemat(stream, wanted, do_compression=True)
        found.append((name, stream.getvalue()))
    return found


def read_list(rng, files, place):
    """One mutated list, read as its protocol reads it; its images are not there."""
    name, content = files[rng.integers(0, len(files))]
    others = [each for _, each in files]
    if rng.random() < 0.5 or content[128] != 15:
        content = mutate(rng, content, WORDS, others)
    else:  # damage inside a compressed variable
        size = struct.unpack("<I", content[132:136])[0]
        inner = mutate(rng, zlib.decompress(content[136 : 136 + size]), WORDS, others)
        content = content[:128] + compressed(inner) + content[136 + size :]
    (place / name).write_bytes(content)
    try:
        (read_blufr if name == BLUFR else read_agedb)(place, place)
    except FileNotFoundError as error:
        assert "images missing" in str(error)


def test_hundreds_of_mutated_files(lists, tmp_path):
    tracemalloc.start()
    try:
        outcomes, _ = fuzz(read_list, lists, tmp_path, range(300), most_traced=3e6)
    finally:
        tracemalloc.stop()
    assert outcomes.total() == 300
    assert outcomes["answer"] > 7
    assert outcomes["refused"] > 30


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files(lists, tmp_path, capsys):
    outcomes, grown = fuzz(read_list, lists, tmp_path, range(300, 100_300))
    with capsys.disabled():
        print(f"\nread_mat: {dict(outcomes)}, {grown / 1024:.0f} MiB more memory")
    assert outcomes.total() == 100_000
    assert grown < 200 * 1024
