"""The zoo: every card is whole and true, and nothing that is not what its card says is opened."""

import codecs
import dataclasses
import hashlib
import importlib.util
import json
import re
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state
from keras.src.saving import serialization_lib

from keras_facemargin import zoo
from keras_facemargin.evaluate import all_pairs, embed

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_BYTES = 4_500_000
EMBEDDERS = zoo.list_embedders()
pytestmark = pytest.mark.any_backend


@pytest.fixture
def little_zoo(tmp_path, monkeypatch):
    """A zoo of one tiny embedder, `tiny`; returns its folder."""
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2, use_bias=False)(pooled)).save(folder / "net.keras")
    card = json.loads((CHECKOUT / "zoo" / "spherenet_distilled" / "card.json").read_text())
    data = (folder / "net.keras").read_bytes()
    card["name"] = "tiny"
    card["input"] |= {"height": 8, "width": 8}
    card |= {"parameters": 6, "embedding_dim": 2}
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
    size = (zoo.catalogue.DIRECTORY / name / card.weights.file).stat().st_size
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
    text = (zoo.catalogue.DIRECTORY / name / "card.json").read_text(encoding="utf-8")
    card = zoo.load_card(name)
    assert json.loads(json.dumps(card.to_dict())) == json.loads(text)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_card_is_honest(name):
    card = zoo.load_card(name)
    assert card.licence.limits
    assert card.caution
    for chosen in (card.thresholds.single, card.thresholds.mirrored):
        assert chosen.impostor_pairs * chosen.far >= 10  # else it would be a guess
    assert (CHECKOUT / card.training.tool).is_file()
    assert card.protocols["lfw"].pairs == 6000


def test_zoo_readme_is_current():
    path = CHECKOUT / "tools" / "assets" / "write_zoo_readme.py"
    spec = importlib.util.spec_from_file_location("write_zoo_readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (CHECKOUT / "zoo" / "README.md").read_text(encoding="utf-8")
    assert written == module.zoo_readme(), "run: python tools/assets/write_zoo_readme.py"


# Cards that break the form.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour="red"), r"field `colour` is unknown: a card has exactly name,"),
        (lambda c: c.pop("caution"), r"field `caution` is missing"),
        (lambda c: c["thresholds"]["single"].pop("far"), r"`thresholds.single.far` is missing"),
        (lambda c: c.update(thresholds=[]), r"`thresholds` must be an object. Received: \[\]"),
        (lambda c: c["protocols"]["lfw"].update(x=1), r"field `protocols.lfw.x` is unknown"),
        (lambda c: c.update(embedding_dim="128"), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(embedding_dim=True), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(lineage="a teacher"), r"`lineage` must be a list"),
        (lambda c: c.update(lineage=[1]), r"`lineage\[0\]` must be text. Received: 1"),
        (lambda c: c.update(protocols=[]), r"`protocols` must be an object"),
        (lambda c: c.update(input=None), r"`input` must be an object. Received: None"),
        (lambda c: c["licence"].update(commercial_use=0), r"`licence.commercial_use` must be true"),
        (
            lambda c: c["thresholds"]["single"].update(cosine=1.5),
            r"`thresholds.single.cosine` must be a cosine.*Received: 1.5",
        ),
        (lambda c: c["thresholds"]["mirrored"].update(far=0), r"mirrored.far` must be a rate in"),
        (lambda c: c["thresholds"]["mirrored"].update(tar=7.0), r"mirrored.tar` must be a share"),
        (lambda c: c["thresholds"]["single"].update(impostor_pairs=-1), r"pairs` must be a count"),
        (lambda c: c["protocols"]["lfw"].update(accuracy=95.2), r"lfw.accuracy` must be a share"),
        (lambda c: c["protocols"]["lfw"].update(eer=-0.1), r"lfw.eer` must be a share"),
        (lambda c: c["protocols"]["lfw"].update(pairs=-1), r"lfw.pairs` must be a count"),
        (lambda c: c["protocols"]["lfw"]["tar_at_far"].update(x=2), r"lfw.tar_at_far.x` must be a"),
        (lambda c: c["protocols"]["lfw"].update(auc=float("nan")), r"finite.*Received: NaN"),
        (lambda c: c["protocols"]["lfw"].update(auc=10**400), r"lfw.auc` must be a number"),
        (lambda c: c.update(parameters=0), r"`parameters` must be 1 or more"),
        (lambda c: c["training"].update(steps=-1), r"`training.steps` must be a count"),
        (lambda c: c["weights"].update(bytes=0), r"`weights.bytes` must be 1 or more"),
        (lambda c: c["weights"].update(sha256="ABC"), r"`weights.sha256` must be 64 hex digits"),
        (lambda c: c["weights"].update(file="../x.keras"), r"`weights.file` must be a file name"),
        (lambda c: c.update(name="other"), r"`name` must be the folder's name, 'tiny'"),
        (
            lambda c: c.update(threshold=c.pop("thresholds")["mirrored"]),
            r"`threshold` is of an earlier form.*\"thresholds\": null.*facemargin calibrate",
        ),
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
    change_card(little_zoo, lambda card: card["thresholds"]["single"].update(cosine=1))
    assert zoo.load_card("tiny").thresholds.single.cosine == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"name": 1e999}', "field `architecture` is missing"),
        ("1e999", "the card` must be an object. Received: inf"),
        ("-Infinity", "must be finite. Received: -Infinity"),
        ("x".encode("utf-16"), "a card in UTF-8. Received: a file in UTF-16"),
        (b"{\xff}", "line 1: must be a card in UTF-8"),
        ("", "Expecting value"),
    ],
    ids=range(8),
)
def test_what_is_no_card_is_one_sentence(little_zoo, text, message):
    path = little_zoo / "card.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load_card("tiny")
    assert str(caught.value).count(str(path)) == 1
    assert len(str(caught.value)) < 1_000


