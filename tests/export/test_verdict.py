"""The judge, with made-up files: files that pass and fail, and the files on the disk afterwards."""

import contextlib
import errno
import json
import os
import stat
import tempfile

import numpy as np
import pytest

from keras_facemargin.export import Costs, ExportError, Tolerance, Verdict
from keras_facemargin.export.formats import find_format
from keras_facemargin.export.verdict import check_path, deliver

TOLERANCE = Tolerance(0.9, 0.95)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (40, 2, 2, 3)).astype("float32")


def embed(images):
    return images.reshape(len(images), -1) - 127.5


def judge(path, images, run=embed, tolerance=TOLERANCE, reference=embed, other_rows=None):
    return deliver(
        b"artefact",
        path,
        run,
        reference,
        images,
        format=find_format("tflite-float16"),
        tolerance=tolerance,
        other_rows=other_rows,
    )


def test_equal_embeddings_pass(tmp_path, images):
    path = tmp_path / "face.tflite"
    verdict = judge(path, images)
    assert verdict.passed
    assert verdict.cosine_min == pytest.approx(1.0)
    assert verdict.cosine_mean == pytest.approx(1.0)
    assert (verdict.path, verdict.size_bytes, verdict.num_images) == (str(path), 8, 40)
    assert path.read_bytes() == b"artefact"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_cosines_are_of_each_image(tmp_path, images):
    def last_one_turned(batch):
        turned = embed(batch)
        if (batch == images[-1]).all():
            turned = np.roll(turned, 1, axis=1)
        return turned

    turned = np.roll(embed(images[-1:]), 1, axis=1)
    cosine = (turned * embed(images[-1:])).sum() / (embed(images[-1:]) ** 2).sum()
    tolerance = Tolerance(-1.0, 0.9)
    verdict = judge(tmp_path / "face.tflite", images, last_one_turned, tolerance)
    assert verdict.cosine_min == pytest.approx(cosine, abs=1e-6)
    assert verdict.cosine_mean == pytest.approx((39 + cosine) / 40, abs=1e-6)
    with pytest.raises(ExportError):  # The mean is good enough, the one image is not.
        judge(tmp_path / "face.tflite", images, last_one_turned, Tolerance(0.9, 0.9))


def test_scale_of_the_embedding_does_not_matter(tmp_path, images):
    assert judge(tmp_path / "face.tflite", images, lambda x: embed(x) / 1000).passed


@pytest.mark.parametrize(
    "broken",
    [
        lambda x: -embed(x),
        lambda x: np.zeros_like(embed(x)),
        lambda x: np.ones_like(embed(x)),
        lambda x: np.full_like(embed(x), np.nan),
    ],
    ids=["opposite", "zeros", "constant", "nan"],
)
def test_broken_file_fails_and_is_put_aside(tmp_path, images, broken):
    path = tmp_path / "face.tflite"
    with pytest.raises(ExportError, match=r"Received: .*export float32") as info:
        judge(path, images, broken)
    assert not path.exists()
    failed = tmp_path / "face.tflite.failed"
    assert failed.read_bytes() == b"artefact"
    assert info.value.verdict.path == str(failed)
    assert str(failed) in str(info.value) and "untouched" not in str(info.value)
    assert "FAILED" in str(info.value.verdict)


def test_old_file_survives_a_failed_verdict(tmp_path, images):
    path = tmp_path / "face.tflite"
    path.write_bytes(b"the good one")
    with pytest.raises(ExportError, match="unchanged"):
        judge(path, images, lambda x: -embed(x))
    assert path.read_bytes() == b"the good one"


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, images, monkeypatch):
    path = tmp_path / "face.tflite"
    path.write_bytes(b"the good one")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk is full") as info:
        judge(path, images)
    assert info.value.filename == str(path)
    assert path.read_bytes() == b"the good one"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("run", [embed, lambda x: -embed(x)], ids=["passed", "failed"])
def test_the_file_gets_the_mode_of_the_umask(tmp_path, images, run):
    before = os.umask(0o077)
    try:
        with contextlib.suppress(ExportError):
            judge(tmp_path / "face.tflite", images, run)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_passed_file_replaces_the_old_one(tmp_path, images):
    path = tmp_path / "face.tflite"
    path.write_bytes(b"the old one")
    judge(path, images)
    assert path.read_bytes() == b"artefact"


