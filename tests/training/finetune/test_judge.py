"""The judgement: figures by hand, the better of two, and pictures that are on both sides."""

import types

import numpy as np
import pytest
from shades import mean_colour, write_shades

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, verify
from keras_facemargin.training.finetune.judge import Comparison, Judge, Measure
from keras_facemargin.training.finetune.parts import divide

SIDE = 16
EMBEDDER = types.SimpleNamespace(input_shape=(None, SIDE, SIDE, 3))


def colour(batch):
    return mean_colour(np.asarray(batch))


colour.input_shape = EMBEDDER.input_shape


def blind(batch):
    """All images look alike, but for a trace of their colour."""
    return np.asarray([[100.0, 0.0, 0.0]]) + 1e-3 * mean_colour(np.asarray(batch)) ** 2


def folder(place, people, images=3, first=0):
    """People of one hue each; an image differs a little."""
    rng = np.random.default_rng(first)
    hues = rng.normal(size=(people, 3))
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    files = {
        f"{place.name}{person}/{image}.png": (
            np.clip(127.5 + 90 * hues[person] + rng.normal(0, 9, 3), 0, 255)
        )
        for person in range(people)
        for image in range(images)
    }
    write_shades(place, files, SIDE)
    return FaceFolder(place, image_size=SIDE)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    place = tmp_path_factory.mktemp("judge")
    return divide(
        EMBEDDER,
        folder(place / "mine", 24),
        strangers=folder(place / "other", 44, first=1),
        general=folder(place / "general", 6, first=2),
    )


@pytest.fixture(scope="module")
def judge(parts):
    return Judge(parts, seed=0, progress=False)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_figures_are_those_of_a_gallery_of_means_and_of_all_pairs(judge):
    rows = {
        name: mean_colour(np.stack([_read(p) for p in images.paths]))
        for name, images in judge.sets.items()
    }
    found = judge.measure(judge.embed(colour), judge.embed(colour))
    gallery = unit(
        np.stack(
            [
                unit(rows["training"])[judge.sets["training"].labels == person].mean(axis=0)
                for person in range(24)
            ]
        )
    )
    cosines = unit(rows["test"]) @ gallery.T
    right = cosines.argmax(axis=1) == judge.sets["test"].labels
    assert found.people.rank_rate(1) == right.mean()
    alarms = np.sort((unit(rows["strangers"]) @ gallery.T).max(axis=1))[::-1]
    limit = alarms[int(0.1 * len(alarms))]
    expected = (right & (cosines.max(axis=1) > limit)).mean()
    assert found.people.tpir_at_fpir(0.1).tpir == pytest.approx(expected)
    for name in ("strangers", "general"):
        pairs = verify(*all_pairs(rows[name], judge.sets[name].labels))
        assert getattr(found, name).eer == pytest.approx(pairs.eer)
    assert found.similarity == pytest.approx(1.0)


def test_intervals_come_with_twenty_people(judge):
    before, after = judge.embed(colour), judge.embed(blind)
    both = judge.measure(before, before), judge.measure(after, before)
    comparison = judge.compare(*both, intervals=True)
    assert [each.name for each in comparison.measures] == [
        "Your people, rank-1",
        "Your people, TPIR @ FPIR 0.1",
        "Strangers, EER",
        "Strangers, TAR @ FAR 0.001",
        "General set, EER",
    ]
    *many, few = comparison.measures
    for measure in many:
        difference = measure.after - measure.before
        assert measure.difference.low <= difference <= measure.difference.high
        assert abs(difference) > 0 > measure.gain
    assert few.difference is None  # six people
    assert comparison.score < 0


def measure(before, after, better=1):
    return Measure("m", before, after, None, better)


@pytest.mark.parametrize(
    ("people", "strangers", "general", "score"),
    [
        ((0.8, 0.9), (0.7, 0.7), (0.7, 0.7), 0.1),
        ((0.8, 0.9), (0.7, 0.65), (0.7, 0.68), 0.03),  # both losses count
        ((0.8, 0.9), (0.7, 0.5), (0.7, 0.9), -0.1),
        ((0.9, 0.8), (0.5, 0.9), (0.5, 0.9), -0.1),
        ((0.9, 0.9), (0.7, 0.8), (0.7, 0.7), 0.1),
        ((0.9, 0.9), (0.7, 0.8), (0.7, 0.69), -0.01),
        ((0.9, 0.9), (0.7, 0.7), (0.7, 0.7), 0.0),
    ],
)
def test_a_gain_must_exceed_the_losses(people, strangers, general, score):
    found = Comparison((measure(*people),), (measure(*strangers),), (measure(*general),))
    assert found.score == pytest.approx(score)
    assert len(found.losses) == sum(
        before > after for before, after in (people, strangers, general)
    )


def test_a_lower_error_is_a_gain():
    assert measure(0.1, 0.08, better=-1).gain == pytest.approx(0.02)
    assert measure(0.1, 0.08, better=-1).row() == ("m", "10.00%", "8.00%", "-2.00")


def test_copies_of_training_images_do_not_test(tmp_path):
    """Of plain images those of one colour are copies."""
    faces = folder(tmp_path / "mine", 8, images=2)
    parts = divide(EMBEDDER, faces, strangers=folder(tmp_path / "other", 3, first=1))
    judge = Judge(parts, seed=0, progress=False)
    source, copy = parts.training.paths[0], parts.test.paths[5]
    with open(source, "rb") as file, open(copy, "wb") as target:
        target.write(file.read())
    found, notes = judge.leave_out_copies(judge.embed(colour))
    (note,) = notes
    assert note.startswith("1 of the images that test are pictures of the same person")
    assert copy in note and source in note
    assert copy not in judge.sets["test"].paths
    assert len(found["test"]) == len(judge.sets["test"].paths) == 7

    stranger = parts.strangers.paths[0]
    with open(source, "rb") as file, open(stranger, "wb") as target:
        target.write(file.read())
    judge = Judge(parts, seed=0, progress=False)
    with pytest.raises(ValueError, match=r"`strangers` must not be training images. Received: 1 "):
        judge.leave_out_copies(judge.embed(colour))


def _read(path):
    from keras_facemargin.images import read_face

    return read_face(path, SIDE).astype("float32")
