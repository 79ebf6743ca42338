"""Folders of photos to folders of crops: names, misses, stops in the middle, files of points."""

import csv
import json
import os
import stat
import subprocess
import sys

import numpy as np
import processes
import pytest
from PIL import Image

from keras_facemargin.data import FaceFolder
from keras_facemargin.files import exclusive
from keras_facemargin.images import synthesize_faces
from keras_facemargin.images.align import align_face
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.detect import DetectedFace
from keras_facemargin.images.image import read_face, read_photo
from keras_facemargin.images.landmarks import read_landmarks
from keras_facemargin.images.photos import align_folder

POINTS = 1.2 * Crop.of().points + 15


def photo(seed, shape=(200, 180)):
    """Smooth enough for JPEG to keep."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype("uint8")
    image = Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


@pytest.fixture
def photos(tmp_path):
    """ada/1.png, ada/2.png, bob/sub/1.jpg, bob/none.png (dark: no face)."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(["ada/1.png", "ada/2.png", "bob/sub/1.jpg"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed)).save(folder / name)
    Image.fromarray(np.zeros((150, 150, 3), "uint8")).save(folder / "bob" / "none.png")
    (folder / "ada" / ".DS_Store").write_bytes(b"x")
    return folder


def detect(image):
    """A face wherever the photo is not black."""
    if not image.any():
        return []
    box = np.concatenate([POINTS.min(0), POINTS.max(0)])
    return [DetectedFace(box, 0.9, POINTS), DetectedFace(box * 0.1, 0.8, POINTS * 0.1)]


def files(folder):
    return sorted(
        os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )


def test_folders_are_kept_and_misses_named(photos, tmp_path):
    done = align_folder(photos, tmp_path / "faces", detector=detect)
    assert files(tmp_path / "faces") == ["ada/1.png.jpg", "ada/2.png.jpg", "bob/sub/1.jpg"]
    assert (done.written, done.kept, done.several) == (3, 0, 3)
    assert [(miss.path, miss.reason) for miss in done.misses] == [
        ("bob/none.png", "the detector found no face.")
    ]
    with open(tmp_path / "faces.misses.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "reason"],
            ["bob/none.png", "the detector found no face."],
        ]
    expected = align_face(read_photo(photos / "ada" / "1.png"), POINTS)
    crop = read_face(tmp_path / "faces" / "ada" / "1.png.jpg")
    assert np.abs(crop.astype(float) - expected).mean() < 2


def test_the_crops_open_as_a_face_folder(photos, tmp_path):
    (photos / "bob" / "none.png").unlink()
    (photos / "bob" / "sub" / "1.jpg").rename(photos / "bob" / "1.jpg")
    (photos / "bob" / "sub").rmdir()
    align_folder(photos, tmp_path / "faces", detector=detect)
    assert len(FaceFolder(tmp_path / "faces")) == 3
    assert not (tmp_path / "faces.misses.csv").exists()


def test_every_bad_photo_is_a_miss_and_ends_nothing(photos, tmp_path):
    (photos / "ada" / "0.jpg").write_bytes(b"")
    (photos / "ada" / "notes.txt").write_text("Ada, 1843")
    torn = (photos / "ada" / "1.png").read_bytes()[:900]
    (photos / "ada" / "torn.png").write_bytes(torn)
    (photos / "ada" / "1.png.jpg").write_bytes((photos / "bob" / "sub" / "1.jpg").read_bytes())
    os.symlink(photos / "gone.jpg", photos / "ada" / "link.jpg")

    done = align_folder(photos, tmp_path / "faces", detector=detect)
    reasons = {miss.path: miss.reason for miss in done.misses}
    assert set(reasons) == {
        "ada/0.jpg",
        "ada/notes.txt",
        "ada/torn.png",
        "ada/1.png.jpg",
        "ada/link.jpg",
        "bob/none.png",
    }
    assert "empty" in reasons["ada/0.jpg"]
    assert "not an image" in reasons["ada/notes.txt"]
    assert "Rename" in reasons["ada/1.png.jpg"]
    assert "No such file" in reasons["ada/link.jpg"]
    assert done.written == 3


