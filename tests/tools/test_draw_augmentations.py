"""The sheet shows every layer there is, a row each, on drawn faces."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from keras_facemargin.augmentation import layers
from keras_facemargin.images import synthesize_faces

TOOL = Path(__file__).resolve().parents[2] / "tools" / "figures" / "draw_augmentations.py"


def test_every_layer_has_its_row(tmp_path):
    spec = importlib.util.spec_from_file_location("draw_augmentations", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main([str(tmp_path / "sheet.png"), "--faces", "2"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)[:, tool.LABELS :]
    kinds = sum(name.startswith("Random") for name in vars(layers))
    assert pixels.shape == ((1 + kinds) * 112, 2 * 112, 3)
    rows = pixels.reshape(1 + kinds, 112, 224, 3)
    faces, _ = synthesize_faces(2, 1)
    np.testing.assert_array_equal(rows[0], np.concatenate(faces, axis=1))
    assert len({row.tobytes() for row in rows}) == 1 + kinds
