"""From photos to a decision: files of embeddings, thresholds, warnings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from one_sentence import assert_one_sentence
from PIL import Image

from keras_facemargin.cli.console import console
from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.zoo import DIRECTORY, load_card


def test_embed_writes_embeddings_and_paths(facemargin, model, faces):
    code, out, _ = facemargin("embed", faces, "-m", model, "-o", "new/folder/e.npz")
    assert code == 0
    assert "new/folder/e.npz: 64 embeddings of 48 numbers" in out
    with np.load("new/folder/e.npz", allow_pickle=False) as file:
        assert file["embeddings"].shape == (64, 48)
        assert file["embeddings"].dtype == "float32"
        assert list(file["paths"]) == [str(path) for path in sorted(faces.rglob("*.jpg"))]
    assert [path.name for path in Path("new/folder").iterdir()] == ["e.npz"]


def test_embed_takes_files_in_order_and_passes_over_hidden_ones(facemargin, model, faces):
    shutil.copytree(faces / "person_001", "more")
    Path("more/._000.jpg").write_bytes(b"junk")
    first = faces / "person_003" / "002.jpg"
    code, *_ = facemargin("embed", first, "more", "--no-flip", "-m", model, "-o", "e.npz")
    assert code == 0
    with np.load("e.npz") as file:
        assert file["embeddings"].shape == (9, 24)
        assert file["paths"][0] == str(first)


def test_verify_at_a_threshold_of_ones_own(facemargin, model, faces, monkeypatch):
    pair = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg", "--aligned"]
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "-1")
    assert (code, out.split(":")[0]) == (0, "same person")
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "1")
    assert (code, out.split(":")[0]) == (1, "different people")
    monkeypatch.setattr(console, "width", 30)  # a script reads the answer from one line
    code, out, _ = facemargin(
        "verify", pair[0], pair[0], "--aligned", "-m", model, "--threshold", "0.999"
    )
    assert (code, "same person: cosine 1.0000, threshold 0.9990" in out) == (0, True)
    assert_one_sentence(
        facemargin("verify", *pair, "-m", model, "--threshold", "0.5", "--far", "1e-4"),
        "--far 0.0001 and --threshold 0.5",
        expected_code=64,
    )


def test_verify_at_the_cards_threshold(facemargin, faces):
    different = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg", "--aligned"]
    chosen = load_card(DEFAULT).thresholds.find(mirrored=True)
    code, out, _ = facemargin("verify", *different)
    assert code == 1 and out.startswith("different people: ")
    assert f"threshold {chosen.cosine:.4f}" in out
    assert f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs" in out
    rare = load_card(DEFAULT).thresholds.find(far=1e-4, mirrored=True)
    code, out, _ = facemargin("verify", *different, "--far", "1e-4")
    assert code == 1 and f"threshold {rare.cosine:.4f}\n" in out and "FAR 0.0001 on" in out
    assert_one_sentence(
        facemargin("verify", *different, "--far", "1e-9"),
        *("far=1e-09; the card has", "0.001", "facemargin calibrate FACES"),
        expected_code=64,
    )


def test_verify_never_guesses_whether_an_image_is_a_crop(facemargin, model, faces):
    face = faces / "person_000" / "000.jpg"
    command = ("-m", model, "--threshold", "0.5")
    assert_one_sentence(
        facemargin("verify", face, face, *command),
        *("size of an aligned crop", f"{face} of 112x112", "--aligned if the", "--photos if"),
        expected_code=64,
    )
    Image.open(face).resize((250, 250)).save("photo.jpg")
    assert_one_sentence(
        facemargin("verify", face, "photo.jpg", "--aligned", *command),
        *("aligned crop has 112x112", "photo.jpg of 250x250", "Leave --aligned out"),
        expected_code=64,
    )
    # Images of the crop's size that are not crops: only the pixels show it.
    for index in range(2):
        turned = Image.open(faces / f"person_00{index}" / "000.jpg").rotate(180)
        turned.save(f"turned{index}.png")
    assert_one_sentence(
        facemargin("verify", "turned0.png", "turned1.png", "--aligned", *command),
        *("turned0.png and turned1.png", "do not resemble an upright face", "--photos"),
        expected_code=64,
    )
    code, _, error = facemargin("verify", face, face, "--aligned", *command)
    assert (code, error) == (0, "")


@pytest.fixture
def detector(faces, monkeypatch, tmp_path):
    """Photos with synthetic faces, and the name of a detector that knows their places.

    A photo is grey; red at its upper left pixel is the number of faces, each at its place.
    """
    (tmp_path / "facemargin_known_places.py").write_text(
        """