def test_photos_of_every_kind_and_name_become_crops(tmp_path):
    upright = photo(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = np.dstack([upright, np.full(upright.shape[:2], 255, "uint8")])
    grey = np.asarray(Image.fromarray(upright).convert("L"))
    kinds = {
        "李 娜/grau ü.png": (grey, {}),
        "李 娜/alpha.png": (alpha, {}),
        "李 娜/16 bit.png": (grey.astype("uint16") << 8, {}),
        "Zoë Müller/turned.jpg": (np.rot90(upright), {"exif": turned, "quality": 100}),
    }
    for name, (pixels, options) in kinds.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "photos" / name, **options)
    ink = Image.fromarray(upright).convert("CMYK")
    ink.save(tmp_path / "photos" / "Zoë Müller" / "ink.jpg", quality=100)
    done = align_folder(tmp_path / "photos", tmp_path / "faces", detector=detect)
    assert (done.written, done.misses) == (5, [])
    for name in [*kinds, "Zoë Müller/ink.jpg"]:
        crop = name if name.endswith(".jpg") else f"{name}.jpg"
        found = read_face(tmp_path / "faces" / crop).astype(float)
        expected = align_face(
            upright if name[0] == "Z" or "alpha" in name else spread(grey), POINTS
        )
        assert np.abs(found - expected).mean() < 3, name


def spread(pixels):
    return np.repeat(pixels[..., None], 3, axis=2)


def test_a_folder_with_one_photo(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(0)).save(tmp_path / "photos" / "only one.png")
    done = align_folder(tmp_path / "photos", tmp_path / "faces", detector=detect)
    assert (done.written, files(tmp_path / "faces")) == (1, ["only one.png.jpg"])


def test_points_of_no_face_are_a_miss(photos, tmp_path):
    def flat(image):
        return [DetectedFace(np.array([0, 0, 9, 9]), 0.9, np.full((5, 2), 4.0))]

    done = align_folder(photos, tmp_path / "faces", detector=flat)
    assert done.written == 0
    assert all("must not all be the same" in miss.reason for miss in done.misses)


def test_points_in_doubt_are_a_miss(photos, tmp_path):
    def unsure(image):
        return [face._replace(doubt="two windows differ.") for face in detect(image)]

    done = align_folder(photos, tmp_path / "faces", detector=unsure)
    assert done.written == 0
    reasons = {miss.reason for miss in done.misses}
    assert "its points are in doubt: two windows differ." in reasons


def test_a_second_run_makes_only_what_is_missing(photos, tmp_path):
    align_folder(photos, tmp_path / "faces", detector=detect)
    marked = tmp_path / "faces" / "ada" / "1.png.jpg"
    marked.write_bytes(b"as it was")
    (tmp_path / "faces" / "ada" / "2.png.jpg").unlink()
    seen = []

    def watching(image):
        seen.append(image.shape)
        return detect(image)

    watching.__qualname__ = detect.__qualname__
    done = align_folder(photos, tmp_path / "faces", detector=watching)
    assert (done.written, done.kept, len(done.misses), len(seen)) == (1, 2, 1, 2)
    assert marked.read_bytes() == b"as it was"


def test_a_stop_in_the_middle_leaves_whole_crops_and_the_misses_so_far(photos, tmp_path):
    (photos / "ada" / "0.jpg").write_bytes(b"")
    calls = []

    def stopping(image):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return detect(image)

    stopping.__qualname__ = detect.__qualname__
    with pytest.raises(KeyboardInterrupt):
        align_folder(photos, tmp_path / "faces", detector=stopping)
    assert files(tmp_path / "faces") == ["ada/1.png.jpg"]
    assert "ada/0.jpg" in (tmp_path / "faces.misses.csv").read_text()
    done = align_folder(photos, tmp_path / "faces", detector=detect)
    assert (done.written, done.kept) == (2, 1)


