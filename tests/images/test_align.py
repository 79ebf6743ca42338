"""Alignment: the transform against plain loops and OpenCV, the pixels against a plain definition,
the crops of real photos against crops made by others."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.images.align import (
    align_face,
    alignment_matrix,
    similarity_transform,
)
from keras_facemargin.images.crop import TEMPLATES, Crop
from keras_facemargin.images.image import BadImage, read_face, read_photo


def umeyama(points, target):
    """Umeyama's equations 40-43 in plain loops, for the plane: (2, 3)."""
    n = len(points)
    mean = [sum(p[k] for p in points) / n for k in (0, 1)]
    mean_target = [sum(t[k] for t in target) / n for k in (0, 1)]
    variance = sum((p[k] - mean[k]) ** 2 for p in points for k in (0, 1)) / n
    covariance = np.zeros((2, 2))
    for p, t in zip(points, target, strict=True):
        for row in (0, 1):
            for column in (0, 1):
                covariance[row, column] += (t[row] - mean_target[row]) * (p[column] - mean[column])
    u, d, vt = np.linalg.svd(covariance / n)
    s = np.diag([1.0, 1.0 if np.linalg.det(u) * np.linalg.det(vt) > 0 else -1.0])
    scale = np.trace(np.diag(d) @ s) / variance
    turn = u @ s @ vt
    shift = np.array(mean_target) - scale * turn @ np.array(mean)
    return np.concatenate([scale * turn, shift[:, None]], axis=1)


def moved(points, scale, degrees, shift):
    """Points turned, scaled, shifted."""
    a = scale * np.exp(1j * math.radians(degrees))
    z = (np.asarray(points) @ [1, 1j]) * a + complex(*shift)
    return np.stack([z.real, z.imag], -1)


@pytest.fixture
def faces():
    """200 sets of five points: the template turned, scaled, shifted and disturbed."""
    rng = np.random.default_rng(0)
    points = Crop.of().points
    return np.stack(
        [
            moved(points, rng.uniform(0.2, 9), rng.uniform(-180, 180), rng.uniform(-500, 2000, 2))
            + rng.normal(0, 1, (5, 2))
            for _ in range(200)
        ]
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_batch_equals_plain_loops(faces, template):
    target = Crop.of(template=template).points
    matrices = alignment_matrix(faces.reshape(20, 10, 5, 2), template=template)
    assert matrices.shape == (20, 10, 2, 3)
    assert matrices.dtype == np.float64
    expected = [umeyama(face, target) for face in faces]
    np.testing.assert_allclose(matrices.reshape(-1, 2, 3), expected, rtol=1e-9, atol=1e-9)


def test_a_reflection_is_never_chosen():
    target = Crop.of().points
    mirrored = target * [-1, 1]
    matrix = similarity_transform(mirrored, target)
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(mirrored, target), rtol=1e-9, atol=1e-9)


def test_clean_points_give_the_transform_that_opencv_finds():
    cv2 = pytest.importorskip("cv2")
    points = Crop.of().points
    for scale, degrees, shift in [(2.5, 30, (40, -7)), (0.4, -100, (3, 900)), (1, 180, (0, 0))]:
        face = moved(points, scale, degrees, shift)
        theirs, _ = cv2.estimateAffinePartial2D(face, points)
        np.testing.assert_allclose(alignment_matrix(face), theirs, rtol=1e-5, atol=1e-4)
        exact = alignment_matrix(face)
        np.testing.assert_allclose(face @ exact[:, :2].T + exact[:, 2], points, atol=1e-9)


def test_no_transform_near_by_fits_better(faces):
    target = Crop.of().points
    rng = np.random.default_rng(1)
    for face in faces[:20]:
        matrix = alignment_matrix(face)
        best = ((face @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum()
        for _ in range(50):
            p, q, x, y = rng.normal(0, [1e-3, 1e-3, 0.1, 0.1])
            other = matrix + np.array([[p, -q, x], [q, p, y]])
            assert ((face @ other[:, :2].T + other[:, 2] - target) ** 2).sum() > best


def face():
    return 1.3 * Crop.of().points + 20


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((5, 2), 30.0), "must not all be the same"),
        (np.stack([np.arange(5), 2 * np.arange(5)], -1), "must not be on a line"),
        (np.where(np.arange(5)[:, None] == 2, np.nan, face()), r"finite.*nan.*index \(2,\)"),
        (np.where(np.arange(5)[:, None] == 4, np.inf, face()), r"finite.*inf.*index \(4,\)"),
        (face() * 1e200, r"finite.*index \(0,\)"),
        (face() / [260, 200], "in pixels.*0..1.*width and height"),
        (2 * face() / [260, 200] - 1, "in pixels.*0..1.*width and height"),
        (face()[[1, 0, 2, 4, 3]], "left before right.*[Ss]wap"),
        (face()[:, ::-1], "x before y.*[Ss]wap"),
        (face()[[1, 0, 2, 3, 4]], "left to the right eye.*[Ss]wap"),
        (face()[[0, 1, 2, 4, 3]], "left to the right eye.*[Ss]wap"),
        (face() * [-1, 1] + [300, 0], "left before right.*mirrored"),
        (face()[:4], r"shape \(4, 2\)"),
        (face().ravel(), r"shape \(10,\)"),
        (face()[:, ::-1, None], r"shape \(5, 2, 1\)"),
        ([["a", "b"]] * 5, "must be numbers"),
        (None, "must be numbers|shape"),
    ],
)
def test_points_of_no_face_are_refused(points, message):
    for call in (alignment_matrix, lambda points: align_face(PHOTO, points)):
        with pytest.raises(ValueError, match=f"(?s){message}") as caught:
            call(points)
        assert "Received" in str(caught.value)