def test_an_infinite_number_is_refused_by_field(little_zoo):
    path = little_zoo / "card.json"
    text = re.sub(r'"auc": [0-9.]+', '"auc": 1e999', path.read_text())
    path.write_text(text)
    with pytest.raises(ValueError, match=r"`protocols\.lfw\.auc` must be a finite number.*: inf"):
        zoo.load_card("tiny")


def test_a_card_may_begin_with_a_byte_order_mark(little_zoo):
    path = little_zoo / "card.json"
    card = zoo.load_card("tiny")
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert zoo.load_card("tiny") == card


def test_what_nobody_recorded_is_null(little_zoo):
    change_card(little_zoo, lambda card: card.update(training=None, thresholds=None))
    card = zoo.load_card("tiny")
    assert card.training is None and card.thresholds is None
    assert zoo.load_embedder("tiny").output_shape == (None, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(parameters=7), r"`parameters` must be that .* net.keras, 6.*: 7"),
        (lambda c: c.update(embedding_dim=128), r"`embedding_dim` must be that .*, 2.*: 128"),
        (lambda c: c["input"].update(height=112), r"`input.height` must be that .*, 8.*: 112"),
        (lambda c: c["input"].update(width=112), r"`input.width` must be that .*, 8.*: 112"),
        (lambda c: c["weights"].update(bytes=9), r"net.keras is not the file .* 9 bytes"),
    ],
)
def test_a_card_with_other_figures_than_its_model_is_refused(little_zoo, change, message):
    change_card(little_zoo, change)
    for place in ("tiny", little_zoo):
        with pytest.raises(ValueError, match=message):
            zoo.load_embedder(place)


def test_what_is_written_is_read_again(little_zoo):
    path = little_zoo / "card.json"
    card = dataclasses.replace(zoo.read_card(path), description="größer")
    zoo.write_card(path, card)
    assert zoo.read_card(path) == zoo.load_card("tiny") == card
    assert sorted(each.name for each in little_zoo.iterdir()) == ["card.json", "net.keras"]


# Embedders of one's own.


@pytest.fixture
def own(little_zoo, tmp_path, monkeypatch):
    """The folder of `tiny` with its card, in no zoo."""
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path / "elsewhere")
    return little_zoo


