"""Detectors: the choice among faces, names, and MTCNN against points found by another."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.images.align import align_face
from keras_facemargin.images.detect import DetectedFace, choose_face, load_detector
from keras_facemargin.images.image import read_face, read_photo
from keras_facemargin.images.mtcnn import MtcnnDetector


def face(left, top, right, bottom):
    return DetectedFace(np.array([left, top, right, bottom], float), 0.9, np.zeros((5, 2)))


def test_the_centre_is_the_photos_and_the_largest_counts_area():
    corner, middle, long = face(0, 0, 40, 40), face(90, 40, 110, 60), face(0, 60, 200, 65)
    faces = [corner, long, middle]
    assert choose_face(faces, (100, 200, 3)) is middle
    assert choose_face(faces, (100, 200, 3), "largest") is corner
    assert choose_face([], (100, 200)) is None


def test_of_equal_faces_the_first_is_chosen():
    left, right = face(0, 0, 10, 10), face(20, 0, 30, 10)
    for choose in ("center", "largest"):
        assert choose_face([left, right], (11, 31), choose) is left
        assert choose_face([right, left], (11, 31), choose) is right


def test_a_face_without_a_place_is_chosen_last():
    lost = face(np.nan, 0, 10, 10)
    for choose in ("center", "largest"):
        assert choose_face([lost, face(0, 0, 5, 5)], (100, 100), choose) is not lost
        assert choose_face([lost], (100, 100), choose) is lost


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match=r"'center' or 'largest'.*Received: choose='centre'"):
        choose_face([], (1, 1), "centre")


def test_a_function_of_ones_own_is_a_detector(monkeypatch, tmp_path):
    (tmp_path / "facemargin_test_detectors.py").write_text(
        "def no_face(image):\n    return []\n\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_detector("facemargin_test_detectors:no_face")(None) == []
    for name in ("facemargin_test_detectors:missing", "facemargin_test_detectors:number"):
        with pytest.raises(ValueError, match=rf"must have a function.*Received: '{name}'"):
            load_detector(name)
    with pytest.raises(ImportError, match="no_such_module_here"):
        load_detector("no_such_module_here:f")


def test_the_smallest_face_is_an_argument_of_mtcnn_only():
    assert load_detector("mtcnn", min_face=36).min_face == 36
    with pytest.raises(ValueError, match="min_face=36 with 'photos:detect'"):
        load_detector("photos:detect", min_face=36)


@pytest.mark.parametrize("name", ["MTCNN", "yunet", "a:", ":b", "", None])
def test_an_unknown_detector_is_refused(name):
    with pytest.raises(ValueError, match=r"mtcnn or MODULE:FUNCTION.*Received"):
        load_detector(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_face": 5}, "min_face=5"),
        ({"min_face": "20"}, "min_face='20'"),
        ({"min_face": float("nan")}, "min_face=nan"),
        ({"largest_side": 0}, "largest_side=0"),
        ({"largest_side": True}, "largest_side=True"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"Received: {message}"):
        MtcnnDetector(**arguments)


FIVE = np.array([[38.0, 52], [74, 52], [56, 72], [42, 92], [71, 92]])


def found_in(*windows, shape=(250, 250, 3), **options):
    """The faces of a detector whose networks answer with given windows."""
    detector = MtcnnDetector(**options)
    columns = zip(*windows, strict=True) if windows else ((), (), ())
    detector._windows = lambda image, min_face: [np.array(each) for each in columns]
    return detector(np.zeros(shape, "uint8"))


BOX = np.array([20.0, 20, 100, 120])


def test_one_surest_window_with_wrong_points_does_not_move_the_face():
    wrong = FIVE - [4, 14]
    (face,) = found_in(
        (BOX, 0.9995, wrong), (BOX + 2, 0.99, FIVE), (BOX - 1, 0.98, FIVE + 1), (BOX, 0.9, FIVE - 1)
    )
    assert face.doubt is None
    assert np.abs(face.points - FIVE).max() <= 1
    assert face.score == 0.99 and face.box.tolist() == (BOX + 2).tolist()  # not the wrong one's


def test_points_are_the_median_of_the_windows():
    rng = np.random.default_rng(0)
    all_points = FIVE + rng.normal(0, 1, (5, 5, 2))
    windows = [(BOX + n, 0.99 - 0.01 * n, points) for n, points in enumerate(all_points)]
    (face,) = found_in(*windows)
    np.testing.assert_allclose(face.points, np.median(all_points, axis=0))
    assert (face.score, face.doubt) == (0.99, None)


def test_windows_that_do_not_agree_leave_a_doubt():
    (face,) = found_in((BOX, 0.99, FIVE), (BOX, 0.98, np.add(FIVE, [0, 20])))
    assert face.doubt == "only 0 of 2 windows around the face agree on them."
    (face,) = found_in((BOX, 0.99, FIVE))
    assert face.doubt is None


def test_windows_elsewhere_are_other_faces_and_the_surest_comes_first():
    far, beside = np.add(BOX, [100, 0, 100, 0]), np.add(BOX, [45, 0, 45, 0])
    faces = found_in(
        (BOX, 0.9, FIVE), (far, 0.95, np.add(FIVE, [100, 0])), (beside, 0.8, np.add(FIVE, [45, 0]))
    )
    assert [face.score for face in faces] == [0.95, 0.9, 0.8]
    # A window within a larger one is of the same face.
    assert len(found_in((BOX, 0.9, FIVE), (np.add(BOX, [10, 10, -10, -10]), 0.8, FIVE))) == 1
    assert found_in() == []


def test_places_on_a_reduced_photo_are_those_of_the_photo():
    (face,) = found_in((BOX, 0.9, FIVE), shape=(900, 900, 3), largest_side=300)
    np.testing.assert_allclose(face.points, (FIVE + 0.5) * 3 - 0.5)
    np.testing.assert_allclose(face.box, (BOX + 0.5) * 3 - 0.5)


@pytest.fixture(scope="module")
def mtcnn():
    return MtcnnDetector()


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (30, 30), (100, 140)])
def test_mtcnn_finds_no_face_where_there_is_none(mtcnn, shape):
    assert mtcnn(np.full((*shape, 3), 127, "uint8")) == []


def test_mtcnn_refuses_what_is_no_photo(mtcnn):
    for bad in (np.zeros((50, 50)), np.zeros((50, 50, 3)), np.zeros((2, 50, 50, 3), "uint8")):
        with pytest.raises(ValueError, match=r"uint8 array of shape.*Received"):
            mtcnn(bad)


def sample(shared_data, step):
    listed = (shared_data / "lfw" / "landmarks.jsonl").read_text(encoding="utf-8").splitlines()
    points = {each["file"]: each["r"]["pts"] for each in map(json.loads, listed) if each["r"]}
    for path in sorted((shared_data / "photos").glob("*/*.jpg"))[::step]:
        name = f"{path.parent.name}/{path.name}"
        yield name, read_photo(path), np.array(points[name])


def test_mtcnn_agrees_with_points_found_by_another(mtcnn, shared_data):
    errors = []
    for _, photo, points in sample(shared_data, 25):
        found = choose_face(mtcnn(photo), photo.shape)
        assert found.points.shape == (5, 2) and found.box.shape == (4,) and 0.8 < found.score <= 1
        eyes = np.linalg.norm(points[1] - points[0])
        errors.append(np.linalg.norm(found.points - points, axis=1).mean() / eyes)
    assert np.mean(errors) < 0.05
    assert np.max(errors) < 0.15


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("Alastair_Campbell/Alastair_Campbell_0001.jpg", False),
        ("Yolanda_King/Yolanda_King_0001.jpg", True),
        ("Tony_Blair/Tony_Blair_0107.jpg", True),
    ],
)
def test_photos_whose_surest_window_is_wrong(mtcnn, shared_data, name, mirror):
    photo = read_photo(shared_data / "photos" / name)
    listed = (shared_data / "lfw" / "landmarks.jsonl").read_text(encoding="utf-8").splitlines()
    (points,) = (each["r"]["pts"] for each in map(json.loads, listed) if each["file"] == name)
    points = np.array(points)
    if mirror:
        photo = np.ascontiguousarray(photo[:, ::-1])
        points = (points * [-1, 1] + [photo.shape[1] - 1, 0])[[1, 0, 2, 4, 3]]
    found = choose_face(mtcnn(photo), photo.shape)
    eyes = np.linalg.norm(points[1] - points[0])
    # The package's own answer is 0.35, 0.4 and 0.6 of the eyes' distance away.
    assert np.linalg.norm(found.points - points, axis=1).mean() < 0.1 * eyes
    assert found.doubt is None


def test_mtcnn_crops_embed_like_crops_made_by_others(mtcnn, shared_data):
    from keras_facemargin.evaluate import cosine_scores, embed
    from keras_facemargin.zoo import load_embedder

    ours, theirs = [], []
    for name, photo, _ in sample(shared_data, 25):
        ours.append(align_face(photo, choose_face(mtcnn(photo), photo.shape).points))
        theirs.append(read_face(shared_data / "lfw" / "aligned" / name))
    embedder = load_embedder("spherenet_distilled")
    both = embed(embedder, np.stack(ours + theirs), progress=False)
    scores = cosine_scores(both[: len(ours)], both[len(ours) :])
    assert scores.mean() > 0.95


def test_every_face_of_a_group_photo_is_found(mtcnn, shared_data):
    photos = [photo for _, photo, _ in sample(shared_data, 30)][:8]
    group = np.concatenate([np.concatenate(photos[:4], axis=1), np.concatenate(photos[4:], axis=1)])
    middles = [(face.box[:2] + face.box[2:]) / 2 for face in mtcnn(group)]
    for row in range(2):
        for column in range(4):
            near = np.array([250 * column + 125, 250 * row + 125])
            assert min(np.abs(middle - near).max() for middle in middles) < 30


@pytest.mark.slow
def test_mtcnn_finds_a_face_in_every_photo(mtcnn, shared_data):
    errors = []
    for _, photo, points in sample(shared_data, 1):
        found = choose_face(mtcnn(photo), photo.shape)
        errors.append(np.linalg.norm(found.points - points, axis=1).mean())
    assert len(errors) == 250
    assert np.mean(errors) < 1.5 and np.max(errors) < 4.5


def test_a_large_photo_is_searched_small_and_answered_large(mtcnn, shared_data):
    _, photo, points = next(iter(sample(shared_data, 60)))
    large = np.asarray(Image.fromarray(photo).resize((1000, 1000), Image.Resampling.BICUBIC))
    reduced = MtcnnDetector(largest_side=300)
    found = choose_face(reduced(large), large.shape)
    assert np.abs((found.points + 0.5) / 4 - 0.5 - points).max() < 6