def test_one_process_at_a_time_writes_to_a_folder(photos, tmp_path):
    with (
        exclusive(tmp_path / "faces"),
        pytest.raises(BlockingIOError, match=r"Another process is writing to .*faces\. Received"),
    ):
        align_folder(photos, tmp_path / "faces", detector=detect)
    assert not (tmp_path / "faces").exists()
    assert align_folder(photos, tmp_path / "faces", detector=detect).written == 3
    assert not list(tmp_path.glob(".*lock"))


def test_all_that_is_written_has_the_mode_that_the_umask_allows(photos, tmp_path):
    before = os.umask(0o077)
    try:
        align_folder(photos, tmp_path / "faces", detector=detect)
    finally:
        os.umask(before)
    places = [tmp_path / "faces.misses.csv", *(tmp_path / "faces").rglob("*")]
    modes = {place.name: stat.S_IMODE(place.stat().st_mode) for place in places}
    assert len(modes) == 8 and set(modes.values()) == {0o600, 0o700}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_not_utf_8_is_listed_and_printed(photos, tmp_path, encoding):
    odd = os.fsdecode(b"ada/Zo\xeb.png")
    (photos / odd).write_bytes(b"no image")
    write_points(tmp_path / "points.csv", [("ada/1.png", POINTS)])
    text = (tmp_path / "points.csv").read_bytes() + b"1," + b"9," * 10 + b"ada/Zo\xeb.png\n"
    (tmp_path / "points.csv").write_bytes(text)
    process = processes.start(
        *("-m", "keras_facemargin", "align", photos, tmp_path / os.fsdecode(b"f\xeb")),
        *("--landmarks", tmp_path / "points.csv"),
        PYTHONIOENCODING=encoding,
    )
    ((code, output, error),) = processes.finish(process)
    assert code == 0, error
    assert "crops written" in output and "misses.csv" in output
    listed = (tmp_path / os.fsdecode(b"f\xeb.misses.csv")).read_bytes()
    assert b'ada/Zo\xeb.png,"not an image' in listed
    assert b"bob/none.png,the file of points lists no face" in listed
    process = processes.start(
        *("-m", "keras_facemargin", "align", photos, "--check"), PYTHONIOENCODING=encoding
    )
    ((code, output, error),) = processes.finish(process)
    assert code == 1 and "12 images" in error and "Traceback" not in error
    assert align_folder(photos, tmp_path / "faces", detector=detect).misses[0].path == odd


def test_a_crop_that_no_file_system_can_name_is_a_miss(photos, tmp_path):
    os.rename(photos / "ada" / "1.png", photos / "ada" / ("a" * 251 + ".png"))
    (tmp_path / "faces" / "ada" / "2.png.jpg").mkdir(parents=True)  # a folder of that name
    done = align_folder(photos, tmp_path / "faces", detector=detect)
    assert done.written == 1
    reasons = [miss.reason for miss in done.misses]
    assert "File name too long" in reasons[1] and "Is a directory" in reasons[0]


def returns(value):
    def detector(image):
        return value

    return detector


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        np.zeros((1, 15)),
        [(np.zeros(4), 0.9, POINTS)],
        [{"box": [0, 0, 9, 9], "keypoints": {}}],
        [DetectedFace(np.zeros(4), 0.9, POINTS[:4])],
        [DetectedFace(None, 0.9, POINTS)],
        [DetectedFace(np.zeros(4), 0.9, {"left_eye": (1, 2)})],
    ],
)
def test_a_detector_that_returns_something_else_is_named(photos, tmp_path, value):
    with pytest.raises(
        ValueError, match=r"must return a list of DetectedFace(.|\n)*Received(.|\n)*for ada/1\.png"
    ):
        align_folder(photos, tmp_path / "faces", detector=returns(value))


def test_any_sequence_of_faces_is_taken(photos, tmp_path):
    face = DetectedFace(tuple(range(4)), np.float32(0.9), POINTS.tolist())
    assert align_folder(photos, tmp_path / "one", detector=returns((face,))).written == 4
    assert align_folder(photos, tmp_path / "none", detector=returns(())).written == 0


