"""The report is one file, written in one step, escaped, with its pictures inside."""

import base64
import io
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_facemargin import report as report_package
from keras_facemargin.report import Report
from keras_facemargin.report.task import page_file

VOID = {"meta", "img", "br", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def pictures(page):
    """(media type, Pillow image) of each picture in the page."""
    found = re.findall(r'src="data:([a-z/]+);base64,([^"]+)"', page)
    return [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in found]


def test_a_cell_of_a_wide_table_has_its_header(tmp_path):
    headers = ["a", 'b "c"', "d", "e", "f"]
    page = Report("Wide").table(headers, [["x", "1e-6", 2, 3, 4]]).write(tmp_path / "w.html")
    text = page.read_text()
    assert '<td data-label="b &quot;c&quot;">' in text
    assert '<td class="number" data-label="d">2</td>' in text
    narrow = Report("Narrow").table(headers[:4], [["x", "1e-6", 2, 3]])
    assert "data-label=" not in narrow.write(page).read_text()


def test_one_well_formed_file_without_a_host(tmp_path):
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.subplots().plot([0, 1])
    report = Report("Faces").heading("Scores").paragraph("Cosines.")
    report.table(["pair", "score"], [["a", 0.5], ["b", 0.25]], caption="Two pairs")
    report.figure(figure, "A line")
    report.image(np.zeros((4, 6, 3), np.uint8), "Black")
    path = report.write(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "://" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert 'name="viewport"' in page
    assert [image.size for _, image in pictures(page)] == [(200, 100), (6, 4)]
    assert page.index("Scores") < page.index("Two pairs") < page.index("A line")
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_escaped_everywhere(tmp_path):
    evil = '<script>"&'
    report = Report(evil).heading(evil).paragraph(evil).table([evil], [[evil]], evil)
    page = report.image(np.zeros((2, 2), np.uint8), evil).write(tmp_path / "r.html").read_text()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;&quot;&amp;") == 9


def test_columns_of_numbers_are_aligned_right(tmp_path):
    rows = [["a", 1, True], ["b", np.float32(2.5), False]]
    page = Report("t").table(["name", "n", "ok"], rows).write(tmp_path / "r.html").read_text()
    assert '<th>name</th><th class="number">n</th><th>ok</th>' in page
    assert '<td>b</td><td class="number">2.5</td><td>False</td>' in page


def test_a_power_of_ten_in_a_cell_is_not_broken_across_lines(tmp_path):
    rows = [["TAR @ FAR 1e-06", "2.5e-3, <1e-4"], ["Mary-Jane", "a1e-x"]]
    page = Report("t").table(["a", "b"], rows).write(tmp_path / "r.html").read_text()
    assert '<td>TAR @ FAR <span class="power">1e-06</span></td>' in page
    whole = '<td><span class="power">2.5e-3</span>, &lt;<span class="power">1e-4</span></td>'
    assert whole in page
    assert "<td>Mary-Jane</td><td>a1e-x</td>" in page
    assert ".power { white-space: nowrap; }" in page


def test_a_file_name_in_a_header_may_be_broken(tmp_path):
    names = ["mine_068.ckpt", "a.b", "FAR 1.5"]
    page = Report("t").table(names, []).write(tmp_path / "r.html").read_text()
    assert "<th>mine_<wbr>068.<wbr>ckpt</th><th>a.<wbr>b</th><th>FAR 1.5</th>" in page


def test_an_empty_table_keeps_its_headers(tmp_path):
    page = Report("t").table(["a", "b"], []).write(tmp_path / "r.html").read_text()
    assert "<th>a</th><th>b</th>" in page


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match=r"one cell per header \(2.*Received: 1 cells: \['x'\]"):
        Report("t").table(["a", "b"], [["x"]])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_picture_files_are_stored_byte_for_byte(tmp_path, suffix):
    file = tmp_path / f"face.{suffix}"
    Image.new("RGB", (5, 5), "red").save(file)
    page = Report("t").image(file).write(tmp_path / "r.html").read_text()
    assert base64.b64encode(file.read_bytes()).decode() in page
    assert pictures(page)[0][0] == f"image/{suffix.replace('jpg', 'jpeg')}"


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2, 3)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)]
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="must be a uint8 array of shape"):
        Report("t").image(pixels)


def test_other_files_are_refused(tmp_path):
    for name, content in (("a.bmp", None), ("a.txt", b"hello")):
        file = tmp_path / name
        if content is None:
            Image.new("RGB", (2, 2)).save(file)
        else:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: must be one of PNG, JPEG, WEBP"):
            Report("t").image(file)


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = Report("old").write(tmp_path / "r.html")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        Report("new").write(path)
    assert "<h1>old</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_name_that_is_not_utf8_can_be_written(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    path = Report(name).table([name], [[name]], caption=name).write(tmp_path / "r.html")
    assert path.read_text(encoding="utf-8").count("caf\\udce9.jpg") == 5


@pytest.mark.parametrize("taken", ["r.html", "r.json"])
def test_a_page_that_cannot_be_written_is_refused_before_the_measures(tmp_path, taken):
    (tmp_path / taken).mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        page_file(tmp_path / "r.html")
    assert caught.value.filename == str(tmp_path / taken)


def test_a_page_without_matplotlib_is_refused_before_the_measures(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"keras_facemargin\[plots\]"):
        page_file(tmp_path / "r.html")


def test_no_page_imports_another_page():
    folder = Path(report_package.__file__).parent
    pages = {file.stem for file in folder.glob("*.py") if "(ReportTask[" in file.read_text()}
    assert len(pages) == 7
    for page in pages:
        text = (folder / f"{page}.py").read_text()
        found = re.findall(r"from keras_facemargin\.report\.(\w+) import", text)
        assert not pages & {*found}