def test_a_folder_with_a_card_is_a_model(own, monkeypatch):
    renamed = own.rename(own.with_name("mine"))
    assert zoo.load_embedder(renamed).output_shape == (None, 2)
    assert zoo.load_embedder(renamed / "card.json").output_shape == (None, 2)
    assert zoo.load_card(renamed) == zoo.load_card(renamed / "net.keras")
    assert zoo.load_card(renamed).name == "tiny"
    monkeypatch.chdir(renamed)
    assert zoo.load_embedder(".").output_shape == (None, 2)
    (renamed / "net.keras").write_bytes(b"other")
    with pytest.raises(ValueError, match="not the file that its card describes"):
        zoo.load_embedder(renamed)


def test_the_card_beside_a_file_must_be_its_own(own):
    shutil.copy(own / "net.keras", own / "other.keras")
    with pytest.raises(ValueError, match=r"card\.json describes net\.keras\. Received: .*other"):
        zoo.load_card(own / "other.keras")
    assert zoo.find_card(own / "other.keras") is None
    assert zoo.find_card(own / "net.keras").name == "tiny"
    with zipfile.ZipFile(own / "net.keras", "a") as archive:
        archive.comment = b"changed"
    with pytest.raises(ValueError, match="is not the file that its card describes"):
        zoo.load_card(own / "net.keras")
    assert zoo.load_embedder(own / "net.keras").output_shape == (None, 2)  # by its file it opens


def test_a_model_without_a_card_says_who_writes_one(own, tmp_path):
    (own / "card.json").unlink()
    for model in (own, own / "net.keras"):
        with pytest.raises(
            FileNotFoundError, match=r"card\.json\. `facemargin calibrate FACES --m"
        ):
            zoo.load_card(model)
    with pytest.raises(FileNotFoundError, match=r"Received: .*tiny, without"):
        zoo.load_embedder(own)


def test_a_card_is_made_for_a_file_of_ones_own(own):
    (own / "card.json").unlink()
    model = zoo.load_embedder(own / "net.keras")
    card = zoo.describe(model, own / "net.keras", "mine")
    zoo.write_card(own / "card.json", card)
    assert zoo.load_card(own) == card
    assert zoo.load_embedder(own).output_shape == (None, 2)
    assert (card.name, card.parameters, card.embedding_dim) == ("tiny", 6, 2)
    assert (card.licence.weights, card.licence.commercial_use) == ("Not stated.", False)
    base = zoo.read_card(CHECKOUT / "zoo" / "spherenet_distilled" / "card.json")
    made = zoo.describe(model, own / "net.keras", "mine", base=base, lineage=("more",))
    assert made.licence == base.licence  # what limits the origin limits what was made of it
    assert made.lineage == (*base.lineage, "more")
    assert made.protocols == {}


def test_thresholds_are_calibrated_over_every_pair_alone_and_with_the_mirror_image():
    rng = np.random.default_rng(0)
    labels = np.arange(60) // 3
    rows = rng.normal(size=(20, 8))[labels] + rng.normal(size=(60, 8))
    found = zoo.calibrate(rows, labels, 0.02, "noise", progress=False)
    for chosen, part in ((found.mirrored, rows), (found.single, rows[:, :4])):
        scores, same = all_pairs(part, labels)
        assert (chosen.genuine_pairs, chosen.impostor_pairs) == (same.sum(), (~same).sum())
        assert np.mean(scores[~same] >= chosen.cosine) <= 0.02
        assert np.mean(scores[~same] >= chosen.cosine - 1e-9) > 0.02
        assert chosen.tar == np.mean(scores[same] >= chosen.cosine)
        assert (chosen.far, chosen.data) == (0.02, "noise")
    assert found.single.cosine > found.mirrored.cosine + 0.05
    with pytest.raises(ValueError, match=r"far=0\.0005, which is not supported by 1,710 impostor"):
        zoo.calibrate(rows, labels, 5e-4, "noise", progress=False)