@pytest.mark.parametrize(
    "box",
    [POINTS.min(0).tolist() + np.ptp(POINTS, axis=0).tolist(), [0.2, 0.3, 0.6, 0.7]],
    ids=["width and height", "parts of the photo"],
)
def test_boxes_of_another_kind_do_not_choose_a_face(photos, tmp_path, box):
    other = DetectedFace(np.array([0, 0, 40, 40]), 0.9, POINTS * 0.2)
    faces = [DetectedFace(np.array(box), 0.9, POINTS), other]
    done = align_folder(photos, tmp_path / "faces", detector=returns(faces))
    assert done.written == 0
    assert "left, top, right, bottom in pixels" in done.misses[0].reason
    unknown = [faces[0]._replace(box=np.full(4, np.nan)), other]
    assert align_folder(photos, tmp_path / "others", detector=returns(unknown)).written == 4


def in_parts(points):
    return points / [180, 200]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (in_parts, "must be in pixels of the photo"),
        (lambda points: 2 * in_parts(points) - 1, "must be in pixels of the photo"),
        (lambda points: np.full((5, 2), 50.0), "must not all be the same"),
        (lambda points: points * np.nan, "must be finite numbers"),
        (lambda points: points * 5, "to this one at another size"),
    ],
    ids=["0 to 1", "-1 to 1", "equal", "NaN", "larger photo"],
)
def test_points_in_another_unit_are_misses_that_say_so(photos, tmp_path, change, reason):
    write_points(tmp_path / "points.jsonl", [("ada/1.png", change(POINTS)), ("ada/2.png", POINTS)])
    done = align_folder(photos, tmp_path / "faces", landmarks=tmp_path / "points.jsonl")
    assert files(tmp_path / "faces") == ["ada/2.png.jpg"]
    assert reason in done.misses[0].reason


def test_points_that_give_crops_off_the_template_are_warned_of(tmp_path):
    faces, _ = synthesize_faces(14, 1)
    (tmp_path / "photos").mkdir()
    lines = []
    for number, face in enumerate(faces):
        image = Image.new("RGB", (300, 300))
        image.paste(Image.fromarray(face), (90, 60))
        image.save(tmp_path / "photos" / f"{number}.png")
        lines.append((f"{number}.png", Crop.of().points + np.array([90, 60])))
    write_points(tmp_path / "right.csv", lines)
    write_points(tmp_path / "percent.csv", [(name, points / 3) for name, points in lines])
    align_folder(tmp_path / "photos", tmp_path / "right", landmarks=tmp_path / "right.csv")
    with pytest.warns(UserWarning, match=r"must be face crops aligned.*Points must be in pixels"):
        done = align_folder(
            tmp_path / "photos", tmp_path / "percent", landmarks=tmp_path / "percent.csv"
        )
    assert done.written == 14


@pytest.mark.parametrize("prefix", ["/home/ada/photos/", "./", "photos/", "\\"])
def test_points_of_no_photo_are_refused_before_one_is_read(photos, tmp_path, prefix):
    write_points(tmp_path / "points.csv", [(prefix + "ada/1.png", POINTS)])
    with pytest.raises(ValueError, match=r"names none of them.*ada/1\.png"):
        align_folder(photos, tmp_path / "faces", landmarks=tmp_path / "points.csv")
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_points_are_read_with_a_byte_order_mark_and_utf_16_is_named(tmp_path, ending):
    path = tmp_path / f"points{ending}"
    write_points(path, [("Zoë\u2028/1.jpg", POINTS)])
    text = path.read_bytes().decode()
    path.write_bytes(text.encode("utf-8-sig"))
    assert list(read_landmarks(path)) == ["Zoë\u2028/1.jpg"]
    for encoding in ("utf-16", "utf-16-le"):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match=r"must be a file of points in UTF-8.*UTF-16"):
            read_landmarks(path)


def test_a_full_disk_loses_no_finished_crop(photos, tmp_path, monkeypatch):
    replace, made = os.replace, []

    def full(draft, target):
        if target.suffix == ".jpg":
            if made:
                raise OSError(28, "No space left on device", target)
            made.append(target)
        replace(draft, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"disk is full.*ada/2\.png\.jpg"):
        align_folder(photos, tmp_path / "faces", detector=detect)
    assert files(tmp_path / "faces") == ["ada/1.png.jpg"]
    drafts = [name for _, _, names in os.walk(tmp_path) for name in names if "draft" in name]
    assert drafts == []


