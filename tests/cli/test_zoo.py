"""`facemargin zoo`."""

import json
import shutil
from pathlib import Path

import pytest
from one_sentence import assert_one_sentence

from keras_facemargin.cli.console import console
from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.zoo import DIRECTORY, list_embedders, load_card


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMARGIN_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEMARGIN_OFFLINE", "1")


def test_zoo_lists_every_embedder(facemargin):
    console.width = 80  # the name is what one types: it must not be cut
    code, out, _ = facemargin("zoo")
    assert code == 0
    assert all(name in out for name in list_embedders())
    console.width = 200
    assert facemargin("zoo", "list")[1].split() == facemargin("zoo")[1].split()
    _, out, _ = facemargin("zoo", "list", "*sphere*")
    assert DEFAULT in out and "w600k" not in out
    assert f"{load_card(DEFAULT).thresholds.find(mirrored=True).cosine:.3f}" in out
    _, out, _ = facemargin("zoo", "list", "none*", "--commercial")
    assert out.startswith("No embedder of the zoo matches 'none*' with --commercial.")
    assert "`facemargin zoo show NAME` has each licence ledger" in out


def test_show_prints_the_card_or_its_json(facemargin):
    code, out, _ = facemargin("zoo", "show", DEFAULT, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(load_card(DEFAULT).to_dict()))
    console.width = 400
    code, out, _ = facemargin("zoo", "show", "mobilefacenet_192")
    card = load_card("mobilefacenet_192")
    assert code == 0
    shown = (*card.license, *card.license_conflicts, *card.measured, *card.notes, card.caution)
    for words in map(str, shown):
        assert words in out
    assert all(words in out for words in (*card.bars, *card.groups.sentences))
    assert card.license_conflicts
    unknown = facemargin("zoo", "show", "nosuch")
    assert_one_sentence(unknown, "Received: 'nosuch'", "lists the names")
    assert_one_sentence(facemargin("zoo", "show", "sfac"), "Did you mean 'sface'?")


def test_fetch_writes_the_card_and_the_weights(facemargin):
    code, out, _ = facemargin("zoo", "fetch", DEFAULT, "--to", "mine")
    assert code == 0
    assert "mine/embedder.keras: 4,253,984 bytes, SHA-256 as on the card" in out
    assert "Commercial use is not cleared." in out
    assert load_card("mine") == load_card(DEFAULT)
    written = Path("mine/card.json").read_bytes()
    assert_one_sentence(facemargin("zoo", "fetch", DEFAULT, "--to", "mine"), "exists already")
    assert Path("mine/card.json").read_bytes() == written
    code, _, error = facemargin("zoo", "fetch", "sface", "--to", "sface")
    assert code == 1
    assert "sface: face_recognition_sface_2021dec.onnx could not be had" in error
    assert "FACEMARGIN_OFFLINE is set" in error
    assert not Path("sface").exists()


def test_verify_compares_digest_and_embedding(facemargin):
    code, out, _ = facemargin("zoo", "verify", DEFAULT)
    assert code == 0
    assert f"embedder.keras: size and SHA-256 as on the card of {DEFAULT}" in out
    assert "golden embedding: cosine 1.0000" in out or "golden embedding: cosine 0.99999" in out
    shutil.copytree(DIRECTORY / DEFAULT, "mine")
    with open("mine/embedder.keras", "ab") as file:
        file.write(b"x")
    assert_one_sentence(facemargin("zoo", "verify", "mine"), "is not the file that its card desc")


def test_publish_writes_the_page_and_checks_an_address(facemargin, server, monkeypatch):
    shutil.copytree(DIRECTORY / DEFAULT, "mine")
    code, out, _ = facemargin("zoo", "publish", "mine")
    assert code == 0
    assert "mine/README.md: upload mine as it is" in out
    monkeypatch.delenv("FACEMARGIN_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for file in Path("mine").iterdir():
        server.files[f"/owner/name/resolve/main/{file.name}"] = file.read_bytes()
    code, out, _ = facemargin("zoo", "publish", "mine", "--check", "hf://owner/name")
    assert code == 0
    assert "card.json, embedder.keras, README.md are byte by byte those of mine" in out
    assert "upload" not in out
    assert_one_sentence(facemargin("zoo", "publish", "."), "A published folder needs a card")
