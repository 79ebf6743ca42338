"""Embeddings of a bench are kept: each image is embedded once by each embedder."""

import hashlib
import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.bench import BenchFaces, bench, embedding
from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.evaluate import embed
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.runtime import Pixels
from keras_facemargin.zoo import Embedder

IMAGES = 36  # a multiple of the batches below
CROP = Crop.of()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write_synthetic_faces(folder, IMAGES // 3, 3)
    return folder


@pytest.fixture
def faces(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "faces")
    return tmp_path / "faces"


@pytest.fixture
def run(tmp_path, faces, monkeypatch):
    """Embeds the faces in parts of 8 images, with embeddings kept between the calls."""
    monkeypatch.setattr(embedding, "PART", 8)
    monkeypatch.setattr(embedding, "BATCH", 4)

    def embed_with(*embedders, images=faces, flip=False):
        models = {each.name: each for each in embedders}
        listed = BenchFaces.read(images)
        return embed_faces(models, listed, tmp_path / "kept", flip=flip, progress=False)

    return embed_with


def embedder(name, cells=28, crop=CROP, stop_after=None):
    """An `Embedder` with an id; `seen` lists the numbers of images of its calls."""
    seen = []

    def run(images):
        # The first call learns nothing: it measures the time of one image.
        if len(images) > 1:
            seen.append(len(images))
            if stop_after is not None and len(seen) > stop_after:
                raise KeyboardInterrupt
        return np.asarray(images)[:, ::cells, ::cells].reshape(len(images), -1)

    def id_of(*, mirrored=False):
        return hashlib.sha256(f"{name} {mirrored}".encode()).hexdigest()

    described = types.SimpleNamespace(
        id_of=id_of, weights=types.SimpleNamespace(file=f"{name}.onnx", bytes=1)
    )
    dim = run(np.zeros((1, *crop.shape, 3))).shape[1]
    opened = Embedder(name, crop, Pixels(), dim, None, "function", run, described)
    object.__setattr__(opened, "seen", seen)
    return opened


def test_one_more_embedder_embeds_alone(run, faces):
    first, second = embedder("first"), embedder("second", cells=16)
    run(first)
    assert sum(first.seen) == IMAGES
    both = run(first, second)
    assert sum(first.seen) == sum(second.seen) == IMAGES
    run(first, flip=True)
    assert sum(first.seen) == 3 * IMAGES  # each image and its mirror image
    for one in (first, second):
        rows = embed(one, sorted(faces.glob("*/*")), flip=False, progress=False)
        np.testing.assert_array_equal(both[one.name], rows)


def test_a_stopped_bench_resumes(run):
    with pytest.raises(KeyboardInterrupt):
        run(embedder("a", stop_after=3))
    rest = embedder("a")
    run(rest)
    assert sum(rest.seen) == IMAGES - 8  # calls of 4: one part of 8 was complete


def test_a_changed_image_or_a_damaged_file_is_embedded_again(run, faces, tmp_path):
    one = embedder("a")
    before = run(one)["a"]
    kept = sorted((tmp_path / "kept").glob("*/*.npy"))
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    np.save(kept[1], np.zeros((8, 3), "float32"))
    kept[2].write_bytes(b"")
    one.seen.clear()
    np.testing.assert_array_equal(run(one)["a"], before)
    assert len(one.seen) >= 6
    one.seen.clear()
    Image.new("RGB", (112, 112), "grey").save(min(faces.glob("*/*")))
    after = run(one)["a"]
    assert sum(one.seen) == 8
    np.testing.assert_array_equal((after != before).any(axis=1), np.arange(IMAGES) == 0)


def test_each_embedder_takes_its_own_crops(run, faces, tmp_path):
    large = tmp_path / "large"
    for path in sorted(faces.glob("*/*"))[:-1]:
        (large / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((150, 150)).save(large / path.parent.name / path.name)
    small, wide = embedder("small"), embedder("wide", 30, Crop.of(150))
    with pytest.raises(ValueError, match=r"wide, which takes 150x150.*name it as a second folder"):
        run(small, wide)
    found = run(small, wide, images=[faces, large])
    rows = embed(wide, sorted(large.glob("*/*")), flip=False, progress=False)
    np.testing.assert_array_equal(found["wide"], rows)
    assert len(found["small"]) == len(rows) == IMAGES - 1
    with pytest.raises(ValueError, match="must have another crop"):
        run(small, images=[faces, faces])
    options = {"replicates": 20, "progress": False}
    bench(tmp_path / "b.html", {"small": small, "wide": wide}, [faces, large], **options)
    page = (tmp_path / "b.html").read_text()
    assert "1 image is left out" in page
    assert f"All pairs of {IMAGES - 1} images" in page
    crops = [
        each["crop"] for each in json.loads((tmp_path / "b.json").read_text())["models"].values()
    ]
    assert crops == [[112, 112], [150, 150]]
