"""MTCNN without its package's code: the files of weights, the networks, the cascade's steps."""

import importlib.util
import io
import pickle
import sys

import lz4.frame
import numpy as np
import pytest
from PIL import Image

from keras_facemargin.images.mtcnn import cascade, networks
from keras_facemargin.images.mtcnn.weights import _SHAPES, _Walk, read_arrays, read_networks


def test_the_weights_are_read_and_the_package_is_not_run():
    arrays = read_networks()
    assert {name: tuple(each.shape for each in arrays[name]) for name in arrays} == _SHAPES
    assert all(np.isfinite(each).all() for name in arrays for each in arrays[name])
    assert "mtcnn" not in sys.modules


def test_a_missing_package_is_answered_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'mtcnn>=1.0,<2'"):
        read_networks()


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "pnet.lz4"
    path.write_bytes(lz4.frame.compress(pickle.dumps([Hostile()])))
    with pytest.raises(ValueError, match=r"would call 'builtins.print'.*Run: pip install"):
        read_arrays(path, ())
    assert capsys.readouterr().out == ""


def test_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "pnet.lz4"
    with pytest.raises(ValueError, match="Received: no such file"):
        read_arrays(path, ())
    whole = lz4.frame.compress(pickle.dumps([1, 2]))
    for content in (b"", b"x", whole[:-6]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be the weights of MTCNN"):
            read_arrays(path, ())
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="Received: other arrays"):
        read_arrays(path, ((3,),))


@pytest.mark.parametrize("value", [{1: 2}, b"x" * 200, {1, 2}])
def test_other_pickles_are_refused(value):
    data = pickle.dumps(value)
    with pytest.raises(ValueError, match="at byte"):
        _Walk(io.BytesIO(data), len(data)).walk()


def convolve(x, kernel, bias, slope):
    """Plain loops over places; x is (H, W, C)."""
    size = len(kernel)
    out = np.empty((x.shape[0] - size + 1, x.shape[1] - size + 1, len(bias)))
    for row, column in np.ndindex(out.shape[:2]):
        part = x[row : row + size, column : column + size]
        out[row, column] = np.einsum("ijc,ijco->o", part, kernel) + bias
    return np.where(out > 0, out, slope * out)


