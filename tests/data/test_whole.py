"""Whatever happens, there is the old file or the whole new one, and nothing else."""

import os

import pytest

from keras_facemargin.data.whole import whole_file, write_json


@pytest.mark.parametrize(("mode", "new"), [("w", "größer"), ("wb", b"\x00new")])
def test_the_new_file_takes_the_old_ones_place(tmp_path, mode, new):
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path, mode) as file:
        file.write(new)
        assert path.read_text() == "old"
    assert path.read_bytes() == (new if mode == "wb" else new.encode())
    assert list(tmp_path.iterdir()) == [path]


def fail(*_):
    raise OSError("disk full")


@pytest.mark.parametrize("at_the_move", [True, False])
def test_an_error_leaves_the_old_file(tmp_path, monkeypatch, at_the_move):
    path = tmp_path / "file"
    path.write_text("old")
    if at_the_move:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"), whole_file(path) as file:
        file.write("half")
        if not at_the_move:
            fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_cannot_say_what_is_not_finite(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"größe": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"rate": float("nan")})
    assert path.read_text() == '{\n  "größe": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
