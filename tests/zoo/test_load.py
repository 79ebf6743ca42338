"""Embedders open by name, folder and file, and only if they are what their card says."""

import shutil
import zipfile

import keras
import pytest
from keras.src.backend.common import global_state
from keras.src.saving import serialization_lib
from small_zoo import CARD

from keras_facemargin import zoo

pytestmark = pytest.mark.any_backend


def other_crop(card, **sides):
    return card.input.model_copy(update={"crop": card.input.crop.model_copy(update=sides)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"parameters": 7}, r"`parameters` must be that .* net.keras, 6.*: 7"),
        (lambda c: {"embedding_dim": 128}, r"`embedding_dim` must be that .*, 2.*: 128"),
        (lambda c: {"input": other_crop(c, height=112)}, r"`input.crop.height` must .* 8.*: 112"),
        (lambda c: {"input": other_crop(c, width=112)}, r"`input.crop.width` must .* 8.*: 112"),
        (
            lambda c: {"weights": c.weights.model_copy(update={"bytes": 9})},
            r"net.keras is not the file .* 9 bytes",
        ),
    ],
)
def test_a_card_with_other_figures_than_its_model_is_refused(little_zoo, change, message):
    card = zoo.load_card("tiny")
    zoo.write_card(little_zoo / "card.json", card.changed(**change(card)))
    for place in ("tiny", little_zoo):
        with pytest.raises(ValueError, match=message):
            zoo.load_embedder(place)


# Your own embedders.


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
    assert (card.license, card.commercial_use) == ((), False)
    made = zoo.describe(model, own / "net.keras", "mine", base=CARD, lineage=("more",))
    assert made.license[:-1] == CARD.license  # limits of the origin remain
    assert (made.license[-1].part, made.license[-1].commercial) == ("data", None)
    assert made.lineage == (*CARD.lineage, "more")
    assert made.measured == ()


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
