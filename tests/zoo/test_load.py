"""Embedders open by name, folder and file, and only if they are what their card says."""

import shutil
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from inference import infer
from keras.src.backend.common import global_state
from keras.src.saving import serialization_lib
from small_zoo import CARD, tiny_card

from keras_facemargin import zoo
from keras_facemargin.download import FetchError
from keras_facemargin.zoo import sources
from keras_facemargin.zoo.parts import FolderSource, LicenseEntry, OwnSource

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


def test_the_error_of_a_missing_card_names_the_command_that_writes_one(own, tmp_path):
    (own / "card.json").unlink()
    for model in (own, own / "net.keras"):
        with pytest.raises(
            FileNotFoundError, match=r"card\.json\. `facemargin calibrate FACES --m"
        ):
            zoo.load_card(model)
    with pytest.raises(FileNotFoundError, match=r"Received: .*tiny, without"):
        zoo.load_embedder(own)


def test_a_card_is_made_for_your_own_file(own):
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
def test_an_unknown_name_is_refused_with_the_nearest_one(little_zoo, load):
    with pytest.raises(ValueError, match=r"Received: 'tinny'. Did you mean 'tiny'"):
        load("tinny")
    with pytest.raises(ValueError, match=r"Received: 'huge'. `facemargin zoo` lists the names"):
        load("huge")


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_a_missing_file_is_refused_as_one(little_zoo, load):
    with pytest.raises(FileNotFoundError, match=r"does not exist. Received: huge.onnx"):
        load("huge.onnx")


@pytest.mark.parametrize("load", [zoo.load_card, zoo.load_embedder])
def test_a_name_cannot_leave_the_zoo(little_zoo, load):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(f"../{little_zoo.parent.name}/tiny")  # there is such a folder beside the zoo


@pytest.mark.parametrize(
    ("name", "what", "way_out"),
    [
        ("face.onnx", "an ONNX graph", "runs it as it is"),
        ("face.PT", "a PyTorch checkpoint", "takes any function from images"),
        ("face.safetensors", "weights without their network", "takes any function from images"),
        ("face.tflite", "a TFLite file", "runs it as it is"),
        ("face.weights.h5", "Keras weights without their network", "load_weights"),
        ("face.h5", "a model in Keras' older HDF5 format", r"load_model\(FILE\)\.save"),
        ("face.dat", "a dlib model", "takes any function from images"),
        ("face.bin", "a file", "takes any function from images"),
    ],
)
def test_a_file_that_no_card_describes_is_named_with_the_way_out(
    tmp_path, monkeypatch, name, what, way_out
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"unknown")
    digest = zoo.digest_of(name)
    message = f"Received: '{name}', {what} with the SHA-256 {digest}, which is not.*{way_out}"
    with pytest.raises(ValueError, match=message):
        zoo.load_embedder(name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_way_out_of_an_older_file_works(tmp_path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "face.h5")
    keras.saving.load_model(tmp_path / "face.h5").save(tmp_path / "embedder.keras")
    assert zoo.load_embedder(tmp_path / "embedder.keras").output_shape == (None, 3)


def test_an_empty_zoo_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.catalogue, "DIRECTORY", tmp_path)
    assert zoo.list_embedders() == []
    with pytest.raises(ValueError, match="The zoo is empty"):
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


def test_a_path_opens_your_own_file(little_zoo):
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


def test_a_model_that_is_not_an_embedder_is_refused(tmp_path):
    vector = keras.Input((4,))
    keras.Model(vector, keras.layers.Dense(2)(vector)).save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match=r"must hold an embedder.*from \(None, 4\) to \(None, 2\)"):
        zoo.load_embedder(tmp_path / "dense.keras")


@pytest.mark.parametrize("switch", [None, False])
def test_a_file_with_pickled_code_is_refused_whatever_keras_allows(tmp_path, switch, monkeypatch):
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
        with pytest.raises(
            ValueError, match=r"code\.keras .* Python code inside a file is never .*run.*Lambda"
        ):
            zoo.load_embedder(tmp_path / "code.keras")
        assert serialization_lib.in_safe_mode() is (switch if switch is False else before)
    finally:
        global_state.set_global_attribute("safe_mode_saving", before)
    assert not ran.exists()