@pytest.mark.parametrize(
    "other", [{"template": "sphereface"}, {"size": 224}, {"choose": "largest"}]
)
def test_crops_of_other_settings_are_not_mixed(photos, tmp_path, other):
    align_folder(photos, tmp_path / "faces", detector=detect)
    with pytest.raises(ValueError, match=r"same settings.*Received.*Name another folder"):
        align_folder(photos, tmp_path / "faces", detector=detect, **other)
    done = align_folder(photos, tmp_path / "others", detector=detect, **other)
    assert done.written == 3


def test_sphereface_crops_have_96_columns(photos, tmp_path):
    align_folder(photos, tmp_path / "faces", detector=detect, template="sphereface")
    with Image.open(tmp_path / "faces" / "bob" / "sub" / "1.jpg") as crop:
        assert crop.size == (96, 112)


def test_the_choice_is_made(photos, tmp_path):
    def pair(image):
        far = POINTS + 60
        return [
            DetectedFace(np.array([80, 90, 100, 110]), 0.9, POINTS),
            DetectedFace(np.array([60, 70, 230, 240]), 0.9, far),
        ]

    align_folder(photos, tmp_path / "center", detector=pair)
    align_folder(photos, tmp_path / "largest", detector=pair, choose="largest")
    image = read_photo(photos / "ada" / "1.png")
    for choose, points in (("center", POINTS), ("largest", POINTS + 60)):
        crop = read_face(tmp_path / choose / "ada" / "1.png.jpg").astype(float)
        assert np.abs(crop - align_face(image, points)).mean() < 3


def test_links_are_followed_and_circles_ended(photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(photo(9)).save(elsewhere / "1.jpg")
    os.symlink(elsewhere, photos / "cyd")
    os.symlink(photos, photos / "zoe")
    align_folder(photos, tmp_path / "faces", detector=detect)
    assert "cyd/1.jpg" in files(tmp_path / "faces")
    assert not any(name.startswith("zoe") for name in files(tmp_path / "faces"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"detector": detect, "landmarks": "points.csv"}, "exactly one"),
        ({"detector": detect, "choose": "first"}, "choose='first'"),
        ({"detector": detect, "template": "facenet"}, "template='facenet'"),
        ({"detector": detect, "size": 0}, "height=0"),
        ({"detector": "yunet"}, "MODULE:FUNCTION"),
        ({"landmarks": "points.txt"}, r"\.jsonl or a \.csv"),
    ],
)
def test_bad_arguments_are_refused_before_a_photo_is_read(photos, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        align_folder(photos, tmp_path / "faces", **arguments)
    assert not (tmp_path / "faces").exists()


def test_folders_inside_one_another_are_refused(photos, tmp_path):
    for destination in (photos, photos / "crops", tmp_path):
        with pytest.raises(ValueError, match=r"separate folders.*Received"):
            align_folder(photos, destination, detector=detect)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must have a photo"):
        align_folder(tmp_path / "empty", tmp_path / "faces", detector=detect)
    with pytest.raises(ValueError, match="folder of photos is needed"):
        align_folder(tmp_path / "gone", tmp_path / "faces", detector=detect)


def write_points(path, faces):
    if path.suffix == ".csv":
        columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["score", *reversed(columns), "file"])
            for name, points in faces:
                writer.writerow(["", *reversed(points.ravel().tolist()), name])
    else:
        lines = [json.dumps({"file": name, "points": points.tolist()}) for name, points in faces]
        path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_points_that_are_known_replace_the_detector(photos, tmp_path, ending):
    path = tmp_path / f"points{ending}"
    write_points(
        path, [("ada/1.png", POINTS), ("ada/1.png", POINTS * 0.1), ("bob/sub/1.jpg", POINTS)]
    )
    faces = read_landmarks(path)
    assert {name: len(each) for name, each in faces.items()} == {"ada/1.png": 2, "bob/sub/1.jpg": 1}
    np.testing.assert_allclose(faces["ada/1.png"][0].points, POINTS)
    assert np.isnan(faces["ada/1.png"][0].score)
    done = align_folder(photos, tmp_path / "faces", landmarks=path)
    align_folder(photos, tmp_path / "detected", detector=detect)
    assert done.written == 2 and done.several == 1
    assert [miss.path for miss in done.misses] == ["ada/2.png", "bob/none.png"]
    assert "lists no face" in done.misses[0].reason
    for name in ("ada/1.png.jpg", "bob/sub/1.jpg"):
        ours = (tmp_path / "faces" / name).read_bytes()
        assert ours == (tmp_path / "detected" / name).read_bytes()


