"""Golden crops, and the proof of a conversion."""

import hashlib

import keras
import numpy as np
import pytest
from published_files import ARCFACE, card_of

from keras_facemargin.images.crop import Crop
from keras_facemargin.images.synthetic import synthesize_faces
from keras_facemargin.zoo import list_embedders, load_card, parity
from keras_facemargin.zoo.parity import Unproven, cosine, embed_crop, golden_crop, place, prove

GOLDEN_DIGEST = "ef05edeb69131f5fab5dd016d946af08186136a272ce9eca2be9400e9668236d"


def embedder(scale=1.0, size=112):
    """An embedder of 3 numbers: mean colours of three places."""
    image = keras.Input((size, size, 3))
    pooled = keras.layers.AveragePooling2D(size // 4)(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(pooled)))
    rng = np.random.default_rng(0)
    model.set_weights([scale * rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def golden(embedding, crop="synthetic-1"):
    return {"crop": crop, "runtime": "a test", "embedding": [float(each) for each in embedding]}


def test_the_golden_crop_never_changes():
    """Cards hold embeddings of it: other pixels would refuse every published file."""
    pixels = golden_crop("synthetic-1", Crop.of(112))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == GOLDEN_DIGEST
    np.testing.assert_array_equal(pixels, synthesize_faces(1, 1, seed=1)[0][0])


def test_a_narrow_crop_is_the_middle_of_the_wide_one():
    wide = golden_crop("synthetic-1", Crop.of(112))
    narrow = golden_crop("synthetic-1", Crop(112, 96, "sphereface"))
    np.testing.assert_array_equal(narrow, wide[:, 8:104])


@pytest.mark.parametrize("crop", [Crop(150, 150, "dlib"), Crop(160, 160, None), Crop(60, 80, None)])
def test_a_face_fills_crops_of_other_templates(crop):
    placed = place(np.full((112, 112, 3), 200, "uint8"), crop)
    assert placed.shape == (*crop.shape, 3)
    assert np.abs(placed.astype(int) - 200).max() <= 1  # edges are repeated, nothing is black


def test_an_unknown_golden_crop_is_refused():
    with pytest.raises(ValueError, match=r"Received: 'photo'\. A newer version"):
        golden_crop("photo", Crop.of(112))


def test_cosine_is_of_vectors_of_any_length():
    assert cosine([3, 4], [30, 40]) == pytest.approx(1)
    assert cosine([1, 0], [0, -2]) == 0


def test_a_conversion_with_the_golden_embedding_is_proven_at_any_length(tmp_path):
    model = embedder()
    wanted = embed_crop(model, golden_crop("synthetic-1", Crop.of(112)))
    prove(model, card_of("onnx", 3, None, golden=golden(5 * wanted)), tmp_path / "a.onnx")


def test_a_small_deviation_is_refused(tmp_path):
    model = embedder()
    wanted = embed_crop(model, golden_crop("synthetic-1", Crop.of(112)))
    axis = np.linalg.svd(wanted[None])[2][1]  # across it
    wrong = wanted + 0.02 * np.linalg.norm(wanted) * axis
    with pytest.raises(ValueError, match=r"a cosine of at least 0\.9999 .* Received: 0\.9998") as e:
        prove(model, card_of("onnx", 3, None, golden=golden(wrong)), tmp_path / "a.onnx")
    assert not isinstance(e.value, Unproven)


def test_an_embedding_that_is_not_a_number_is_refused(tmp_path):
    model = embedder(scale=0.0)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="Received: nan"):
        prove(model, card_of("onnx", 3, None, golden=golden([1, 2, 3])), tmp_path / "a.onnx")


def test_without_a_golden_embedding_the_file_is_run(tmp_path, monkeypatch):
    model, card = embedder(), card_of("onnx", 3, None)
    ran = []
    right = lambda path, card, crop: ran.append(path) or embed_crop(model, crop)  # noqa: E731
    monkeypatch.setattr(parity, "run_original", right)
    prove(model, card, tmp_path / "a.onnx")
    assert ran == [tmp_path / "a.onnx"]


def test_without_a_runtime_either_nothing_is_proven(tmp_path):
    card = card_of("iresnet_insightface", 3, None, crop=ARCFACE)
    with pytest.raises(Unproven, match="must be proven"):
        prove(embedder(), card, tmp_path / "a.pth")


@pytest.mark.parametrize("name", list_embedders())
def test_golden_embeddings_in_the_zoo_are_of_a_known_crop_and_runtime(name):
    card = load_card(name)
    if card.golden is None:
        assert not card.measured  # the file was here
        return
    assert golden_crop(card.golden.crop, card.crop).shape == (*card.crop.shape, 3)
    assert card.golden.runtime
    assert np.linalg.norm(card.golden.embedding) > 0.1
    assert card.parameters
