"""A folder becomes a repository that opens from the hub and from a web server, byte for byte."""

import json

import pytest
from small_zoo import CARD

from keras_facemargin import zoo
from keras_facemargin.download import FetchError
from keras_facemargin.zoo import load, sources
from keras_facemargin.zoo.parts import HttpsSource, LicenseEntry
from keras_facemargin.zoo.publish import page

FILES = ["README.md", "card.json", "net.keras"]


def upload(server, folder, base):
    for file in folder.iterdir():
        server.files[f"{base}/{file.name}"] = file.read_bytes()


@pytest.fixture
def hub(server, own, monkeypatch, tmp_path):
    """The server as hub and as mirror, with an empty cache."""
    monkeypatch.setenv("FACEMARGIN_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.content = b"not found"
    return server


def test_a_published_folder_is_read_back_from_the_hub(hub, own):
    assert zoo.publish_folder(own) == own / "README.md"
    assert sorted(file.name for file in own.iterdir()) == FILES
    upload(hub, own, "/owner/tiny/resolve/main")
    assert sorted(zoo.read_back(own, "hf://owner/tiny")) == FILES
    card, file = zoo.find_weights("hf://owner/tiny")
    assert file.read_bytes() == (own / "net.keras").read_bytes()
    assert card == zoo.load_card(own)
    assert zoo.load_embedder("hf://owner/tiny").output_shape == (None, 2)


def test_a_published_folder_is_read_back_from_a_web_server(hub, own, monkeypatch):
    zoo.publish_folder(own)
    upload(hub, own, "/models/tiny")
    place = zoo.catalogue.Place(own, base_url=f"{hub.url}/models/tiny")  # https needs no test here
    monkeypatch.setattr(zoo.catalogue, "find_place", lambda model: place)
    monkeypatch.setattr(load, "find_place", lambda model: place)
    monkeypatch.setattr("keras_facemargin.zoo.publish.find_place", lambda model: place)
    assert sorted(zoo.read_back(own, "https://host.example/tiny")) == FILES
    _, file = zoo.find_weights("https://host.example/tiny")
    assert file.is_relative_to(sources.cache_folder())
    assert file.read_bytes() == (own / "net.keras").read_bytes()


def test_a_published_folder_can_be_proven(own):
    assert zoo.load_card(own).golden is None
    zoo.publish_folder(own)
    card = zoo.load_card(own)
    assert card.golden.runtime.startswith("keras ")
    assert zoo.verify_embedder(own).cosine > 0.999999
    written = (own / "card.json").read_bytes()
    zoo.publish_folder(own)
    assert (own / "card.json").read_bytes() == written
    wrong = card.golden.model_copy(update={"embedding": (1.0, -5.0)})
    zoo.write_card(own / "card.json", card.changed(golden=wrong))
    with pytest.raises(ValueError, match=r"must have a cosine of at least 0\.9999"):
        zoo.verify_embedder(own)


def test_another_byte_at_the_address_is_reported(hub, own):
    zoo.publish_folder(own)
    upload(hub, own, "/owner/tiny/resolve/main")
    weights = (own / "net.keras").read_bytes()
    hub.files["/owner/tiny/resolve/main/net.keras"] = weights[:-1] + b"?"
    with pytest.raises(ValueError, match=r"net\.keras at hf://owner/tiny must be the file in"):
        zoo.read_back(own, "hf://owner/tiny")
    hub.files["/owner/tiny/resolve/main/net.keras"] = weights + b"?"
    with pytest.raises(FetchError, match=r"net\.keras cannot be read back.*must have at most"):
        zoo.read_back(own, "hf://owner/tiny")
    with pytest.raises(ValueError, match=r"must begin with hf:// or https://"):
        zoo.read_back(own, str(own))


def test_a_folder_that_is_not_complete_is_not_published(own):
    card = zoo.load_card(own)
    zoo.write_card(own / "card.json", card.changed(license=()))
    with pytest.raises(ValueError, match=r"`license` must have an entry with the part 'weights'"):
        zoo.publish_folder(own)
    zoo.write_card(own / "card.json", card)
    (own / "net.keras").write_bytes(b"other")
    with pytest.raises(ValueError, match="is not the file that its card describes"):
        zoo.publish_folder(own)
    (own / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="A published folder needs a card"):
        zoo.publish_folder(own)
    assert not (own / "README.md").exists()


def test_the_folder_becomes_the_first_source(own):
    card = zoo.load_card(own)
    elsewhere = HttpsSource(kind="https", url="https://host.example/x", archive=None)
    zoo.write_card(own / "card.json", card.changed(sources=(elsewhere,)))
    zoo.publish_folder(own)
    assert [source.kind for source in zoo.load_card(own).sources] == ["folder", "https"]
    assert zoo.load_card(own).embedding_id == card.embedding_id


def front(card):
    _, block, _ = page(card).split("---\n", 2)
    pairs = (line.split(": ", 1) for line in block.splitlines())
    return {key: json.loads(value) for key, value in pairs}


def test_the_page_has_the_hubs_fields_the_ledger_and_the_caution():
    fields = front(CARD)
    assert (fields["license"], fields["license_link"]) == ("other", "card.json")
    assert fields["library_name"] == "keras"
    assert fields["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(
        0.9727, 1e-3
    )
    text = page(CARD)
    shown = (CARD.caution, CARD.embedding_id, *CARD.license, *CARD.lineage, *CARD.measured)
    for words in map(str, shown):
        assert words in text
    assert "95 % interval over people 96.42% to 97.86%" in text
    assert "does not clear commercial use" in text


def test_a_licence_of_the_hubs_list_is_named():
    ledger = tuple(
        LicenseEntry(part=part, of="it", license="CC0-1.0", stated_by="x", commercial=True)
        for part in ("weights", "code", "data")
    )
    card = CARD.changed(license=ledger, measured=())
    assert front(card)["license"] == "cc0-1.0"
    assert "model-index" not in front(card)
    assert "does not clear" not in page(card)


def test_the_page_has_the_named_bars_and_the_errors_by_group():
    card = zoo.load_card("spherenet_distilled")
    text = page(card)
    assert "## Named bars" in text and all(f"- {words}" in text for words in card.bars)
    assert "## Errors by group" in text and card.groups.table in text
    assert "| Indian female | 2.30% (1.43% to 3.31%), 114 of 4,950 | - | 0.4389 |" in text
    assert all(words in text for words in card.groups.sentences)
    assert "Errors by group" not in page(card.changed(groups=None, thresholds=None))
    assert "Named bars" not in page(card.changed(groups=None, thresholds=None))
