"""Fixtures and rules for every test: the measured data, and the backends of each test."""

import functools
import gc
import os
from pathlib import Path

import keras
import pytest
from file_server import serve

from keras_facemargin.images import synthetic

CHECKOUT = Path(__file__).resolve().parents[1]
# XLA compiles each operation for each shape: most of the time of the jax suite, of which its newer
# code for fusions is a third. Optimisation stays on: level 0 rounds differently. Processes of the
# tests inherit the flag.
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false"


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real faces, protocols and foreign files; a test that needs it skips without."""
    path = Path(os.environ.get("FACEMARGIN_DATA", CHECKOUT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"needs the measured data: no folder {path}; set FACEMARGIN_DATA")
    return path


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine, see `file_server`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


def pytest_configure():
    """Quick XLA, and two logical CPU devices, so that MirroredStrategy has replicas to disagree."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_XLA}"
    os.environ["JAX_THREEFRY_PARTITIONABLE"] = "0"
    # The modules of a backend take a full collection 0.3 s, and stay; what jax keeps of compiled
    # functions makes collections a quarter of the time at the end of its tests.
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    if keras.backend.backend() == "jax":
        import jax

        # Random numbers that no device shares. XLA compiles a draw for each shape, and jax's
        # default draw takes it ten times as long: 1.5 s for each kernel of a network.
        jax.config.update("jax_threefry_partitionable", False)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )


@pytest.fixture(scope="session", autouse=True)
def _draw_each_synthetic_face_once():
    """Most commands draw the same people; only `test_synthetic.py` draws them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_people", functools.cache(synthetic._people))
        yield


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def pytest_collection_modifyitems(items):
    """Tests of TensorFlow-only rooms (data, export, tf.distribute) skip on other backends."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return
    for item in items:
        if "any_backend" not in item.keywords:
            reason = f"promised on tensorflow only, not on {backend}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    """How much of the heads' contract was shown in this run: heads x settings x properties."""
    heads, settings, properties, checks = set(), set(), set(), 0
    for report in terminalreporter.stats.get("passed", []):
        path, _, name = report.nodeid.rpartition("::")
        if report.when == "call" and path.endswith("test_contract.py") and "[" in name:
            function, _, parameters = name.rstrip("]").partition("[")
            case = next((p for p in parameters.split("-") if p[:1].isupper()), None)
            if case is None:
                continue
            heads.add(case.split(" ")[0])
            settings.add(case)
            properties.add(function)
            checks += 1
    if checks:
        terminalreporter.write_line(
            f"heads' contract on {keras.backend.backend()}: {len(heads)} heads "
            f"({len(settings)} settings) x {len(properties)} properties, {checks} checks passed"
        )
