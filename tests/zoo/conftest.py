"""Zoos of one tiny embedder."""

import pytest
from small_zoo import save_tiny, tiny_card

from keras_facemargin import zoo


@pytest.fixture
def little_zoo(tmp_path, monkeypatch):
    """A zoo of one tiny embedder, `tiny`; returns its folder."""
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_tiny(folder / "net.keras")
    zoo.write_card(folder / "card.json", tiny_card(folder / "net.keras"))
    return folder


@pytest.fixture
def own(little_zoo, tmp_path, monkeypatch):
    """The folder of `tiny` with its card, outside the zoo."""
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path / "elsewhere")
    return little_zoo