PHOTO = np.random.default_rng(3).integers(0, 256, (200, 260, 3)).astype("uint8")


def test_the_bad_face_of_a_batch_is_named(faces):
    faces[7] = faces[7][[1, 0, 2, 4, 3]]
    with pytest.raises(ValueError, match=r"at index \(7,\)"):
        alignment_matrix(faces)


@pytest.mark.parametrize("yaw", range(-100, 101, 20))
@pytest.mark.parametrize("pitch", [-30, 0, 30])
def test_faces_turned_to_a_side_are_accepted(yaw, pitch):
    """Up to a full profile and past it, where the eyes fall together."""
    head = np.array([(-33, 0, 0), (33, 0, 0), (0, 38, 30), (-26, 73, 5), (26, 73, 5)], float)
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    head = head @ [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    c, s = np.cos(np.radians(pitch)), np.sin(np.radians(pitch))
    head = head @ [[1, 0, 0], [0, c, s], [0, -s, c]]
    assert np.isfinite(alignment_matrix(head[:, :2])).all()


def test_every_real_face_is_accepted_and_none_with_swapped_points(shared_data):
    listed = (shared_data / "lfw" / "landmarks.jsonl").read_text(encoding="utf-8").splitlines()
    faces = np.array([each["r"]["pts"] for each in map(json.loads, listed) if each["r"]])
    assert alignment_matrix(faces).shape == (13232, 2, 3)
    for order in ([1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [1, 0, 2, 4, 3], [3, 4, 2, 0, 1]):
        for face in faces[::50, order]:
            with pytest.raises(ValueError, match="Swap"):
                alignment_matrix(face)


def bilinear(image, x, y):
    """The level at one place, black outside: the definition in plain words."""
    total = np.zeros(3)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                total = total + weight * image[row, column].astype(float)
    return np.rint(total)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("scale", "degrees", "shift"),
    [(1.5, 0, (10, 10)), (1.3, 25, (60, -30)), (0.6, -170, (200, 150)), (1.9, 5, (-40, 40))],
)
def test_pixels_are_bilinear_with_black_outside(template, scale, degrees, shift):
    shape = Crop.of(template=template)
    turned = moved(shape.points, scale, degrees, shift)
    crop = align_face(PHOTO, turned, template=template)
    assert crop.shape == (*shape.shape, 3)
    assert crop.dtype == np.uint8
    inverse = umeyama(shape.points, turned)
    for row in range(0, shape.height, 7):
        for column in range(0, shape.width, 7):
            x, y = inverse[:, :2] @ [column, row] + inverse[:, 2]
            np.testing.assert_allclose(crop[row, column], bilinear(PHOTO, x, y), atol=1)


def test_a_crop_at_its_own_places_is_itself():
    points = Crop.of().points
    crop = np.ascontiguousarray(PHOTO[:112, :112])
    np.testing.assert_array_equal(align_face(crop, points), crop)
    np.testing.assert_array_equal(
        align_face(PHOTO, points + np.array([20, 30])), PHOTO[30:142, 20:132]
    )


def test_what_lies_outside_the_photo_is_black():
    points = Crop.of().points
    crop = align_face(np.full((112, 112, 3), 200, "uint8"), points - [40, 0])
    assert (crop[:, :40] == 0).all()
    assert (crop[:, 40:] == 200).all()
    crop = align_face(np.full((80, 70, 3), 200, "uint8"), points + np.array([5, 6]))
    assert crop[73, 64].tolist() == [200] * 3 and crop[74:].sum() == crop[:, 65:].sum() == 0


@pytest.mark.parametrize("points", [face() + 1000, face() * 4, face() - 200, face() * 1e6])
def test_points_that_belong_to_another_image_are_refused(points):
    """Four times as large: found on the photo before it was shrunk."""
    with pytest.raises(ValueError, match="another image, or to this one at another size"):
        align_face(PHOTO, points)


def test_the_smallest_face_is_cut_out():
    points = Crop.of().points
    assert align_face(PHOTO, 100 + points / 20).shape == (112, 112, 3)  # eyes 1.8 pixels apart


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_a_fine_photo_is_averaged_not_sampled(factor):
    """A board of single pixels black and white is grey from afar; four neighbours would alias."""
    rng = np.random.default_rng(factor)
    side = 112 * factor
    board = rng.integers(0, 2, (side, side, 1)) * np.full(3, 255)
    points = Crop.of(side).points
    crop = align_face(board.astype("uint8"), points)
    blocks = board.reshape(112, factor, 112, factor, 3).mean((1, 3))
    np.testing.assert_allclose(crop, blocks, atol=0.51)
    turned = align_face(board.astype("uint8"), moved(points, 1, 90, (side - 1, 0)))
    np.testing.assert_allclose(turned, np.rot90(crop), atol=1)


def test_a_fine_photo_is_cut_at_the_same_place_as_a_coarse_one():
    rows, columns = np.mgrid[:500, :600]
    fine = np.stack([rows / 2, columns / 2, (rows + columns) / 4], -1)
    points = moved(Crop.of().points, 2.6, 12, (170, 90))
    crop = align_face(fine.astype("uint8"), points)
    matrix = alignment_matrix(points)
    y, x = np.mgrid[:112, :112]
    places = np.stack([x - matrix[0, 2], y - matrix[1, 2]], -1) @ np.linalg.inv(matrix[:, :2]).T
    inside = ((places > 4) & (places < [590, 490])).all(-1)
    assert inside.mean() > 0.8
    for channel, expected in enumerate(
        [places[..., 1] / 2, places[..., 0] / 2, places.sum(-1) / 4]
    ):
        np.testing.assert_allclose(crop[inside, channel], expected[inside] - 0.5, atol=1.2)


def test_a_crop_of_another_size_shows_the_same():
    rows, columns = np.mgrid[:300, :300]
    smooth = np.stack([rows, columns, rows], -1) / 300 * 255
    smooth = smooth.astype("uint8")
    small, large = align_face(smooth, face()), align_face(smooth, face(), size=224)
    resized = np.asarray(Image.fromarray(large).resize((112, 112), Image.Resampling.BOX))
    assert np.abs(resized.astype(float) - small).max() <= 2


@pytest.mark.parametrize(
    "image",
    [
        PHOTO.astype("float32"),
        PHOTO[..., 0],
        PHOTO[None],
        np.zeros((0, 5, 3), "uint8"),
        PHOTO[..., :1],
        "photo.jpg",
    ],
    ids=["float", "grey", "batch", "empty", "one channel", "path"],
)
def test_an_image_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match=r"uint8 array of shape \(H, W, 3\).*Received"):
        align_face(image, face())


