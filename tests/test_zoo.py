"""The zoo: every card is whole and true, and nothing that is not what its card says is opened."""

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_facemargin import zoo
from keras_facemargin.evaluate import all_pairs

CHECKOUT = Path(__file__).resolve().parents[1]
MOST_BYTES = 4_500_000
EMBEDDERS = zoo.list_embedders()
pytestmark = pytest.mark.any_backend


@pytest.fixture
def little_zoo(tmp_path, monkeypatch):
    """A zoo of one tiny embedder, `tiny`; returns its folder."""
    monkeypatch.setattr(zoo, "DIRECTORY", tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(folder / "net.keras")
    card = json.loads((CHECKOUT / "zoo" / "spherenet_distilled" / "card.json").read_text())
    data = (folder / "net.keras").read_bytes()
    card["name"] = "tiny"
    card["weights"] = {
        "file": "net.keras",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def change_card(folder, change):
    path = folder / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


# Every embedder in the zoo.


def test_the_default_embedder_is_listed():
    assert "spherenet_distilled" in EMBEDDERS


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_card_describes_the_weights(name):
    card = zoo.load_card(name)
    embedder = zoo.load_embedder(name)
    size = (zoo.DIRECTORY / name / card.weights.file).stat().st_size
    assert size == card.weights.bytes <= MOST_BYTES
    assert embedder.count_params() == card.parameters
    assert embedder.input_shape == (None, card.input.height, card.input.width, 3)
    assert embedder.output_shape == (None, card.embedding_dim)
    assert {weight.dtype for weight in embedder.weights} == {"float32"}
    assert size < 6 * card.parameters  # float32 weights and no optimizer's state


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings_are_finite_and_tell_pictures_apart(name):
    card = zoo.load_card(name)
    shape = (2, card.input.height, card.input.width, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    images[1] = 255 * (images[1] > 200)
    first, second = zoo.load_embedder(name).predict(images, verbose=0)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert np.isfinite(cosine)
    assert cosine < 0.999


@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_card_survives_the_round_trip(name):
    text = (zoo.DIRECTORY / name / "card.json").read_text(encoding="utf-8")
    card = zoo.load_card(name)
    assert json.loads(json.dumps(card.to_dict())) == json.loads(text)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_card_is_honest(name):
    card = zoo.load_card(name)
    assert card.licence.limits
    assert card.caution
    assert card.threshold.impostor_pairs * card.threshold.far >= 10  # else it would be a guess
    assert (CHECKOUT / card.training.tool).is_file()
    assert card.protocols["lfw"].pairs == 6000


def test_zoo_readme_is_current():
    path = CHECKOUT / "tools" / "write_zoo_readme.py"
    spec = importlib.util.spec_from_file_location("write_zoo_readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (CHECKOUT / "zoo" / "README.md").read_text(encoding="utf-8")
    assert written == module.zoo_readme(), "run: python tools/write_zoo_readme.py"


# Cards that break the form.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour="red"), r"field `colour` is unknown: a card has exactly name,"),
        (lambda c: c.pop("caution"), r"field `caution` is missing"),
        (lambda c: c["threshold"].pop("far"), r"field `threshold.far` is missing"),
        (lambda c: c["protocols"]["lfw"].update(x=1), r"field `protocols.lfw.x` is unknown"),
        (lambda c: c.update(embedding_dim="128"), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(embedding_dim=True), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(lineage="a teacher"), r"`lineage` must be a list"),
        (lambda c: c.update(lineage=[1]), r"`lineage\[0\]` must be text. Received: 1"),
        (lambda c: c.update(protocols=[]), r"`protocols` must be an object"),
        (lambda c: c.update(input=None), r"`input` must be an object. Received: None"),
        (lambda c: c["licence"].update(commercial_use=0), r"`licence.commercial_use` must be true"),
        (lambda c: c["threshold"].update(cosine=1.5), r"`cosine` must be a cosine.*Received: 1.5"),
        (lambda c: c["threshold"].update(far=0), r"`far` must be a rate in \(0, 1\)"),
        (lambda c: c["protocols"]["lfw"].update(accuracy=95.2), r"`accuracy` must be a share"),
        (lambda c: c["weights"].update(sha256="ABC"), r"`sha256` must be 64 hex digits"),
        (lambda c: c["weights"].update(file="../x.keras"), r"`file` must be a file name, no path"),
        (lambda c: c.update(name="other"), r"`name` must be the folder's name, 'tiny'"),
    ],
)
def test_a_broken_card_is_refused_by_field(little_zoo, change, message):
    change_card(little_zoo, change)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load_card("tiny")
    assert str(little_zoo / "card.json") in str(caught.value)


def test_a_card_that_is_no_json_is_named(little_zoo):
    (little_zoo / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card\.json: "):
        zoo.load_card("tiny")


def test_a_whole_number_may_stand_for_a_number(little_zoo):
    change_card(little_zoo, lambda card: card["threshold"].update(cosine=1))
    assert zoo.load_card("tiny").threshold.cosine == 1.0


def test_what_is_written_is_read_again(little_zoo):
    path = little_zoo / "card.json"
    card = dataclasses.replace(zoo.read_card(path), description="größer")
    zoo.write_card(path, card)
    assert zoo.read_card(path) == zoo.load_card("tiny") == card
    assert sorted(each.name for each in little_zoo.iterdir()) == ["card.json", "net.keras"]


def test_a_card_outside_the_zoo_opens_its_weights(little_zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "DIRECTORY", tmp_path / "elsewhere")
    assert zoo.load_weights(little_zoo / "card.json").output_shape == (None, 3)
    monkeypatch.chdir(little_zoo)
    assert zoo.read_card("card.json").name == "tiny"
    (little_zoo / "net.keras").write_bytes(b"other")
    with pytest.raises(ValueError, match="not the file that its card describes"):
        zoo.load_weights("card.json")


def test_a_threshold_is_calibrated_over_every_pair():
    rng = np.random.default_rng(0)
    labels = np.arange(60) // 3
    rows = rng.normal(size=(20, 8))[labels] + rng.normal(size=(60, 8))
    found = zoo.calibrate(rows, labels, 0.02, True, "noise", progress=False)
    scores, same = all_pairs(rows, labels)
    assert (found.genuine_pairs, found.impostor_pairs) == (same.sum(), (~same).sum())
    assert np.mean(scores[~same] >= found.cosine) <= 0.02
    assert np.mean(scores[~same] >= found.cosine - 1e-9) > 0.02
    assert found.tar == np.mean(scores[same] >= found.cosine)
    assert (found.far, found.flip, found.data) == (0.02, True, "noise")
    with pytest.raises(ValueError, match=r"far=0\.0005, which is not supported by 1,710 impostor"):
        zoo.calibrate(rows, labels, 5e-4, True, "noise", progress=False)


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_an_unknown_name_lists_the_known_ones(little_zoo, load):
    with pytest.raises(ValueError, match=r"zoo: tiny\. Received: 'huge'"):
        load("huge")


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_a_name_cannot_leave_the_zoo(little_zoo, load):
    with pytest.raises(ValueError, match="must be"):
        load("../" + little_zoo.parent.name + "/tiny")


def test_an_empty_zoo_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "DIRECTORY", tmp_path)
    assert zoo.list_embedders() == []
    with pytest.raises(ValueError, match="the zoo is empty"):
        zoo.load_embedder("tiny")


# Files.


def test_a_zoo_embedder_opens_by_name(little_zoo):
    assert zoo.load_embedder("tiny").output_shape == (None, 3)


def test_other_bytes_than_the_cards_are_not_opened(little_zoo, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", None)  # would fail differently
    file = little_zoo / "net.keras"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the file that its card describes"):
        zoo.load_embedder("tiny")


def test_a_path_opens_ones_own_file(little_zoo):
    assert zoo.load_embedder(little_zoo / "net.keras").output_shape == (None, 3)
    assert zoo.load_embedder(str(little_zoo / "net.keras")).output_shape == (None, 3)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "half.keras"
    path.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(ValueError, match=r"half\.keras cannot be opened as a Keras model"):
        zoo.load_embedder(path)


def test_a_missing_file_is_named(little_zoo, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Received: .*gone\.keras"):
        zoo.load_embedder(tmp_path / "gone.keras")
    (little_zoo / "net.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"net\.keras"):
        zoo.load_embedder("tiny")


def test_a_model_that_is_no_embedder_is_refused(tmp_path):
    vector = keras.Input((4,))
    keras.Model(vector, keras.layers.Dense(2)(vector)).save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match=r"must hold an embedder.*from \(None, 4\) to \(None, 2\)"):
        zoo.load_embedder(tmp_path / "dense.keras")


def test_a_file_with_pickled_code_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    doubled = keras.layers.Lambda(lambda x: 2 * x)(pooled)
    keras.Model(image, doubled).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match="cannot be opened"):
        zoo.load_embedder(tmp_path / "code.keras")
