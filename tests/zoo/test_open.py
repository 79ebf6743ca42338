"""`open_embedder`: files as they are, Keras models and functions behind one interface."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image
from processes import finish, start
from tiny import tiny_embedder

from keras_facemargin import zoo
from keras_facemargin.evaluate import embed
from keras_facemargin.export import export_embedder
from keras_facemargin.images import Crop, synthesize_faces
from keras_facemargin.runtime import Pixels

FACES, _ = synthesize_faces(32, 2)
PUBLISHED = {
    "foamliu_MobileFaceNet.onnx": "mobilefacenet_foamliu_onnx",
    "visassist_mobilefacenet.tflite": "mobilefacenet_visassist",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An embedder, and files that the export made of it: precision -> path."""
    folder, embedder = tmp_path_factory.mktemp("exported"), tiny_embedder()
    files = {"onnx": folder / "face.onnx"}
    export_embedder(embedder, files["onnx"])
    for precision in ("float32", "int8"):
        files[precision] = folder / f"{precision}.tflite"
        export_embedder(embedder, files[precision], precision=precision, images=FACES)
    return embedder, files


@pytest.fixture
def unknown(exported, tmp_path):
    """A file without a card and without an entry on its input."""
    model = onnx.load(exported[1]["onnx"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "unknown.onnx")
    return tmp_path / "unknown.onnx"


def cosines(first, second):
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second))
    return (first * second).sum(axis=1)


@pytest.mark.parametrize(
    ("form", "least"), [("onnx", 0.99999), ("float32", 0.99999), ("int8", 0.95)]
)
def test_an_exported_file_needs_no_words_about_its_input(exported, form, least):
    embedder, files = exported
    opened = zoo.open_embedder(files[form])
    assert (opened.crop, opened.pixels, opened.card) == (Crop(112, 112), Pixels(), None)
    assert opened.embedding_dim == 24
    expected = embedder.predict(FACES.astype("float32"), verbose=0)
    assert cosines(opened(FACES), expected).min() > least
    both = opened(FACES[:3], mirrored=True)
    np.testing.assert_array_equal(both[:, :24], opened(FACES[:3]))
    np.testing.assert_array_equal(both[:, 24:], opened(FACES[:3, :, ::-1]))
    np.testing.assert_array_equal(embed(opened, FACES[:3], progress=False), both)
    with pytest.raises(ValueError, match=r"which states 112x112 and raw\. Leave"):
        zoo.open_embedder(files[form], crop=112, pixels="raw")


def test_the_input_of_an_unknown_file_is_never_guessed(unknown):
    for named, missing in (({}, "crop and pixels"), ({"crop": 112}, "pixels")):
        with pytest.raises(ValueError, match=rf"must be named.*without {missing}\."):
            zoo.open_embedder(unknown, **named)
    with pytest.raises(ValueError, match="takes, 112x112"):
        zoo.open_embedder(unknown, crop=150, pixels="raw")
    opened = zoo.open_embedder(unknown, crop=112, pixels="raw", threads=1)
    assert opened.thresholds is None
    assert opened.name == "unknown.onnx"


def test_the_id_binds_weights_crop_pixels_and_mirroring(unknown, exported):
    def id_of(file, pixels, **kind):
        return zoo.open_embedder(file, crop=112, pixels=pixels).id_of(**kind)

    ids = [
        id_of(unknown, "raw"),
        id_of(unknown, "raw", mirrored=True),
        id_of(unknown, "minus1..1"),
        id_of(unknown, "BGR raw"),
        zoo.open_embedder(exported[1]["onnx"]).embedding_id,
    ]
    assert len({*ids}) == len(ids)
    assert id_of(unknown, "(x/255-0.5)/0.5") == ids[2]
    card = zoo.open_embedder(unknown, crop=112, pixels="raw").to_card()
    assert card.embedding_id == ids[0]


