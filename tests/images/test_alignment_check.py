"""The alignment report on faces moved by known amounts, and on real folders."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.data import (
    FaceFolder,
    FaceRecords,
    FaceTFRecords,
    write_face_records,
    write_face_tfrecords,
)
from keras_facemargin.data.faces import Faces
from keras_facemargin.images import synthesize_faces
from keras_facemargin.images.align import align_face
from keras_facemargin.images.alignment_check import (
    alignment_report,
    doubt,
    larger,
    mean_face_similarity,
    warn_unaligned,
)
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import read_face


@pytest.fixture(scope="module")
def faces():
    return synthesize_faces(20, 1)[0]


def moved(images, scale=1.0, turn=0.0, shift=(0, 0)):
    """Scaled and turned (clockwise, degrees) about the middle of the face, then shifted."""
    middle = np.array([55.5, 69.5]) + 0.5  # Pillow counts from the corner of a pixel
    c, s = np.cos(np.radians(turn)) / scale, np.sin(np.radians(turn)) / scale
    back = np.array([[c, s], [-s, c]])
    start = middle - back @ (middle + shift)
    data = (*back[0], start[0], *back[1], start[1])
    return np.stack(
        [
            np.asarray(
                Image.fromarray(image).transform(
                    (112, 112), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC
                )
            )
            for image in images
        ]
    )


def test_faces_on_the_template_have_no_finding(faces):
    report = alignment_report(faces)
    assert report.aligned and report.findings == ()
    assert report.images == 20 and report.unread == 0
    assert report.correlation > 0.9
    assert "aligned to the template" in str(report)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"shift": (8, 0)}, "pixels to the right"),
        ({"shift": (-8, 0)}, "pixels to the left"),
        ({"shift": (0, 8)}, "pixels down"),
        ({"shift": (0, -4)}, "pixels up"),
        ({"scale": 1.2}, "times as large"),
        ({"scale": 0.6}, "times as large"),
        ({"turn": 10}, "10 degrees clockwise"),
        ({"turn": -10}, "10 degrees counter-clockwise"),
        ({"turn": 90}, "degrees clockwise"),
    ],
)
def test_the_report_finds_how_the_faces_were_moved(faces, how, message):
    report = alignment_report(moved(faces, **how))
    assert not report.aligned
    assert any(message in finding for finding in report.findings), report
    assert report.scale == pytest.approx(how.get("scale", 1.0), rel=0.04)
    assert report.turn == pytest.approx(how.get("turn", 0.0), abs=2)
    assert report.shift == pytest.approx(how.get("shift", (0, 0)), abs=1)


def test_upside_down_and_swapped_channels(faces):
    assert alignment_report(faces[:, ::-1]).findings == ("The faces are upside down.",)
    (finding,) = alignment_report(faces[..., ::-1]).findings
    assert "BGR" in finding
    grey = np.repeat(faces.mean(-1, keepdims=True), 3, -1).astype("uint8")
    assert alignment_report(grey).aligned


def test_a_mirrored_set_is_aligned(faces):
    assert alignment_report(faces[:, :, ::-1]).aligned


@pytest.mark.parametrize("kind", ["noise", "black", "ramp"])
def test_images_that_are_not_faces_are_reported(kind):
    images = {
        "noise": np.random.default_rng(0).integers(0, 256, (20, 112, 112, 3)),
        "black": np.zeros((20, 112, 112, 3)),
        "ramp": np.broadcast_to(np.arange(112)[:, None, None], (20, 112, 112, 3)),
    }[kind].astype("uint8")
    (finding,) = alignment_report(images).findings
    assert "do not resemble" in finding


def test_folders_sets_and_lists_give_the_same_report(faces, tmp_path):
    for index, image in enumerate(faces):
        folder = tmp_path / f"person{index % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:02}.png")
    paths = sorted(tmp_path.glob("*/*.png"))
    (tmp_path / "person0" / ".hidden").write_bytes(b"x")
    expected = alignment_report(faces)
    for given in (tmp_path, str(tmp_path), FaceFolder(tmp_path), paths):
        report = alignment_report(given)
        assert report.correlation == pytest.approx(expected.correlation, abs=1e-6)
    assert alignment_report(tmp_path, most=12).images == 12
    (tmp_path / "person0" / "wide.png").write_bytes(b"")
    report = alignment_report(tmp_path)
    assert (report.images, report.unread, report.aligned) == (20, 1, False)
    assert "wide.png" in report.findings[0] and "empty" in report.findings[0]


@pytest.mark.parametrize(
    "crop",
    [Crop.of((112, 96)), Crop.of(150), Crop.of(160), Crop(112, 112, "dlib")],
    ids=["112x96", "150", "160", "dlib's in ArcFace's size"],
)
def test_crops_of_other_templates_are_judged_by_their_own(faces, crop):
    points = Crop.of().points
    cut = np.stack([align_face(image, points, crop) for image in faces])
    report = alignment_report(cut, crop)
    assert report.aligned, report
    assert report.shift == pytest.approx((0, 0), abs=0.5)
    assert report.scale == pytest.approx(1, abs=0.02)
    assert report.correlation > 0.9
    lower = points - [0, 6]  # the photo is cut 6 pixels too high
    moved = np.stack([align_face(image, lower, crop) for image in faces])
    report = alignment_report(moved, crop)
    assert report.shift == pytest.approx((0, 6), abs=1)
    assert any("pixels down" in finding for finding in report.findings)
    assert doubt(cut[:3], crop) is None
    assert doubt(np.zeros_like(cut[:3]), crop) is not None


def test_a_crop_of_another_template_does_not_pass_as_dlibs(faces):
    cut = np.stack([align_face(image, Crop.of().points, Crop(150, 150)) for image in faces])
    assert alignment_report(cut, Crop(150, 150, "arcface")).aligned
    assert not alignment_report(cut).aligned


def test_crops_without_a_template_are_not_judged():
    images = np.zeros((20, 96, 112, 3), "uint8")
    assert doubt(images) is None
    warn_unaligned(images, "faces")  # the test fails at a warning


def test_photos_that_are_not_square_are_named(tmp_path):
    for index in range(15):
        Image.new("RGB", (100, 120)).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match=r"at least 12 images.*0 that can.*15 that cannot.*Align"):
        alignment_report(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((20, 112, 112, 3)), "uint8 array.*float64"),
        (np.zeros((20, 112, 112, 1), "uint8"), r"\(20, 112, 112, 1\)"),
        (np.zeros((20, 96, 112, 3), "uint8"), "Received: 96x112 without a template"),
        (np.zeros((3, 112, 112, 3), "uint8"), "at least 12 images. Received: 3"),
        ([], "Received: 0"),
        ("/no/such/folder", "folder of face crops is needed. Received: '/no/such/folder'"),
    ],
)
def test_too_little_or_another_kind_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        alignment_report(given)


def test_the_command_and_its_exit_code(faces, tmp_path):
    from typer.testing import CliRunner

    from keras_facemargin.cli import app

    for index, image in enumerate(faces):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    ran = CliRunner().invoke(app, ["align", str(tmp_path), "--check"])
    assert ran.exit_code == 0 and "aligned to the template" in ran.output
    for index, image in enumerate(faces):
        Image.fromarray(image[::-1]).save(tmp_path / f"{index}.png")
    ran = CliRunner().invoke(app, ["align", str(tmp_path), "--check"])
    assert ran.exit_code == 1 and "upside down" in ran.output
    with pytest.raises(ValueError, match="--check"):
        CliRunner().invoke(app, ["align", str(tmp_path)], catch_exceptions=False)


def test_the_commands_warn_of_faces_slightly_off_the_template(faces):
    from keras_facemargin.cli.alignment import note_unaligned

    note_unaligned(Listed(faces))
    note_unaligned(Listed(faces[:5]))
    with pytest.warns(UserWarning, match="do not resemble an upright face"):
        note_unaligned(Listed(faces[:5, ::-1]))
    with pytest.warns(UserWarning, match=r"5\.\d pixels to the right.*facemargin align"):
        note_unaligned(Listed(moved(faces, shift=(5, 0))))
    note_unaligned(Listed(faces[:, ::-1]))  # opening it has warned


@pytest.fixture
def containers(tmp_path):
    """Functions that open the same images as a folder, a .rec and a .tfrecord."""

    def write(images):
        files, labels = [], [index % 2 for index in range(len(images))]
        for index, image in enumerate(images):
            path = tmp_path / "people" / str(labels[index]) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            files.append(path)
        write_face_records(tmp_path / "a.rec", files, labels)
        write_face_tfrecords(tmp_path / "a.tfrecord", files, labels)
        return {
            FaceFolder: tmp_path / "people",
            FaceRecords: tmp_path / "a.rec",
            FaceTFRecords: tmp_path / "a.tfrecord",
        }

    return write


def smaller(images):
    """Like unaligned photos of 250x250: the face is about half as large."""
    return moved(images, scale=0.52, shift=(0, -10))


@pytest.mark.parametrize("kind", [FaceFolder, FaceRecords, FaceTFRecords])
@pytest.mark.parametrize(
    "spoil", [smaller, lambda images: images[..., ::-1]], ids=["photos", "BGR"]
)
def test_opening_a_set_that_is_not_aligned_warns_where_the_user_is(faces, containers, kind, spoil):
    place = containers(spoil(faces))[kind]
    with pytest.warns(UserWarning, match=r"must be face crops aligned.*`facemargin align`") as seen:
        opened = kind(place)
    (warning,) = seen
    assert str(warning.message).startswith(f"{place}: ")
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.split_images(1)  # no image is checked again


@pytest.mark.parametrize("kind", [FaceFolder, FaceRecords, FaceTFRecords])
def test_opening_aligned_crops_and_small_sets_is_silent(faces, containers, kind):
    framed = faces.copy()
    framed[:, :20] = framed[:, :, :10] = 0  # crops whose photo ended there
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (smaller(faces[:11]), framed):
            assert kind(containers(images)[kind])
        if kind is not FaceFolder:
            assert kind(containers(smaller(faces))[kind], check=False)


def test_few_images_are_judged_by_their_similarity_to_the_mean_face(faces):
    assert mean_face_similarity(faces[:2]) > 0.3
    assert doubt(faces[:2]) is None
    for wrong in (faces[:2, ::-1], np.rot90(faces[:2], axes=(1, 2)), np.zeros_like(faces[:2])):
        assert mean_face_similarity(np.ascontiguousarray(wrong)) < 0.16
        assert "do not resemble an upright face" in doubt(np.ascontiguousarray(wrong))


def test_pairs_of_aligned_crops_pass_and_pairs_of_photos_do_not(shared_data):
    def pairs(pattern, count):
        paths = sorted(shared_data.glob(pattern))
        chosen = paths[:: len(paths) // (2 * count)][: 2 * count]
        return list(zip(chosen[::2], chosen[1::2], strict=True))

    def doubted(pattern, count):
        return np.mean([doubt(pair) is not None for pair in pairs(pattern, count)])

    # Measured on all of them: 0.05%, 0.1% and 91%.
    assert doubted("lfw/aligned/A*/*.jpg", 25) == 0
    assert doubted("celeb/train/*/*.jpg", 25) == 0
    assert doubted("photos/*/*.jpg", 25) >= 0.8  # 250x250, resized to 112


def test_larger_files_are_found_and_unreadable_ones_left_to_their_reader(tmp_path):
    for name, size in (("a.png", (112, 112)), ("b.png", (250, 250)), ("c.png", (90, 113))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "junk.png").write_bytes(b"junk")
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"]
    crop = Crop.of(112)
    assert larger(paths, crop) == [
        (tmp_path / "b.png", 250, 250),
        (tmp_path / "c.png", 90, 113),
    ]
    assert len(larger(paths * 100, crop, most=30)) < 30


class Listed(Faces):
    """Images in memory as a set of faces."""

    def __init__(self, images):
        self._set(
            source="memory",
            image_size=112,
            paths=[Png(image) for image in images],
            labels=range(len(images)),
            identities=[],
            plain=[],
            skipped=[],
        )


class Png:
    def __init__(self, image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        self._bytes = buffer.getvalue()

    def read_bytes(self):
        return self._bytes


def folders(paths, count):
    rng = np.random.default_rng(5)
    paths = sorted(paths)
    for _ in range(count):
        chosen = rng.choice(len(paths), 20, replace=False)
        yield np.stack([read_face(paths[index]) for index in chosen])


def test_real_folders_of_twenty(shared_data):
    """Aligned crops pass; the same moved, and photos, do not."""
    for crops in folders((shared_data / "lfw" / "aligned").glob("A*/*.jpg"), 2):
        assert alignment_report(crops).aligned
        for how in ({"shift": (8, 0)}, {"scale": 1.2}, {"turn": 10}):
            assert not alignment_report(moved(crops, **how)).aligned
        assert not alignment_report(crops[:, ::-1]).aligned
        assert not alignment_report(crops[..., ::-1]).aligned
    for photos in folders((shared_data / "photos").glob("*/*.jpg"), 2):
        report = alignment_report(photos)
        assert report.scale == pytest.approx(0.51, abs=0.04)
        assert not report.aligned


@pytest.mark.parametrize(
    "place", ["lfw/aligned", "celeb/train", "celeb2/train", "groups/faces", "celeb2/unlabelled"]
)
def test_real_aligned_sets_are_clearly_on_the_template(shared_data, place):
    """Soft crops, black frames and faces of every group among them; in sets of 12 and of all."""
    paths = sorted((shared_data / place).rglob("*.jpg"))
    assert not alignment_report(paths).clearly_off
    rng = np.random.default_rng(0)
    for _ in range(4):
        chosen = [paths[index] for index in rng.choice(len(paths), 12, replace=False)]
        assert not alignment_report(chosen).clearly_off


def test_real_photos_are_clearly_off_the_template(shared_data):
    for photos in folders((shared_data / "photos").glob("*/*.jpg"), 3):
        assert alignment_report(photos[:12]).clearly_off
