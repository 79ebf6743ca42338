"""One object from photos to faces and verdicts, with a detector and an embedder made up here."""

import numpy as np
import pytest

from keras_facemargin import load_recognizer
from keras_facemargin.images import BadImage, Crop, DetectedFace, align_face, synthesize_faces

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
    assert str(result) == "same person: cosine 1.0000, threshold 0.9000"
    assert recognizer.verify(large, small, threshold=0.9).verdict == "different"


def test_a_photo_without_a_face_is_refused():
    recognizer = load_recognizer(colours, detector=lambda image: [])
    photo = np.zeros((50, 50, 3), "uint8")
    assert recognizer.faces(photo) == []
    with pytest.raises(BadImage, match="found no face"):
        recognizer.verify(photo, photo, threshold=0.5)