import numpy as np
from keras_facemargin.images import Crop, DetectedFace

def find(image):
    found = []
    for number in range(image[0, 0, 0] // 10):
        scale, left, top = number + 1, 20 + 130 * number, 30
        points = (Crop.of().points + 0.5) * scale - 0.5 + [left, top]
        doubt = "two windows disagree." if image[0, 0, 1] > 200 else None
        box = np.array([left, top, left + 112 * scale, top + 112 * scale])
        found.append(DetectedFace(box, 0.9, points, doubt))
    return found
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "facemargin_known_places:find"


def photo_of(path, *crops, doubtful=False):
    photo = Image.new("RGB", (600, 300), (128, 128, 128))
    for number, crop in enumerate(crops):
        scale = number + 1
        face = Image.open(crop).resize((112 * scale, 112 * scale), Image.Resampling.NEAREST)
        photo.paste(face, (20 + 130 * number, 30))
    photo.putpixel((0, 0), (10 * len(crops) + 5, 255 if doubtful else 0, 0))
    photo.save(path)
    return path


def test_verify_compares_the_largest_faces_or_the_chosen_ones(facemargin, model, faces, detector):
    one, other = faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"
    both, alone = photo_of("both.png", one, other), photo_of("alone.png", one)
    command = ("-m", model, "--threshold", "0.99", "--detector", detector)
    code, out, _ = facemargin("verify", both, alone, *command)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "both.png has 2 faces, largest first; face 1 is compared:"
    assert lines[1:3] == ["-> 1: 224x224 pixels at 150,30", "   2: 112x112 pixels at 20,30"]
    code, out, _ = facemargin("verify", both, alone, "--face", "2", *command)
    assert code == 0 and "same person" in out
    code, out, _ = facemargin("verify", alone, both, "--face", "1,2", "--json", *command)
    answer = json.loads(out)
    assert code == 0 and answer["verdict"] == "same" and answer["far"] is None
    assert answer["faces"][1] == {"photo": "both.png", "face": 2, "box": [20, 30, 132, 142]}
    assert answer["sentence"].startswith("same person: cosine 1.0000, threshold 0.9900 (your own)")
    for face, words in (("3", "--face 3 for both.png, which has 2"), ("0", "Received: --face 0")):
        result = facemargin("verify", both, alone, "--face", face, *command)
        assert_one_sentence(result, words, expected_code=64)


def test_verify_cannot_say_where_points_are_in_doubt(facemargin, model, faces, detector):
    face = faces / "person_000" / "000.jpg"
    doubtful, sound = photo_of("doubt.png", face, doubtful=True), photo_of("sound.png", face)
    command = ("-m", model, "--threshold", "0.5", "--detector", detector)
    code, out, _ = facemargin("verify", sound, doubtful, *command)
    assert code == 2 and out.startswith("cannot say: cosine")
    assert "The points of the second face are in doubt: two windows disagree." in out


def test_verify_reads_photos_of_every_kind_upright(facemargin, model, faces, detector):
    face = faces / "person_000" / "000.jpg"
    command = ("-m", model, "--threshold", "0.9", "--detector", detector)
    photo = Image.open(photo_of("photo.png", face))
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save("turned.png", exif=exif)
    second = Image.new("RGB", photo.size)
    photo.save("animated.webp", save_all=True, append_images=[second], lossless=True)
    for name in ("turned.png", "animated.webp"):
        code, _, error = facemargin("verify", "photo.png", name, *command)
        assert (code, error) == (0, ""), name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.new("RGB", (600, 300)).save("x.jpg"), "x.jpg: no face was found"),
        (lambda: Image.new("RGB", (20, 30)).save("x.jpg"), "x.jpg: no face was found"),
        (lambda: Image.new("CMYK", (300, 300)).save("x.jpg"), "x.jpg: no face was found"),
        (lambda: Image.new("I;16", (300, 300)).save("x.png"), "x.png: no face was found"),
        (lambda: Image.new("1", (16000, 12500)).save("x.png"), "at most 178 megapixels"),
        (lambda: Image.new("1", (17000, 20)).save("x.png"), "at most 16,384 pixels a side"),
        (lambda: Path("x.jpg").write_bytes(b""), "the file is empty"),
        (lambda: Path("x.jpg").write_bytes(b"x" * 50), "not an image in"),
    ],
)
def test_photos_that_verify_refuses(facemargin, model, make, words):
    make()
    (name,) = [path.name for path in Path().glob("x.*")]
    result = facemargin("verify", name, name, "-m", model, "--threshold", "0.5")
    assert_one_sentence(result, words, expected_code=64)