def pool(x, size, padded):
    ends = [((side + 1) // 2 - 1) * 2 + size - side if padded else 0 for side in x.shape[:2]]
    x = np.pad(x, [(0, max(ends[0], 0)), (0, max(ends[1], 0)), (0, 0)], constant_values=-np.inf)
    height, width = ((side - size) // 2 + 1 for side in x.shape[:2])
    out = np.empty((height, width, x.shape[2]))
    for row, column in np.ndindex(height, width):
        out[row, column] = x[2 * row : 2 * row + size, 2 * column : 2 * column + size].max((0, 1))
    return out


def face_of_two(classes):
    powers = np.exp(classes)
    return powers[..., 1] / powers.sum(-1)


@pytest.mark.parametrize("shape", [(12, 12), (13, 30), (84, 15)])
def test_the_first_network_equals_plain_loops(shape, monkeypatch):
    monkeypatch.setattr(networks, "_ROWS", 5)  # several parts
    arrays = read_networks()["pnet"]
    image = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    scores, offsets = networks.FirstNetwork(arrays)(image)
    x = pool(convolve(image.transpose(1, 2, 0).astype(float), *arrays[:3]), 2, True)
    x = convolve(convolve(x, *arrays[3:6]), *arrays[6:9])
    np.testing.assert_allclose(
        offsets.transpose(1, 2, 0), x @ arrays[9][0, 0] + arrays[10], atol=1e-4
    )
    np.testing.assert_allclose(scores, face_of_two(x @ arrays[11][0, 0] + arrays[12]), atol=1e-4)


def test_the_later_networks_equal_plain_loops():
    every, rng = read_networks(), np.random.default_rng(0)
    for name, side, make in (
        ("rnet", 24, networks.second_network),
        ("onet", 48, networks.third_network),
    ):
        arrays = every[name]
        patches = rng.normal(size=(2, 3, side, side)).astype("float32")
        scores, offsets, *points = make(arrays)(patches)
        for row, patch in enumerate(patches):
            x, layers = patch.transpose(1, 2, 0).astype(float), 4 if name == "onet" else 3
            for layer, pooling in zip(
                range(layers), [(3, True), (3, False), (2, True), None], strict=False
            ):
                x = convolve(x, *arrays[3 * layer : 3 * layer + 3])
                if pooling and layer < layers - 1:
                    x = pool(x, *pooling)
            rest = arrays[3 * layers :]
            x = x.transpose(1, 0, 2).ravel() @ rest[0] + rest[1]
            x = np.where(x > 0, x, rest[2] * x)
            np.testing.assert_allclose(offsets[row], x @ rest[3] + rest[4], atol=1e-4)
            if points:
                np.testing.assert_allclose(points[0][row], x @ rest[5] + rest[6], atol=1e-4)
            np.testing.assert_allclose(scores[row], face_of_two(x @ rest[-2] + rest[-1]), atol=1e-4)


def test_a_shrunk_photo_has_the_mean_of_each_area():
    photo = np.random.default_rng(0).integers(0, 256, (30, 20, 3), "uint8")
    table = cascade._sums(cascade._centred(photo))
    small = cascade._shrink(table, 12, 7)
    # Every pixel repeated, so that each area is of whole pixels.
    fine = np.repeat(np.repeat((photo - 127.5) / 128, 12, axis=0), 7, axis=1)
    expected = fine.reshape(12, 30, 7, 20, 3).mean((1, 3))
    np.testing.assert_allclose(small.transpose(1, 2, 0), expected, atol=1e-5)


def test_patches_are_grey_outside_the_photo_and_exact_on_its_pixels():
    photo = np.random.default_rng(0).integers(0, 256, (9, 9, 3), "uint8")
    (patch,) = cascade._patches(photo, np.array([[-1.5, 0.5, 6.5, 8.5]]), 9)
    pixels = patch.transpose(1, 2, 0) * 128 + 127.5
    np.testing.assert_allclose(pixels[:, 2:], photo[:, :7], atol=1e-3)
    np.testing.assert_allclose(pixels[:, :2], 127.5)


def test_suppression_equals_plain_loops(monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (300, 2))], axis=1)
    scores = rng.uniform(size=300)
    order = np.argsort(-scores)
    kept = []
    for place, row in enumerate(order):
        share = 0.0
        for better in order[:place]:
            low = np.maximum(boxes[row, :2], boxes[better, :2])
            high = np.minimum(boxes[row, 2:], boxes[better, 2:])
            common = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(boxes[each, 2:] - boxes[each, :2]) for each in (row, better)]
            share = max(share, common / (sum(areas) - common))
            if share > 0.5:
                break
        if share <= 0.5:
            kept.append(row)
    assert cascade._suppress(boxes, scores, 0.5).tolist() == kept


def test_the_smallest_face_grows_with_the_photo():
    from keras_facemargin.images.mtcnn import MtcnnDetector

    asked = []
    detector = MtcnnDetector()
    detector._windows = lambda image, least: asked.append((image.shape, least)) or ((), (), ())
    for height, width in ((250, 250), (3000, 4000)):
        assert detector(np.zeros((height, width, 3), "uint8")) == []
    assert asked == [((250, 250, 3), 20), ((1000, 1334, 3), pytest.approx(50 / 3))]


def test_a_photo_at_any_place_of_a_canvas_has_the_same_points(shared_data):
    from keras_facemargin.images.mtcnn import MtcnnDetector

    detector = MtcnnDetector()
    photo = np.asarray(Image.open(sorted((shared_data / "photos").glob("Abdullah_Gul/*.jpg"))[0]))
    shifts = []
    for left, top in ((0, 0), (500, 500)):
        canvas = np.full((750, 750, 3), 127, "uint8")
        canvas[top : top + 250, left : left + 250] = photo
        face = max(detector(canvas), key=lambda each: np.prod(each.box[2:] - each.box[:2]))
        shifts.append(face.points - [left, top])
    assert np.abs((shifts[0] - shifts[1]).mean(0)).max() < 0.5