def test_photos_are_read_at_any_shape_by_the_rules_of_faces(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(PHOTO).save(path)
    np.testing.assert_array_equal(read_photo(path), PHOTO)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO).save(path, exif=exif)
    np.testing.assert_array_equal(read_photo(path), np.rot90(PHOTO, -1))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadImage):
        read_photo(path)


def real_photos(shared_data):
    """(name, photo, points) of the 250 unaligned photos."""
    listed = (shared_data / "lfw" / "landmarks.jsonl").read_text(encoding="utf-8").splitlines()
    points = {each["file"]: each["r"]["pts"] for each in map(json.loads, listed) if each["r"]}
    for path in sorted((shared_data / "photos").glob("*/*.jpg")):
        name = f"{path.parent.name}/{path.name}"
        yield name, read_photo(path), np.array(points[name])


def test_real_crops_equal_those_made_by_others(shared_data):
    """The crops of others were saved as JPEG: what differs is its loss."""
    differences = []
    for name, photo, points in real_photos(shared_data):
        theirs = read_face(shared_data / "lfw" / "aligned" / name).astype(float)
        differences.append(np.abs(align_face(photo, points) - theirs).mean())
    assert len(differences) == 250
    assert np.mean(differences) < 1.6
    assert np.max(differences) < 3


def test_real_crops_equal_opencv(shared_data):
    cv2 = pytest.importorskip("cv2")
    for _, photo, points in list(real_photos(shared_data))[::10]:
        theirs = cv2.warpAffine(photo, alignment_matrix(points), (112, 112)).astype(float)
        assert np.abs(align_face(photo, points) - theirs).mean() < 0.05


def test_real_crops_embed_like_those_made_by_others(shared_data):
    from keras_facemargin.evaluate import cosine_scores, embed
    from keras_facemargin.zoo import load_embedder

    ours, theirs = [], []
    for name, photo, points in list(real_photos(shared_data))[::5]:
        ours.append(align_face(photo, points))
        theirs.append(read_face(shared_data / "lfw" / "aligned" / name))
    embedder = load_embedder("spherenet_distilled")
    both = embed(embedder, np.stack(ours + theirs), progress=False)
    assert cosine_scores(both[: len(ours)], both[len(ours) :]).min() > 0.98