def test_an_error_of_verify_never_looks_like_an_answer(facemargin, model, monkeypatch):
    assert facemargin("verify", "x.jpg", "--nosuch")[0] == 64
    assert facemargin("verify", "x.jpg", "y.jpg", "--threshold", "2")[0] == 64
    assert facemargin("verify", "--help")[0] == 0
    for raised, code in ((KeyError("defect"), 70), (KeyboardInterrupt(), 64)):

        def fail(*arguments, raised=raised):
            raise raised

        monkeypatch.setattr("keras_facemargin.cli.faces.check_images", fail)
        assert facemargin("verify", "x.jpg", "y.jpg", "-m", model)[0] == code


def test_verify_on_real_photos(facemargin, shared_data):
    photos = sorted((shared_data / "photos" / "Tony_Blair").glob("*.jpg"))
    other = shared_data / "photos" / "Abdullah_Gul" / "Abdullah_Gul_0004.jpg"
    code, out, _ = facemargin("verify", *photos[:2])
    assert (code, out.split(":")[0]) == (0, "same person")
    code, out, _ = facemargin("verify", photos[0], other)
    assert (code, out.split(":")[0]) == (1, "different people")


@pytest.mark.filterwarnings("always")
def test_embed_warns_of_photos_with_the_checks_verdict(facemargin, model, faces):
    Path("photos").mkdir()
    Path("large").mkdir()
    for index, path in enumerate(sorted(faces.rglob("*.jpg"))[::4]):
        face = Image.open(path)
        face.resize((224, 224)).save(f"large/{index:02}.png")
        photo = Image.new("RGB", (250, 250), "grey")
        photo.paste(face, (69, 69))
        photo.save(f"photos/{index:02}.png")
    code, _, error = facemargin("embed", "photos", "-m", model)
    assert code == 0
    assert error.count("Warning") == 1
    assert "photos/00.png (250x250)" in error.replace("\n", "")
    assert "(16 images: shifted" in error
    code, _, error = facemargin("embed", "large", "-m", model)  # crops, if larger ones
    assert (code, "Warning" in error) == (0, False)
    for path in Path("photos").iterdir():
        Image.open(path).resize((112, 112)).save(path)
    code, _, error = facemargin("embed", "photos", "-m", model)
    assert error.count("Warning") == 1
    assert "(16 images: shifted" in error


def test_verify_takes_a_folder_with_a_card_and_the_file_in_it(facemargin, faces):
    pair = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg", "--aligned"]
    shutil.copytree(DIRECTORY / DEFAULT, "mine")
    _, expected, _ = facemargin("verify", *pair)
    for model in ("mine", "mine/", "mine/card.json", "mine/embedder.keras"):
        assert facemargin("verify", *pair, "-m", model)[:2] == (1, expected)
    card = json.loads(Path("mine/card.json").read_text())
    Path("mine/card.json").write_text(json.dumps(card | {"thresholds": None}))
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "mine"),
        *("A verdict needs a threshold", "`facemargin calibrate FACES --model MODEL`"),
        expected_code=64,
    )
    Path("mine/card.json").write_text(json.dumps(card | {"parameters": 5}))
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "mine"), "`parameters` must be that", expected_code=64
    )
    Path("mine/card.json").unlink()
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "mine/embedder.keras"),
        *("without mine/card.json", "calibrate FACES --model mine/embedder.keras"),
        expected_code=64,
    )
    Path("x.tflite").write_bytes(b"x")
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "x.tflite"),
        "x.tflite: the file cannot be",
        expected_code=64,
    )


def test_an_embedding_file_is_replaced_whole_or_not_at_all(facemargin, model, faces, monkeypatch):
    Path("e.npz").write_bytes(b"before")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device", "e.npz")

    monkeypatch.setattr(np, "savez", full)
    result = facemargin("embed", faces / "person_000", "-m", model, "-o", "e.npz")
    assert_one_sentence(result, "e.npz: The disk is full.")
    assert Path("e.npz").read_bytes() == b"before"
    assert [path.name for path in Path().iterdir()] == ["e.npz"]
