"""Prototypes split over devices, in separate processes: a process sets its devices at the start."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_facemargin import CosFace, PrototypeParallel

SCRIPT = Path(__file__).with_name("train_sharded.py")
CLASSES = 21


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """The results of 1, 4 and 8 devices; the latter two load weights that one device saved."""
    folder = tmp_path_factory.mktemp("shards")
    found = {}
    for devices in (1, 4, 8):
        out = folder / f"{devices}.npz"
        before = [folder / "1.npz"] if devices > 1 else []
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(
            [sys.executable, SCRIPT, str(devices), out, *before], check=True, env=environment
        )
        found[devices] = dict(np.load(out))
    return found


@pytest.mark.parametrize("devices", [4, 8])
def test_split_prototypes_train_as_one_device_does(ends, devices):
    names = [name for name in ends[devices] if name.count("/") and "a device" not in name]
    assert len(names) > 5
    for name in names:
        expected = ends[1][name.replace("of others", "loaded")]
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(ends[devices][name], expected, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("devices", "rows"), [(1, 21), (4, 6), (8, 3)])
def test_each_device_holds_its_share_of_prototypes_and_optimizer_slots(ends, devices, rows):
    for name in ("rows a device", "momentum rows a device"):
        assert ends[devices][f"CosFace/{name}"].tolist() == [rows] * devices


def test_memory_of_a_device_falls_as_its_share(ends):
    alone = ends[1]["memory"]
    for devices in (4, 8):
        prototypes, gradient, made = ends[devices]["memory"]
        assert prototypes == pytest.approx(alone[0] / devices, rel=0.02)
        assert gradient == pytest.approx(alone[1] / devices, rel=0.02)
        assert made <= alone[2]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="there it is allowed")
def test_other_backends_are_refused_with_the_rule():
    with pytest.raises(RuntimeError, match=r"jax backend only.*KERAS_BACKEND=jax"):
        PrototypeParallel()


def test_sampling_split_prototypes_is_refused(monkeypatch):
    monkeypatch.setattr("keras_facemargin.heads.margin_head.prototypes.shard_count", lambda: 4)
    head = CosFace(CLASSES, sample_rate=0.5)
    with pytest.raises(ValueError, match="Leave one of the two out"):
        head.build((None, 3))