# Published files: recognised, converted once, proven.


@pytest.fixture
def published(little_zoo, tmp_path, monkeypatch):
    """The card `tiny` for a file of another format, with a converter; returns that file."""
    monkeypatch.setenv("FACEMARGIN_HOME", str(tmp_path / "cache"))
    file = little_zoo.parent / "downloaded.onnx"
    (little_zoo / "net.keras").rename(file)
    card = tiny_card(
        file,
        weights=zoo.Weights(file="net.onnx", bytes=file.stat().st_size, sha256=zoo.digest_of(file)),
        sources=(OwnSource(kind="own", instructions="its page"),),
        converter="copy",
    )
    zoo.write_card(little_zoo / "card.json", card)
    return file


@pytest.fixture
def converter(monkeypatch):
    """A converter that opens the file as a Keras model; records its calls and its verdict."""
    record = types.SimpleNamespace(calls=[], error=None)

    def convert(file, card):
        record.calls.append((file.name, card.converter))
        return keras.saving.load_model(shutil.copy(file, file.with_suffix(".keras")))

    def prove(embedder, card, file):
        if record.error is not None:
            raise record.error

    class Unproven(ValueError):
        pass

    record.Unproven = Unproven
    for name, parts in (
        ("convert", {"convert": convert, "VERSION": 1}),
        ("parity", {"prove": prove, "Unproven": Unproven}),
    ):
        module = types.ModuleType(name)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, f"keras_facemargin.zoo.{name}", module)
    return record


def test_a_published_file_is_recognised_by_its_digest_and_converted_once(published, converter):
    assert zoo.load_card(published).name == "tiny"
    first = zoo.load_embedder(published)
    assert first.output_shape == (None, 2)
    assert converter.calls == [("downloaded.onnx", "copy")]
    again = zoo.load_embedder("tiny", weights=published)
    assert len(converter.calls) == 1
    image = np.ones((1, 8, 8, 3), "float32")
    assert np.array_equal(infer(first, image), infer(again, image))
    (kept,) = Path(sources.cache_folder(), "converted").glob("*/embedder.keras")
    assert keras.saving.load_model(kept).output_shape == (None, 2)  # Keras alone opens it
    assert zoo.load_card(kept.parent).id_of() != zoo.load_card("tiny").id_of()
    kept.write_bytes(b"damaged")
    assert zoo.load_embedder(published).output_shape == (None, 2)
    assert len(converter.calls) == 2


def test_a_missing_published_file_is_requested(published, converter):
    with pytest.raises(FetchError, match=r"your own copy \(its page\): pass the path"):
        zoo.load_embedder("tiny")
    published.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"is not net\.onnx of tiny: its SHA-256 must be"):
        zoo.load_embedder("tiny", weights=published)


def test_a_conversion_that_is_wrong_or_not_proven_is_refused(published, converter):
    converter.error = ValueError("the cosine is 0.5")
    for allow in (False, True):
        with pytest.raises(ValueError, match=r"the cosine is 0\.5"):
            zoo.load_embedder(published, allow_unproven=allow)
    converter.error = converter.Unproven("no runtime")
    with pytest.raises(ValueError, match="no runtime"):
        zoo.load_embedder(published)
    with pytest.warns(UserWarning, match=r"tiny is opened without a proof\. no runtime"):
        assert zoo.load_embedder(published, allow_unproven=True).output_shape == (None, 2)
    assert not list(sources.cache_folder().glob("converted/*/embedder.keras"))


def test_a_folder_with_a_published_file_and_its_card_is_a_model(published, converter, tmp_path):
    folder = tmp_path / "elsewhere" / "fetched"
    folder.mkdir(parents=True)
    shutil.copy(published, folder / "net.onnx")
    card = zoo.load_card("tiny").changed(name="mine", sources=(FolderSource(kind="folder"),))
    zoo.write_card(folder / "card.json", card)
    assert zoo.load_embedder(folder).output_shape == (None, 2)
    assert zoo.load_card(folder / "net.onnx").name == "mine"


# Addresses.


