"""Images to embeddings: order, flip, one batch shape, and clear refusals."""

import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin.evaluate import embed
from keras_facemargin.images import synthesize_faces

pytestmark = pytest.mark.any_backend

# The function takes its module's name in the package.
MODULE = sys.modules["keras_facemargin.evaluate.embedding"]


def images(count, size=112):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def corners(batch):
    """A tiny embedder that distinguishes left from right: (B, H, W, 3) -> (B, 6)."""
    return np.concatenate([batch[:, 0, 0], batch[:, 0, -1]], axis=1)


@pytest.fixture
def folder(tmp_path):
    faces = images(7)
    for index, face in enumerate(faces):
        Image.fromarray(face).save(tmp_path / f"{index}.png")
    return [tmp_path / f"{index}.png" for index in range(7)], faces


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64])
def test_files_and_arrays_give_the_same_rows_in_order(folder, batch_size):
    paths, faces = folder
    from_files = embed(corners, paths, batch_size=batch_size, progress=False)
    from_array = embed(corners, faces, batch_size=batch_size, progress=False)
    np.testing.assert_array_equal(from_files, from_array)
    mirrored = faces[:, :, ::-1]
    expected = np.concatenate([corners(faces), corners(mirrored)], axis=1)
    np.testing.assert_array_equal(from_files, expected)
    assert from_files.dtype == np.float32


def test_names_may_be_strings_and_flip_may_be_off(folder):
    paths, faces = folder
    rows = embed(corners, [str(path) for path in paths], flip=False, progress=False)
    np.testing.assert_array_equal(rows, corners(faces))


def test_every_batch_has_one_shape():
    shapes = set()

    def spy(batch):
        shapes.add((batch.shape, batch.dtype.name))
        return corners(batch)

    embed(spy, images(10, size=8), batch_size=4, progress=False)
    assert shapes == {((4, 8, 8, 3), "float32")}


def test_a_keras_model_reads_files_at_its_own_size(folder):
    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.AveragePooling2D(8)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(pooled)))
    paths, _ = folder
    small = np.stack([np.asarray(Image.open(p).resize((16, 16), Image.LANCZOS)) for p in paths])
    with pytest.warns(UserWarning, match=r"resized to 16x16 .*0\.png \(112x112\).*resemble"):
        rows = embed(model, paths, batch_size=3, progress=False)  # noise, no faces
    whole = model.predict_on_batch(small.astype("float32"))
    assert rows.shape == (7, 8)
    np.testing.assert_allclose(rows[:, :4], whole, rtol=1e-4, atol=1e-3)


def test_photos_are_embedded_with_a_warning_and_larger_crops_without(tmp_path):
    faces = synthesize_faces(14, 1)[0]
    crops, photos = [], []
    for index, face in enumerate(faces):
        crops.append(tmp_path / f"crop{index}.png")
        Image.fromarray(face).resize((224, 224)).save(crops[-1])
        photo = Image.new("RGB", (250, 250), "grey")
        photo.paste(Image.fromarray(face), (90, 40))
        photos.append(tmp_path / f"photo{index}.png")
        photo.save(photos[-1])
    for count in (14, 2):
        embed(corners, crops[:count], progress=False)
        with pytest.warns(UserWarning, match=r"photo0\.png \(250x250\).*facemargin align"):
            embed(corners, photos[:count], progress=False)


def test_an_embedding_that_is_not_finite_is_named(folder):
    paths, faces = folder
    victim = corners(faces)[4]

    def broken(batch):
        rows = corners(batch).astype("float64")
        rows[(rows == victim).all(axis=1)] = np.nan
        return rows

    with pytest.raises(ValueError, match=r"not finite.*4\.png"):
        embed(broken, paths, batch_size=3, progress=False)
    with pytest.raises(ValueError, match=r"not finite.*for image 4"):
        embed(broken, faces, batch_size=3, progress=False)


def test_a_file_that_is_no_face_crop_is_named(folder):
    paths, _ = folder
    paths[5].write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"5\.png"):
        embed(corners, paths, batch_size=2, progress=False)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((0, 8, 8, 3)), "at least one image"),
        (np.zeros((2, 8, 8)), r"Received: shape \(2, 8, 8\)"),
        (np.zeros((2, 8, 8, 4)), r"Received: shape \(2, 8, 8, 4\)"),
        (np.full((2, 8, 8, 3), -1), "values from -1 to -1"),
        (np.full((2, 8, 8, 3), np.nan), "values from nan"),
        (np.full((2, 8, 8, 3), 0.5), "look scaled to 0..1"),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        embed(corners, pixels, progress=False)


def test_progress_goes_to_standard_error(capsys):
    embed(corners, images(3, size=8))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err


FACES = np.full((3, 8, 8, 3), 100, "uint8")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: embed(mean, FACES, batch_size=0), "`batch_size` must be .*: batch_size=0"),
        (lambda: embed(mean, FACES, batch_size=1.5), "Received: batch_size=1.5"),
        (lambda: embed(mean, "a.jpg"), "one file, a.jpg. Put it in a list"),
        (lambda: embed(mean, list(FACES)), r"a list of arrays. Pass np.stack\(images\)"),
        (lambda: embed(mean, FACES * 1j), "must hold real numbers.*complex128"),
        (lambda: embed(mean, FACES.astype(object)), "must hold real numbers.*object"),
        (lambda: embed(mean, FACES > 0), "which look scaled to 0..1"),
        (lambda: embed(mean, FACES / 100), "which look scaled to 0..1"),
        (lambda: embed(mean, FACES * np.int64(3)), "values from 300 to 300"),
        # Of one row for all images NumPy fills one row and leaves the others as memory was.
        (lambda: embed(lambda x: mean(x)[:1], FACES), r"here B = 3. Received: shape \(1, 3"),
        (lambda: embed(lambda x: x, FACES), r"Received: shape \(3, 8, 8, 3\)"),
        (lambda: embed(lambda x: x[:, 0, 0, 0], FACES), r"Received: shape \(3,\)"),
        (lambda: embed(lambda x: [mean(x), mean(x)], FACES), "Received: list of 2"),
        (lambda: embed(lambda x: mean(x).astype("uint8"), FACES), "of type uint8. Dequantise it"),
        (lambda: embed(lambda x: mean(x) * 1j, FACES), "must hold real numbers"),
        (lambda: embed(widening(), FACES, batch_size=1), "one width. Received: widths 6 and 8"),
    ],
)
def test_what_is_not_pixels_or_embeddings_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def mean(batch):
    return batch.mean(axis=(1, 2))


def widening():
    """An embedder whose embeddings grow."""
    calls = []

    def grow(batch):
        calls.append(1)
        return np.ones((len(batch), 3 + (len(calls) - 1) // 2), "float32")

    return grow


def test_a_tensor_is_an_array():
    keras = pytest.importorskip("keras")
    rows = embed(mean, keras.ops.convert_to_tensor(FACES), progress=False)
    np.testing.assert_array_equal(rows, embed(mean, FACES, progress=False))
