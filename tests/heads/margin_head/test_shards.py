"""Prototypes split over devices, in a process of their own, which sets its devices at the start."""

from pathlib import Path

import keras
import numpy as np
import pytest
from processes import finish, start

from keras_facemargin import CosFace, PrototypeParallel

SCRIPT = Path(__file__).with_name("train_sharded.py")
CLASSES = 21


@pytest.fixture(
    scope="module",
    # Eight devices take the same path with another number.
    params=[4, pytest.param(8, marks=pytest.mark.slow)],
)
def devices(request):
    return request.param


@pytest.fixture(scope="module")
def ends(devices, tmp_path_factory):
    """The results of 1 and of all devices, by their number; all load weights that one saved."""
    out = tmp_path_factory.mktemp("shards") / "ends.npz"
    ((code, _, errors),) = finish(start(SCRIPT, devices, out, KERAS_BACKEND="jax"))
    assert code == 0, errors
    found = {1: {}, devices: {}}
    for name, values in np.load(out).items():
        count, _, name = name.partition("/")
        found[int(count)][name] = values
    return found


def test_split_prototypes_train_as_one_device_does(ends, devices):
    names = [name for name in ends[devices] if "/" in name and "a device" not in name]
    assert len(names) > 5
    for name in names:
        expected = ends[1][name.replace("of others", "loaded")]
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(ends[devices][name], expected, atol=tolerance, err_msg=name)


def test_each_device_holds_its_share_of_prototypes_and_optimizer_slots(ends, devices):
    rows = {1: 21, 4: 6, 8: 3}
    for count in (1, devices):
        for name in ("rows a device", "momentum rows a device"):
            assert ends[count][f"CosFace/{name}"].tolist() == [rows[count]] * count


def test_memory_of_a_device_falls_as_its_share(ends, devices):
    alone = ends[1]["memory"]
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