def test_other_points_are_other_settings(photos, tmp_path):
    path = tmp_path / "points.csv"
    write_points(path, [("ada/1.png", POINTS)])
    align_folder(photos, tmp_path / "faces", landmarks=path)
    write_points(path, [("ada/1.png", POINTS + 3)])
    with pytest.raises(ValueError, match="same settings"):
        align_folder(photos, tmp_path / "faces", landmarks=path)


HEADER = "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        (".jsonl", '{"file": "a.jpg"}\n', "line 1"),
        (".jsonl", '{"file": "a.jpg", "points": [[1, 2]]}\n', "line 1"),
        (
            ".jsonl",
            '\n\n{"file": 3, "points": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]}\n',
            "line 3",
        ),
        (".jsonl", "[1, 2]\n", "line 1"),
        (".jsonl", "not json\n", "line 1"),
        (".csv", HEADER + "a.jpg,1,2,3,4,5,6,7,8,9,ten\n", "line 2"),
        (".csv", HEADER + "a.jpg,1,2,3,4,5,6,7,8,9\n", "line 2"),
        (".csv", "file,x1,y1\na.jpg,1,2\n", "without x2, y2"),
        (".csv", "", "without file"),
        (".csv", HEADER.replace(",", ";") + "a.jpg;1;2\n", "with semicolons"),
        (".csv", HEADER + '"a.jpg,1,2,3,4,5,6,7,8,9,10\nb.jpg' + ",1" * 10 + "\n", "line 2"),
        (".csv", HEADER + '"a\n.jpg"' + ",1" * 10 + "\n", "line 2"),
        (".jsonl", '{"file": "a.jpg", "points": ' + "[" * 100_000 + "\n", "line 1"),
        (".jsonl", '{"file": "a.jpg", "points": [[1e999, 2]]}\n', "line 1"),
        (".jsonl", '{"file": "a.jpg", "points": [[' + "9" * 5000 + ", 2]]}\n", "line 1"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, ending, text, message):
    path = tmp_path / f"points{ending}"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)Received.*{message}"):
        read_landmarks(path)


def test_the_command(photos, tmp_path):
    write_points(tmp_path / "points.csv", [("ada/1.png", POINTS), ("ada/2.png", POINTS)])
    command = [sys.executable, "-m", "keras_facemargin", "align", str(photos)]
    command += [str(tmp_path / "faces"), "--landmarks", str(tmp_path / "points.csv")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "crops written" in ran.stdout and "faces.misses.csv" in ran.stdout
    assert files(tmp_path / "faces") == ["ada/1.png.jpg", "ada/2.png.jpg"]
    ran = subprocess.run([*command, "--size", "224"], capture_output=True, text=True)
    assert ran.returncode == 1 and "Error:" in ran.stderr and "same settings" in ran.stderr


def test_real_photos_with_their_points(shared_data, tmp_path):
    """The 250 photos from the file of points that came with them."""
    path = tmp_path / "points.jsonl"
    with open(shared_data / "lfw" / "landmarks.jsonl", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["r"]]
    write_points(path, [(row["file"], np.array(row["r"]["pts"])) for row in rows])
    done = align_folder(shared_data / "photos", tmp_path / "faces", landmarks=path)
    assert (done.written, len(done.misses)) == (250, 0)
    for name in files(tmp_path / "faces")[::25]:
        theirs = read_face(shared_data / "lfw" / "aligned" / name).astype(float)
        assert np.abs(read_face(tmp_path / "faces" / name) - theirs).mean() < 3