def test_each_threshold_of_the_zoo_keeps_its_rate(shared_data):
    """On a third of the crops that it was calibrated on."""
    from train_default import split_identities

    _, held_out = split_identities(shared_data / "celeb" / "train", 0)
    paths, people = zip(*held_out[::3], strict=True)
    card = zoo.load_card("spherenet_distilled")
    embedder = zoo.load_embedder("spherenet_distilled")
    mirrored = embed(embedder, paths, progress=False)
    single = embed(embedder, paths, flip=False, progress=False)
    for chosen, rows in ((card.thresholds.mirrored, mirrored), (card.thresholds.single, single)):
        scores, same = all_pairs(rows, people)
        assert np.mean(scores[~same] >= chosen.cosine) == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_an_unknown_name_lists_the_known_ones(little_zoo, load):
    with pytest.raises(ValueError, match=r"zoo: tiny\. Received: 'huge'"):
        load("huge")


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_a_name_cannot_leave_the_zoo(little_zoo, load):
    with pytest.raises(ValueError, match="must be"):
        load("../" + little_zoo.parent.name + "/tiny")  # relative to the zoo; here it is no folder


@pytest.mark.parametrize(
    ("name", "what", "way_out"),
    [
        ("face.onnx", "an ONNX graph", "takes any function from images"),
        ("face.PT", "a PyTorch checkpoint", "takes any function from images"),
        ("face.safetensors", "weights without their network", "takes any function from images"),
        ("face.tflite", "a TFLite file", "the Keras model that it was exported from"),
        ("face.weights.h5", "Keras weights without their network", "load_weights"),
        ("face.h5", "a model in Keras' older HDF5 format", r"load_model\(FILE\)\.save"),
        ("hf://someone/face", "the address of a repository", r"load_model\(ADDRESS\)\.save"),
    ],
)
def test_a_file_of_another_program_is_named_with_the_way_out(name, what, way_out):
    with pytest.raises(ValueError, match=f"Received: '{name}', {what}.*{way_out}"):
        zoo.load_embedder(name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_way_out_of_an_older_file_works(tmp_path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "face.h5")
    keras.saving.load_model(tmp_path / "face.h5").save(tmp_path / "embedder.keras")
    assert zoo.load_embedder(tmp_path / "embedder.keras").output_shape == (None, 3)


def test_an_empty_zoo_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path)
    assert zoo.list_embedders() == []
    with pytest.raises(ValueError, match="the zoo is empty"):
        zoo.load_embedder("tiny")


# Files.


def test_a_zoo_embedder_opens_by_name(little_zoo):
    assert zoo.load_embedder("tiny").output_shape == (None, 2)


def test_other_bytes_than_the_cards_are_not_opened(little_zoo, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", None)  # would fail differently
    file = little_zoo / "net.keras"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the file that its card describes"):
        zoo.load_embedder("tiny")


def test_a_path_opens_ones_own_file(little_zoo):
    assert zoo.load_embedder(little_zoo / "net.keras").output_shape == (None, 2)
    assert zoo.load_embedder(str(little_zoo / "net.keras")).output_shape == (None, 2)


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


@pytest.mark.parametrize("switch", [None, False])
def test_a_file_with_pickled_code_is_refused_whatever_keras_was_told(tmp_path, switch, monkeypatch):
    ran = tmp_path / "ran"
    monkeypatch.setenv("RAN", str(ran))
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    hostile = keras.layers.Lambda(
        lambda x: __import__("pathlib").Path(__import__("os").environ["RAN"]).touch() or x
    )
    keras.Model(image, hostile(pooled)).save(tmp_path / "code.keras")
    ran.unlink()  # saving built it
    before = serialization_lib.in_safe_mode()
    try:
        if switch is False:
            keras.config.enable_unsafe_deserialization()
        with pytest.raises(ValueError, match=r"code\.keras .* no Python code .* is run.*Lambda"):
            zoo.load_embedder(tmp_path / "code.keras")
        assert serialization_lib.in_safe_mode() is (switch if switch is False else before)
    finally:
        global_state.set_global_attribute("safe_mode_saving", before)
    assert not ran.exists()
