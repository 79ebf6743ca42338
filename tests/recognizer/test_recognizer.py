"""One object from photos to faces and verdicts, with a detector and an embedder made up here."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_facemargin import load_card, load_recognizer
from keras_facemargin.gallery import Gallery
from keras_facemargin.images import BadImage, Crop, DetectedFace, align_face, synthesize_faces
from keras_facemargin.quality import Quality
from keras_facemargin.recognizer.verification import find_threshold

POINTS = Crop.of().points


def photo_of(*places):
    """A grey photo with synthetic faces at places `(person, left, top, scale)`, and a detector."""
    photo = np.full((400, 600, 3), 128, "uint8")
    images, _ = synthesize_faces(num_identities=4, images_per_identity=1)
    found = []
    for person, left, top, scale in places:
        side = 112 * scale
        photo[top : top + side, left : left + side] = np.repeat(
            np.repeat(images[person], scale, axis=0), scale, axis=1
        )
        points = (POINTS + 0.5) * scale - 0.5 + [left, top]
        found.append(DetectedFace(np.array([left, top, left + side, top + side]), 0.9, points))
    return photo, lambda image: found


def colours(images):
    """An embedder: the mean colours of 7x7 cells."""
    cells = np.asarray(images, float).reshape(len(images), 7, 16, 7, 16, 3).mean((2, 4))
    return (cells - cells.mean((1, 2), keepdims=True)).reshape(len(images), -1)


def test_faces_come_largest_first_with_their_crops_and_embeddings():
    photo, detector = photo_of((0, 10, 20, 1), (1, 200, 50, 2))
    recognizer = load_recognizer(colours, detector=detector)
    large, small = recognizer.faces(photo)
    assert large.box.tolist() == [200, 50, 424, 274] and small.box.tolist() == [10, 20, 122, 132]
    assert large.crop.shape == (112, 112, 3)
    np.testing.assert_array_equal(small.crop, align_face(photo, small.points))
    assert large.embedding.shape == (recognizer.embedding_dim,) == (294,)
    np.testing.assert_allclose(
        small.embedding,
        np.concatenate([*colours(small.crop[None]), *colours(small.crop[None, :, ::-1])]),
        rtol=1e-5,
    )


def test_verify_compares_the_largest_faces_or_the_chosen_ones():
    photo, detector = photo_of((0, 10, 20, 1), (1, 200, 50, 2))
    recognizer = load_recognizer(colours, detector=detector)
    large, small = recognizer.faces(photo)
    result = recognizer.verify(photo, large, threshold=0.9)
    assert (result.verdict, result.far, result.calibrated_on) == ("same", None, None)
    assert result.cosine == pytest.approx(1)
    assert str(result) == "same person: cosine 1.0000, threshold 0.9000 (your own)"
    assert recognizer.verify(large, small, threshold=0.9).verdict == "different"


def test_a_photo_without_a_face_is_refused():
    recognizer = load_recognizer(colours, detector=lambda image: [])
    photo = np.zeros((50, 50, 3), "uint8")
    assert recognizer.faces(photo) == []
    with pytest.raises(BadImage, match="no face was found"):
        recognizer.verify(photo, photo, threshold=0.5)


def test_the_result_states_where_its_threshold_was_calibrated():
    recognizer = load_recognizer(detector=photo_of()[1])
    crop = synthesize_faces(num_identities=1, images_per_identity=1)[0][0]
    face = recognizer.face_of_crop(crop)
    result = recognizer.verify(face, face)
    chosen = recognizer.embedder.thresholds.find(mirrored=True)
    assert (result.threshold, result.far) == (chosen.cosine, chosen.far)
    assert result.calibrated_on == f"{chosen.impostor_pairs:,} impostor pairs ({chosen.data})"
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["verdict"] == "same" and plain["sentence"] == str(result)
    assert plain["qualities"][0]["sharpness"] == face.quality.sharpness
    assert recognizer.embedding_id == recognizer.embedder.card.id_of(mirrored=True)


def test_thresholds_that_the_card_lacks_are_refused():
    card = load_card("spherenet_distilled")
    with pytest.raises(ValueError, match=r"Received: far=0.5; the card has .*0\.001"):
        find_threshold(card.thresholds, 0.5, card.name)
    assert find_threshold(card.thresholds, None, card.name).far == 0.001
    assert find_threshold(card.thresholds, 1e-3, card.name).far == 0.001


def test_a_verdict_without_thresholds_names_the_way_out():
    recognizer = load_recognizer(colours, detector=photo_of()[1])
    face = recognizer.face_of_crop(np.zeros((112, 112, 3), "uint8"))
    with pytest.raises(ValueError, match=r"colours with no card.*facemargin calibrate"):
        recognizer.verify(face, face)


class Limits:
    """As the field `quality` of a card."""

    utility, sharpness, threshold_rise = 0.0, 11.0, 0.01


def test_two_blurred_faces_have_no_answer():
    photo, detector = photo_of((0, 10, 20, 1), (1, 200, 50, 2))
    recognizer = load_recognizer(colours, detector=detector)
    sharp = recognizer.faces(photo)[0]
    blurred = dataclasses.replace(sharp, quality=Quality(None, 5.0))
    likelihood = SimpleNamespace(log10_ratio=lambda cosine: 2.0, is_bound=lambda cosine: False)
    limited = SimpleNamespace(quality=Limits(), likelihood=likelihood)
    recognizer.embedder = SimpleNamespace(card=limited)
    assert recognizer.verify(blurred, blurred, threshold=0.5).verdict == "cannot say"
    result = recognizer.verify(blurred, blurred, threshold=0.5)
    assert "5.0 pixels" in result.reason and str(result).startswith("cannot say: The first face")
    assert result.log10_likelihood_ratio is None and result.meaning == ""  # of good crops only
    sharp = dataclasses.replace(sharp, quality=Quality(None, 22.0))
    result = recognizer.verify(sharp, sharp, threshold=0.5)
    assert result.verdict == "same"
    assert "is 100 times as likely for one person as for two people" in str(result)
    one = recognizer.verify(sharp, blurred, threshold=0.5)
    assert (one.verdict, one.log10_likelihood_ratio, one.raised_by) == ("same", None, 0)
    soft = dataclasses.replace(sharp, quality=Quality(None, 10.0))
    two = recognizer.verify(soft, blurred, threshold=0.5)
    assert (two.verdict, two.threshold, two.raised_by) == ("same", 0.62, pytest.approx(0.12))
    assert "cosine 1.0000, threshold 0.6200, raised by 0.1200 for missing detail" in str(two)
    assert "raised" not in str(result)
    rare = dataclasses.replace(result, log10_likelihood_ratio=-3.0)
    assert "is 1,000 times as likely for two people as for one person" in rare.sentence


def test_a_ratio_beyond_the_fitted_pairs_is_a_bound():
    recognizer = load_recognizer(detector=photo_of()[1])
    crop = synthesize_faces(num_identities=1, images_per_identity=1)[0][0]
    face = recognizer.face_of_crop(crop)
    result = recognizer.verify(face, face)
    likelihood = recognizer.embedder.card.likelihood
    pairs = likelihood.impostor_pairs
    assert result.likelihood_ratio_is_bound and result.to_dict()["likelihood_ratio_is_bound"]
    assert f"is at least {pairs:,} times as likely for one person" in result.sentence
    assert not likelihood.is_bound(0.3) and likelihood.is_bound(-0.9)
    inside = dataclasses.replace(result, likelihood_ratio_is_bound=False)
    assert "at least" not in inside.sentence


def test_a_tiny_face_has_no_answer_without_measured_limits():
    photo, detector = photo_of((0, 10, 20, 1))
    (found,) = detector(photo)
    small = found._replace(points=found.points.mean(0) + (found.points - found.points.mean(0)) / 4)
    large = load_recognizer(colours, detector=detector).faces(photo)[0]
    recognizer = load_recognizer(colours, detector=lambda image: [small])
    result = recognizer.verify(large, photo, threshold=0.5)
    assert result.verdict == "cannot say"
    assert result.reason == (
        "The second face has 9 pixels between the eyes on its photo; at least 11 are needed."
    )


def test_points_that_give_no_crop_are_left_out():
    line = np.array([[n, n] for n in range(5)], float) * 10
    faces = [
        DetectedFace(np.array([0, 0, 50, 50]), 0.9, line),
        DetectedFace(np.array([0, 0, 40, 40]), 0.9, POINTS),
    ]
    recognizer = load_recognizer(colours, detector=lambda image: faces)
    (face,) = recognizer.faces(np.zeros((112, 112, 3), "uint8"))
    assert face.box.tolist() == [0, 0, 40, 40]


@pytest.mark.parametrize("photo", [np.zeros((5, 5)), np.zeros((5, 5, 3)), None, [1, 2]])
def test_arrays_that_are_not_photos_are_refused(photo):
    recognizer = load_recognizer(colours, detector=lambda image: [])
    with pytest.raises(ValueError, match=r"image file, or a uint8 array \(H, W, 3\)"):
        recognizer.faces(photo)
    with pytest.raises(ValueError, match="aligned crop must be a uint8 array"):
        recognizer.face_of_crop(photo)


def test_a_detector_that_returns_something_else_is_refused():
    recognizer = load_recognizer(colours, detector=lambda image: [(1, 2, 3, 4)])
    with pytest.raises(ValueError, match="must return a list of DetectedFace"):
        recognizer.faces(np.zeros((50, 50, 3), "uint8"))


def test_every_face_of_a_photo_is_searched_in_a_gallery(tmp_path):
    photo, detector = photo_of((0, 10, 20, 1), (1, 200, 50, 2))
    recognizer = load_recognizer(detector=detector)
    large, small = recognizer.faces(photo)
    dim = recognizer.embedding_dim
    with Gallery(
        tmp_path / "one.gallery", embedding_id=recognizer.embedding_id, embedding_dim=dim
    ) as gallery:
        gallery.enrol("ada", [small.embedding], qualities=[small.quality])
        (first, unknown), (second, ada) = recognizer.identify(photo, gallery, threshold=0.99)
        assert first.box.tolist() == large.box.tolist() and unknown.verdict == "unknown"
        assert second.box.tolist() == small.box.tolist() and ada.person == "ada"
        blank = load_recognizer(recognizer.embedder, detector=lambda image: [])
        assert blank.identify(photo, gallery) == []
    with (
        Gallery(tmp_path / "two.gallery", embedding_id="f" * 64, embedding_dim=dim) as gallery,
        pytest.raises(ValueError, match="holds embeddings of another embedder"),
    ):
        recognizer.identify(photo, gallery)


def test_a_face_without_an_answer_is_not_identified(tmp_path):
    photo, detector = photo_of((0, 10, 20, 1), (1, 200, 50, 2))
    recognizer = load_recognizer(detector=detector)
    large, small = recognizer.faces(photo)
    tiny = dataclasses.replace(small, points=small.points / 4)
    doubtful = dataclasses.replace(large, doubt="two windows disagree.")
    recognizer.embedder = dataclasses.replace(recognizer.embedder, card=None)  # no limits
    with Gallery(
        tmp_path / "one.gallery",
        embedding_id=recognizer.embedding_id,
        embedding_dim=recognizer.embedding_dim,
    ) as gallery:
        gallery.enrol("ada", [small.embedding])
        gallery.enrol("bob", [large.embedding])
        answers = recognizer.identify([small, tiny, doubtful], gallery, threshold=0.5)
    assert [face for face, _ in answers] == [small, tiny, doubtful]
    assert [each.verdict for _, each in answers] == ["identified", "cannot say", "cannot say"]
    assert [each.person for _, each in answers] == ["ada", None, None]
    assert answers[1][1].reason == (
        "The face has 9 pixels between the eyes on its photo; at least 11 are needed."
    )
    assert answers[2][1].reason == "The points of the face are in doubt: two windows disagree."
