"""SphereFace's 112x96, dlib's 150x150 and FaceNet's 160x160 crops: every command, end to end."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from one_sentence import assert_one_sentence
from PIL import Image
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder, FaceRecords, FaceTFRecords
from keras_facemargin.evaluate import embed
from keras_facemargin.images import Crop, align_face, read_face, synthesize_faces
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.zoo import load_card

CROPS = [
    Crop.of((112, 96)),
    Crop.of(150),
    # Another size of a square crop, as 150x150 is.
    pytest.param(Crop.of(160), marks=pytest.mark.slow),
]


# One crop that is not square; the tests of `align`, `embed` and `verify` read squares of another
# template too.
one_shape = pytest.mark.parametrize(
    "crop",
    [CROPS[0], pytest.param(CROPS[1], marks=pytest.mark.slow), CROPS[2]],
    indirect=True,
    ids=str,
)


@pytest.fixture(scope="module", params=CROPS, ids=str)
def crop(request):
    return request.param


@pytest.fixture(scope="module")
def sized(crop, tmp_path_factory):
    """Folder with an embedder of one crop size, and faces of that size."""
    folder = tmp_path_factory.mktemp(str(crop))
    tiny_embedder(crop).save(folder / "tiny.keras")
    write_synthetic_faces(folder / "faces", 8, 8, image_size=crop)
    return folder


def test_align_cuts_crops_that_the_embedder_takes(facemargin, sized, crop):
    Path("photos").mkdir()
    points = 1.7 * Crop.of().points + 20
    for index, face in enumerate(synthesize_faces(12, 1)[0]):
        photo = np.array(Image.fromarray(face).resize((190, 190)))
        photo = np.pad(photo, ((20, 40), (20, 40), (0, 0)))
        Image.fromarray(photo).save(f"photos/{index}.png")
    rows = [",".join([f"{index}.png", *map(str, points.ravel())]) for index in range(12)]
    header = "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"
    Path("points.csv").write_text("\n".join([header, *rows]) + "\n")
    size = crop.height if crop.height == crop.width else crop
    command = ("align", "photos", "crops", "--landmarks", "points.csv", "--size", size)
    assert facemargin(*command)[0] == 0
    made = sorted(Path("crops").glob("*.jpg"))
    photo = np.array(Image.open("photos/0.png"))
    difference = read_face(made[0], crop).astype(float) - align_face(photo, points, crop)
    assert len(made) == 12 and np.abs(difference).mean() < 2
    code, out, _ = facemargin("align", "crops", "--check", "--size", size)
    assert code == 0 and "aligned to the template" in out
    code, out, error = facemargin("embed", "crops", "-m", sized / "tiny.keras")
    assert code == 0 and "Warning" not in error


def test_embed_and_verify_read_crops_without_a_change(facemargin, sized, crop):
    model, faces = sized / "tiny.keras", sized / "faces"
    code, _, error = facemargin("embed", faces, "-m", model)
    assert code == 0 and "Warning" not in error
    paths = sorted(faces.rglob("*.jpg"))
    images = np.stack([np.array(Image.open(path)) for path in paths])
    assert images.shape == (64, *crop.shape, 3)
    expected = embed(keras.saving.load_model(model), images, progress=False)
    np.testing.assert_allclose(np.load("embeddings.npz")["embeddings"], expected, atol=1e-4)
    pair = ("verify", paths[0], paths[1], "--aligned", "-m", model, "--threshold", -1)
    code, out, _ = facemargin(*pair)
    assert code == 0 and "same" in out
    square = write_synthetic_faces("square", 2, 1)
    verdict = facemargin("verify", *square, "--aligned", "-m", model, "--threshold", 0)
    assert_one_sentence(verdict, f"aligned crop has {crop}", "of 112x112", expected_code=64)


@one_shape
def test_sets_of_crops_train_and_their_containers_agree(facemargin, sized, crop):
    faces = FaceFolder(sized / "faces", image_size=crop.size)
    assert faces.crop == crop and faces.image_size == crop.size
    expected = np.stack([np.array(Image.open(path)) for path in faces.paths])
    for kind, name in ((FaceRecords, "a.rec"), (FaceTFRecords, "a.tfrecord")):
        assert facemargin("pack", sized / "faces", name, "--size", crop)[0] == 0
        packed = kind(name, image_size=crop.size)
        assert len(packed) == 64 and not packed.skipped
        images = np.concatenate([images.numpy() for images, _ in packed.dataset(16)])
        np.testing.assert_array_equal(images, expected)
    for batches in (faces.dataset(16, training=True), faces.py_dataset(16, training=True)):
        images, _ = next(iter(batches))
        assert images.shape == (16, *crop.shape, 3)


@one_shape
def test_finetune_calibrate_and_export_keep_the_crop(facemargin, sized, crop):
    model, faces = sized / "tiny.keras", sized / "faces"
    code, _, error = facemargin("finetune", faces, "-m", model)
    assert code == 0, error
    assert load_card("finetuned").crop == crop
    code, _, error = facemargin("calibrate", faces, "-m", model, "--far", 0.1, "-o", "own")
    assert code == 0, error
    for arguments in (("-o", "tiny.onnx"), ("-o", "tiny.tflite", "--images", faces)):
        code, out, error = facemargin("export", "-m", model, *arguments)
        assert code == 0 and "passed" in out, error
    code, out, _ = facemargin("check-data", faces, "-m", model)
    assert code == 0 and "the most doubtful images" in out


@one_shape
def test_lfw_is_evaluated_on_crops_of_the_embedder(facemargin, sized, crop):
    names = sorted(path.name for path in (sized / "faces").iterdir())
    for name in names:
        Path("lfw", name).mkdir(parents=True)
        for number in (1, 2):
            source = sized / "faces" / name / f"{number:03d}.jpg"
            Path("lfw", name, f"{name}_{number:04d}.jpg").write_bytes(source.read_bytes())
    lines = ["2\t4"]
    for fold in (0, 4):
        lines += [f"{name}\t1\t2" for name in names[fold : fold + 4]]
        lines += [
            f"{name}\t1\t{names[(fold + i + 1) % 8]}\t2"
            for i, name in enumerate(names[fold : fold + 4])
        ]
    Path("pairs.txt").write_text("\n".join(lines) + "\n")
    command = ("evaluate", "lfw", "--images", "lfw", "--pairs", "pairs.txt")
    code, _, error = facemargin(*command, "-m", sized / "tiny.keras")
    assert code == 0 and "Warning" not in error
    assert json.loads(Path("lfw-results/results.json").read_text())
    # Crops of another shape are refused, never squeezed.
    if crop.height != crop.width:
        tiny_embedder().save("square.keras")
        square = facemargin(*command, "-m", "square.keras", "-o", "other")
        assert_one_sentence(square, "must be square. Received: 112x96", "facemargin align")