@pytest.fixture
def hub(own, server, monkeypatch, tmp_path):
    """`tiny` as a repository `owner/tiny` on the hub, and at an address; returns the server."""
    monkeypatch.setenv("FACEMARGIN_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("FACEMARGIN_MIRROR", server.url)
    for base in ("/owner/tiny/resolve/main", "/owner/tiny/resolve/v1", "/host.example/tiny"):
        for file in own.iterdir():
            server.files[f"{base}/{file.name}"] = file.read_bytes()
    server.content = b"<html>no such page</html>"
    return server


@pytest.mark.parametrize(
    "address",
    [
        "hf://owner/tiny",
        "hf://owner/tiny@v1",
        "https://host.example/tiny",
        "https://host.example/tiny/",
        "https://host.example/tiny/card.json",
    ],
)
def test_a_card_at_an_address_is_a_model(hub, address, monkeypatch):
    if "host.example" in address:  # the weights come from the address itself, not its mirror
        base = "https://host.example/tiny"
        monkeypatch.setattr(zoo.catalogue, "mirrored", lambda url: (url,))
        monkeypatch.setattr(
            zoo.catalogue, "read_address", lambda url, most: hub.files[url.removeprefix("https:/")]
        )
        assert base in address
    assert zoo.load_embedder(address).output_shape == (None, 2)
    assert zoo.load_card(address).name == "tiny"
    monkeypatch.setenv("FACEMARGIN_OFFLINE", "1")
    assert zoo.load_embedder(address).output_shape == (None, 2)


def test_an_address_without_a_card_is_refused(hub, monkeypatch):
    with pytest.raises(ValueError, match="Expecting value"):
        zoo.load_embedder("hf://owner/other")
    with pytest.raises(ValueError, match=r"must be hf://OWNER/NAME.*Received: 'hf://owner'"):
        zoo.load_embedder("hf://owner")
    with pytest.raises(ValueError, match=r"must begin with hf:// or https://\. Received: 'http://"):
        zoo.load_embedder("http://host.example/tiny")
    with pytest.raises(ValueError, match=r"only if its SHA-256 is on a card of the zoo.*x\.onnx"):
        zoo.load_embedder("https://host.example/x.onnx")
    monkeypatch.setenv("FACEMARGIN_OFFLINE", "1")
    with pytest.raises(FetchError, match="The card is not in the cache, and FACEMARGIN_OFFLINE"):
        zoo.load_embedder("hf://owner/tiny@v1")


def test_a_published_file_at_an_address_is_downloaded_by_its_digest(
    published, converter, server, monkeypatch
):
    monkeypatch.setenv("FACEMARGIN_MIRROR", server.url)
    server.files["/host.example/net.onnx"] = published.read_bytes()
    assert zoo.load_embedder("https://host.example/net.onnx").output_shape == (None, 2)
    assert len(server.requests) == 1


# Commercial use.


def test_commercial_use_is_refused_with_the_ledgers_reason(little_zoo):
    reason = r"licence ledger of tiny does not clear.*CelebA and PubFig.*non-commercial research"
    with pytest.raises(ValueError, match=reason):
        zoo.load_embedder("tiny", commercial=True)
    assert zoo.list_embedders(commercial=True) == []
    assert zoo.list_embedders(commercial=False) == ["tiny"]
    cleared = tuple(
        LicenseEntry(part=part, of="it", license="CC0-1.0", stated_by="x", commercial=True)
        for part in ("weights", "code", "data")
    )
    card = zoo.load_card("tiny").changed(license=cleared)
    zoo.write_card(little_zoo / "card.json", card)
    assert zoo.load_embedder("tiny", commercial=True).output_shape == (None, 2)
    assert zoo.list_embedders("t?ny", commercial=True) == ["tiny"]
    assert zoo.list_embedders("*mobile*") == []


def test_a_file_without_a_card_is_not_cleared(own):
    (own / "card.json").unlink()
    assert zoo.load_embedder(own / "net.keras").output_shape == (None, 2)
    with pytest.raises(FileNotFoundError, match="without"):
        zoo.load_embedder(own / "net.keras", commercial=True)