def test_a_card_makes_a_folder_that_every_door_takes(unknown, tmp_path):
    opened = zoo.open_embedder(unknown, crop=112, pixels="raw")
    card = zoo.copy_weights(opened.to_card(), unknown, tmp_path / "mine")
    zoo.write_card(tmp_path / "mine" / zoo.CARD, card)
    again = zoo.open_embedder(tmp_path / "mine")
    assert again.card == card
    assert again.embedding_id == opened.embedding_id
    with pytest.raises(ValueError, match=r"whose input is known\. Leave"):
        zoo.open_embedder(tmp_path / "mine", crop=112, pixels="raw")


def test_keras_models_and_functions_are_embedders_too(tmp_path):
    model = tiny_embedder((112, 96))
    model.save(tmp_path / "tiny.keras")
    expected = model.predict(synthesize_faces(2, 2, size=(112, 96))[0], verbose=0)
    of_file, of_model = zoo.open_embedder(tmp_path / "tiny.keras"), zoo.open_embedder(model)
    for opened in (of_file, of_model):
        assert opened.crop == Crop(112, 96, "sphereface")
        found = opened(synthesize_faces(2, 2, size=(112, 96))[0])
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert of_file.embedding_id is not None
    assert of_model.embedding_id is None
    with pytest.raises(ValueError, match="card describes a file"):
        of_model.to_card()

    means = zoo.open_embedder(lambda images: images.mean(axis=(1, 2)), crop=8, pixels="x/255")
    assert means(np.full((70, 8, 8, 3), 255, "uint8")).tolist() == [[1.0] * 3] * 70
    with pytest.raises(ValueError, match=r"\(N, 8, 8, 3\)\. Received: shape \(1, 9, 9, 3\)"):
        means(np.zeros((1, 9, 9, 3)))
    with pytest.raises(ValueError, match=r"\(B, D\), here B = 1\. Received: shape \(1,\)"):
        zoo.open_embedder(lambda images: images.mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_gives_the_golden_embedding_as_it_is(shared_data, name):
    from keras_facemargin.zoo.parity import cosine, golden_crop

    opened = zoo.open_embedder(shared_data / "weights" / name)
    card = zoo.load_card(PUBLISHED[name])
    assert opened.card == card
    assert opened.embedding_id == card.embedding_id
    found = opened(golden_crop(card.golden.crop, card.crop)[None])[0]
    assert cosine(found, card.golden.embedding) > 0.999999


COMMAND = """
import json, sys
sys.argv[0] = "facemargin"
from keras_facemargin.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_embed_verify_and_all_pairs_run_a_file_without_keras(exported, tmp_path):
    from keras_facemargin.images import write_synthetic_faces

    write_synthetic_faces(tmp_path / "faces", 8, 2)
    photos = []
    for crop in sorted((tmp_path / "faces" / "person_000").iterdir()):
        photo = Image.new("RGB", (300, 300), "grey")
        photo.paste(Image.open(crop).resize((168, 168)), (60, 60))
        photos.append(tmp_path / f"{crop.stem}.png")
        photo.save(photos[-1])
    file, saved = exported[1]["float32"], tmp_path / "e.npz"
    commands = [
        ("verify", *photos, "--model", exported[1]["onnx"], "--threshold", "-1"),
        ("embed", tmp_path / "faces", "--model", file, "--output", saved),
        ("evaluate", "all-pairs", tmp_path / "faces", "-m", file, "-o", tmp_path / "out"),
    ]
    for code, out, error in finish(*(start("-c", COMMAND, *command) for command in commands)):
        assert code == 0, error
        assert not {"keras", "tensorflow"} & {*json.loads(out.splitlines()[-1])}
    with np.load(saved) as arrays:
        id = zoo.open_embedder(file).id_of(mirrored=True)
        assert str(arrays["embedding_id"]) == id
        assert str(arrays["model"]) == "float32.tflite"
        assert arrays["embeddings"].shape == (16, 48)
