"""Pictures to show, and a runner of reports."""

import json
import re

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Six files of one colour each."""
    folder = tmp_path_factory.mktemp("faces")
    images = [folder / f"{number}.png" for number in range(6)]
    for number, image in enumerate(images):
        Image.new("RGB", (112, 112), (40 * number, 90, 90)).save(image)
    return images


@pytest.fixture
def written(tmp_path):
    """Runs a report with few draws; returns its result, its page and its JSON."""

    def run(report, title, *arguments, **options):
        options = {"replicates": 20, "progress": False} | options
        models = report(tmp_path / "r.html", *arguments, title=title, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
        page, record = (tmp_path / f"r.{ending}" for ending in ("html", "json"))
        text = re.sub(r'<span class="power">(.*?)</span>', r"\1", page.read_text())
        text = re.sub(r' data-label="[^"]*"', "", text)  # for a narrow window
        return models, text, json.loads(record.read_text())

    return run