@pytest.mark.parametrize("count", [1, 40])
def test_equal_embeddings_prove_nothing(tmp_path, images, count):
    same = np.repeat(images[:1], count, axis=0)
    with pytest.raises(ValueError, match=rf"Received: {count} images whose embeddings"):
        judge(tmp_path / "face.tflite", same)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (1.0, "the same embedding for all 40 images in LiteRT "),
        (np.nan, "numbers that are not finite for 40 of 40 images in LiteRT "),
    ],
)
def test_a_broken_embedding_is_named_and_refused(tmp_path, images, value, fault):
    with pytest.raises(ExportError, match=rf"for another image. Received: {fault}\("):
        judge(tmp_path / "face.tflite", images, lambda x: np.full_like(embed(x), value))
    assert not (tmp_path / "face.tflite").exists()


def test_the_file_must_pass_in_every_runtime(tmp_path, images):
    path, rows = tmp_path / "face.tflite", embed(images)
    assert judge(path, images, other_rows={"Another": rows}).other_runtimes == {
        "Another": pytest.approx(1.0)
    }
    with pytest.raises(ExportError, match="in Another min -1"):
        judge(path, images, other_rows={"Another": -rows})
    with pytest.raises(ExportError, match=r"Received: the same .* in Another \("):
        judge(path, images, other_rows={"Another": np.zeros_like(rows)})


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_damaged_embedder_is_named_before_the_file_is_judged(tmp_path, images, value):
    def reference(batch):
        embeddings = embed(batch)
        embeddings[(batch == images[7]).all(axis=(1, 2, 3))] = value
        return embeddings

    rule = "finite and not zero. Received: 1 of 40 images whose embedding is not, .* index 7"
    with pytest.raises(ValueError, match=rule):
        judge(tmp_path / "face.tflite", images, reference=reference)
    assert not list(tmp_path.iterdir())


def test_verdict_reads_and_serialises():
    verdict = Verdict(
        format="tflite",
        precision="int8",
        path="face.tflite",
        size_bytes=1_234_567,
        num_images=64,
        cosine_min=0.97,
        cosine_mean=0.991234,
        cosine_low=0.975,
        latency_ms=1.234,
        keras_latency_ms=5.678,
        threads=2,
        tolerance=Tolerance(0.95, 0.98),
        passed=True,
        ops={"CONV_2D": 3, "SOFTMAX": 1},
        float_islands=("SOFTMAX",),
        costs=Costs("Linux, 2 CPUs", {1: 2.5, 2: 1.25}, 7_400_000, 2, ("SOFTMAX",)),
    )
    text = str(verdict)
    for fact in (
        "face.tflite: tflite int8, passed",
        "min 0.970000, 1 % 0.975000, mean 0.991234 over 64 images (required: min 0.95, mean 0.98)",
        "1.23 MB",
        "1.23 ms, Keras 5.68 ms (one image, 2 threads)",
        "float islands    SOFTMAX",
        "ops              3 CONV_2D, 1 SOFTMAX",
        "  1 thread       2.50 ms",
        "  2 threads      1.25 ms",
        "memory           7.4 MB",
        "XNNPACK, 2 parts; ops outside: SOFTMAX",
        "host             Linux, 2 CPUs",
    ):
        assert fact in text
    facts = json.loads(json.dumps(verdict.to_dict()))
    assert facts["tolerance"] == {"cosine_min": 0.95, "cosine_mean": 0.98}
    assert facts["float_islands"] == ["SOFTMAX"]
    assert facts["costs"]["latency_ms"] == {"1": 2.5, "2": 1.25}
    assert facts["passed"] is True


def test_wrong_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"end in '.tflite'. Received: 'face.onnx'. Write 'face"):
        check_path("face.onnx", ".tflite")


def test_path_is_a_folder(tmp_path):
    (tmp_path / "face.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="Received: the folder"):
        check_path(tmp_path / "face.onnx", ".onnx")


def test_a_missing_folder_is_created(tmp_path):
    assert check_path(tmp_path / "new" / "face.onnx", ".onnx").parent.is_dir()


def test_a_file_in_place_of_the_folder_is_found_before_the_conversion(tmp_path):
    (tmp_path / "new").write_text("")
    with pytest.raises(OSError) as info:
        check_path(tmp_path / "new" / "face.onnx", ".onnx")
    assert str(tmp_path / "new") in str(info.value)


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_read_only_place_is_found_before_the_conversion(tmp_path, monkeypatch, error):
    def refuse(dir):
        raise error(errno.EROFS, "Read-only file system", f"{dir}/tmpqz1x")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(error, match="Read-only") as info:
        check_path(tmp_path / "face.onnx", ".onnx")
    assert info.value.filename == str(tmp_path / "face.onnx")
    assert not list(tmp_path.iterdir())
