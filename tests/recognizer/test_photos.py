"""Every way of asking, on 250 photos of the measured data."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_facemargin import load_recognizer
from keras_facemargin.gallery import Gallery
from keras_facemargin.images import read_face

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recognizer():
    return load_recognizer()


@pytest.fixture(scope="module")
def photos(shared_data):
    return sorted((shared_data / "photos").glob("*/*.jpg"))


@pytest.fixture(scope="module")
def faces(recognizer, photos):
    """The largest face of each photo."""
    every = [recognizer.faces(path) for path in photos]
    assert len(every) == 250 and all(every)
    return [found[0] for found in every]


def test_every_photo_has_a_face_with_all_of_its_attributes(recognizer, faces):
    for face in faces:
        assert face.crop.shape == (112, 112, 3) and face.points.shape == (5, 2)
        assert face.embedding.shape == (recognizer.embedding_dim,)
        assert 0.8 < face.score <= 1 and face.doubt is None
        assert 0 <= face.quality.sharpness <= 36


def test_every_photo_is_of_the_same_person_as_itself_turned(recognizer, photos, faces, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for path, face in list(zip(photos, faces, strict=True))[::5]:
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        turned.save(tmp_path / "turned.png", exif=exif)
        answer = recognizer.verify(tmp_path / "turned.png", face)
        assert answer.verdict in ("same", "cannot say") and answer.cosine > 0.999
        assert json.loads(json.dumps(answer.to_dict()))["verdict"] == answer.verdict


def test_answers_for_all_pairs_of_photos_are_those_of_their_crops(
    recognizer, photos, faces, shared_data
):
    """Against crops aligned by others.

    Nearly every answer is the same. A face at a limit of quality, of one alignment above it and of
    the other below, leaves 54 of 1,575 pairs with an answer by one alignment only.
    """
    theirs = [
        recognizer.face_of_crop(
            read_face(shared_data / "lfw/aligned" / path.parent.name / path.name)
        )
        for path in photos
    ]
    people = np.array([path.parent.name for path in photos])
    verdicts, wrong, strangers = [], 0, 0
    rng = np.random.default_rng(0)
    pairs = rng.choice(len(photos), (1500, 2))
    same = [(a, b) for a in range(250) for b in range(a) if people[a] == people[b]]
    for a, b in [*pairs[pairs[:, 0] != pairs[:, 1]], *same[:300]]:
        answer = recognizer.verify(faces[a], faces[b])
        verdicts.append((answer.verdict, recognizer.verify(theirs[a], theirs[b]).verdict))
        if people[a] != people[b]:
            strangers += 1
            wrong += answer.verdict == "same"
    mine, others = np.array(verdicts).T
    refused = (mine == "cannot say") != (others == "cannot say")
    agree = np.mean(mine[~refused] == others[~refused])
    print(
        f"{agree:.4f} of the answers agree; {refused.sum()} of {len(refused)} pairs have an answer "
        f"by one alignment only; {wrong} of {strangers} strangers accepted"
    )
    assert agree > 0.99
    assert refused.mean() < 0.05
    assert wrong <= 0.01 * strangers


def test_every_photo_is_identified_in_a_gallery_of_all(recognizer, photos, faces, tmp_path):
    with Gallery(
        tmp_path / "all.gallery",
        embedding_id=recognizer.embedding_id,
        embedding_dim=recognizer.embedding_dim,
    ) as gallery:
        for path, face in zip(photos, faces, strict=True):
            gallery.enrol(path.parent.name, [face.embedding], qualities=[face.quality])
        right = 0
        for path in photos[::5]:
            _, answer = recognizer.identify(path, gallery)[0]
            right += answer.nearest == path.parent.name
    assert right >= 48  # of 50; some people have bad photos too
