"""Fixtures and rules for every test: where the measured data lies, which backend runs what."""

import os
from pathlib import Path

import keras
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real faces, protocols and foreign files; a test that asks for it skips without it."""
    path = Path(os.environ.get("FACEMARGIN_DATA", CHECKOUT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"needs the measured data: no folder {path}; set FACEMARGIN_DATA")
    return path


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
            item.add_marker(pytest.mark.skip(reason=f"promised on tensorflow only, not on {backend}"))
