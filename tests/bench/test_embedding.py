"""Embeddings of a bench are kept: each image is embedded once by each embedder."""

import hashlib
import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.bench import bench, embedding
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
    """Runs a bench in parts of 8 images; returns the numbers of its models."""
    monkeypatch.setattr(embedding, "PART", 8)
    monkeypatch.setattr(embedding, "BATCH", 4)

    def bench_of(*embedders, images=faces, **options):
        models = {each.name: each for each in embedders}
        bench(tmp_path / "b.html", models, images, replicates=20, progress=False, **options)
        return json.loads((tmp_path / "b.json").read_text())["models"]

    return bench_of


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


def test_one_more_embedder_embeds_alone(run):
    first, second = embedder("first"), embedder("second", cells=16)
    alone = run(first)
    assert sum(first.seen) == IMAGES
    both = run(first, second)
    assert sum(first.seen) == sum(second.seen) == IMAGES
    assert both["first"]["eer"] == alone["first"]["eer"]
    assert both["second"]["eer"] != alone["first"]["eer"]
    run(first, flip=True)
    assert sum(first.seen) == 3 * IMAGES  # each image and its mirror image


def test_a_stopped_bench_resumes(run):
    with pytest.raises(KeyboardInterrupt):
        run(embedder("a", stop_after=3))
    rest = embedder("a")
    run(rest)
    assert sum(rest.seen) == IMAGES - 8  # calls of 4: one part of 8 was complete


def test_a_changed_image_or_a_damaged_file_is_embedded_again(run, faces, tmp_path):
    one = embedder("a")
    run(one)
    kept = sorted((tmp_path / "b.embeddings").glob("*/*.npy"))
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    np.save(kept[1], np.zeros((8, 3), "float32"))
    kept[2].write_bytes(b"")
    one.seen.clear()
    before = run(one)
    assert len(one.seen) >= 6
    one.seen.clear()
    image = next(iter(sorted(faces.glob("*/*"))))
    Image.new("RGB", (112, 112), "grey").save(image)
    after = run(one)
    assert sum(one.seen) == 8
    assert after["a"]["eer"] != before["a"]["eer"] or after != before


def test_the_embeddings_are_those_of_embed(faces):
    one = embedder("a")
    paths = sorted(faces.glob("*/*"))
    listed = embedding.BenchFaces.read(faces)
    for flip in (False, True):
        found = embedding.embed_faces(
            {"a": one}, listed, faces.with_name("kept"), flip=flip, progress=False
        )
        np.testing.assert_array_equal(found["a"], embed(one, paths, flip=flip, progress=False))


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
    assert [found[name]["crop"] for name in ("small", "wide")] == [[112, 112], [150, 150]]
    page = (tmp_path / "b.html").read_text()
    assert "1 image is left out" in page
    assert f"All pairs of {IMAGES - 1} images" in page
    paths = sorted(large.glob("*/*"))
    rows = embed(wide, paths, flip=False, progress=False)
    listed = embedding.BenchFaces.read([faces, large])
    kept = embedding.embed_faces(
        {"wide": wide}, listed, tmp_path / "kept", flip=False, progress=False
    )
    np.testing.assert_array_equal(kept["wide"], rows)
    with pytest.raises(ValueError, match="must have another crop"):
        run(small, images=[faces, faces])
