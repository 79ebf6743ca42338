"""The benchmark runs, and both sides of it train alike; no test looks at a time."""

import csv
import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_facemargin.images.synthetic import write_synthetic_faces

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "benchmark_fit.py"


@pytest.fixture(scope="module")
def benchmark_fit():
    pytest.importorskip("tensorflow")
    spec = importlib.util.spec_from_file_location("benchmark_fit", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_embedder():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 127.5, offset=-1.0),
            # No bias: batch normalisation takes it off again, and Adam would blow up its noise.
            keras.layers.Conv2D(4, 3, strides=4, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(8),
        ]
    )


def tiny_backbone():
    image = keras.Input((112, 112, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    return keras.Model(image, keras.layers.Conv2D(4, 16, strides=16, use_bias=False)(x))


def test_fit_and_the_bare_loop_take_the_same_steps(benchmark_fit):
    classifier, bare = benchmark_fit.competitors(tiny_embedder, num_classes=5)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (12, 16, 16, 3)).astype("float32")
    labels = rng.integers(0, 5, 12).astype("int32")
    for _ in range(3):
        history = classifier.fit(images, labels, batch_size=12, shuffle=False, verbose=0).history
        np.testing.assert_allclose(float(bare.step(images, labels)), history["loss"][0], rtol=1e-4)
    np.testing.assert_allclose(bare.prototypes, classifier.head.prototypes, atol=1e-4)
    for ours, theirs in zip(classifier.embedder.weights, bare.network.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=ours.path)


def test_prints_ratios_with_their_aims_and_appends_them(
    benchmark_fit, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(benchmark_fit.NETWORKS, "spherenet", tiny_backbone)
    figures = tmp_path / "figures.csv"
    tiny = ["--batch-size", "4", "--steps", "2", "--rounds", "1", "--csv", str(figures)]
    benchmark_fit.main(tiny)
    printed = capsys.readouterr().out
    for row in (
        r"fit / bare loop .* 0\.95 (reached|missed)",
        r"files / memory .* 0\.9 (reached|missed)",
    ):
        assert re.search(row, printed)
    assert "Load of the machine" in printed
    bare, memory = map(float, re.search(r"bare (\S+), memory (\S+)\.", printed).groups())
    np.testing.assert_allclose(bare, memory, rtol=1e-4)
    with figures.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["fit / bare loop", "files / memory"]
    assert all(float(row["ratio"]) > 0 and float(row["images_per_second"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--steps", "9"], "times --steps images: 36"), (["--identities", "2"], "must be at least 3")],
)
def test_refuses_faces_that_do_not_fit(benchmark_fit, tmp_path, capsys, options, message):
    faces = tmp_path / "faces"
    write_synthetic_faces(faces, 3, 4)
    with pytest.raises(SystemExit):
        benchmark_fit.main(["--faces", str(faces), "--batch-size", "4", "--steps", "2", *options])
    assert message in " ".join(capsys.readouterr().err.split())
