"""Who trains and who tests."""

import types

import numpy as np
import pytest
from shades import shade_of, write_shades

from keras_facemargin.data import FaceFolder
from keras_facemargin.training.finetune.parts import divide

SIDE = 8
EMBEDDER = types.SimpleNamespace(input_shape=(None, SIDE, SIDE, 3))


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of people: name -> number of images."""

    def make(place, people, size=SIDE):
        files = {
            f"{name}/{image}.png": shade_of(sum(map(ord, name)), image)
            for name, count in people.items()
            for image in range(count)
        }
        write_shades(tmp_path / place, files, size)
        return FaceFolder(tmp_path / place, image_size=SIDE)

    return make


def people(count, images=3, first="a"):
    return {f"{first}{number:02d}": images for number in range(count)}


def names(part):
    return {part.identities[label] for label in part.labels}


def test_a_quarter_are_strangers_and_one_image_in_five_tests(folder):
    faces = folder("faces", people(8, images=10))
    parts = divide(EMBEDDER, faces, seed=3)
    assert parts.drawn == ("test", "strangers")
    assert len(names(parts.strangers)) == 2
    assert names(parts.training) == names(parts.test) == set(parts.identities)
    assert names(parts.training) | names(parts.strangers) == set(faces.identities)
    assert np.bincount(parts.training.labels).tolist() == [8] * 6
    assert np.bincount(parts.test.labels).tolist() == [2] * 6
    assert not set(parts.training.paths) & set(parts.test.paths)
    again, other = divide(EMBEDDER, faces, seed=3), divide(EMBEDDER, faces, seed=4)
    assert again.strangers.identities == parts.strangers.identities
    assert other.strangers.identities != parts.strangers.identities


def test_with_sets_of_your_own_every_person_and_image_trains(folder):
    faces = folder("faces", {"cy": 1, "ann": 2, "bob": 1})
    test = folder("test", {"bob": 1, "cy": 2})
    strangers = folder("strangers", people(2))
    parts = divide(EMBEDDER, faces, test=test, strangers=strangers)
    assert parts.drawn == () and parts.general is None
    assert parts.identities == ["ann", "bob", "cy"]
    assert parts.training.labels.tolist() == [0, 0, 1, 2]
    assert parts.test.labels.tolist() == [1, 2, 2]
    assert parts.strangers is strangers


def test_people_who_become_strangers_do_not_test(folder):
    faces = folder("faces", people(8))
    test = folder("test", people(8, images=1))
    parts = divide(EMBEDDER, faces, test=test)
    assert names(parts.test) == set(parts.identities)
    assert names(parts.test).isdisjoint(parts.strangers.identities)
    assert len(parts.test) == 6


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            lambda folder: {"faces": folder("faces", people(7))},
            r"at least 8 .*Received: 7 identities in .*faces.*--strangers",
        ),
        (
            lambda folder: {"faces": folder("faces", people(8) | {"zoe": 1, "zeb": 1})},
            r"two images or more.*Received: .*(zoe|zeb).* with one image in .*faces.*--test",
        ),
        (
            lambda folder: {
                "faces": folder("faces", {"ann": 2, "bob": 2}),
                "strangers": folder("others", people(3, images=1)),
            },
            r"The strangers must include a person with two.*3 identities of one image each",
        ),
        (
            lambda folder: {
                "faces": folder("faces", {"ann": 2, "bob": 2}),
                "strangers": folder("others", {"bob": 2, "cy": 2}),
            },
            r"The strangers must be other people.*Received: bob in .*others too",
        ),
        (
            lambda folder: {
                "faces": folder("faces", people(8)),
                "general": folder("general", {"cy": 2, "a00": 2, "a01": 2, "a02": 2, "a03": 2}),
            },
            r"The general must be other people.*Received: \d people \(a0",
        ),
        (
            lambda folder: {
                "faces": folder("faces", people(8)),
                "test": folder("test", {"a00": 1, "who": 1}),
            },
            r"Test images must show the people to train on. Received: .*who.* in .*test",
        ),
        (
            lambda folder: {
                "faces": FaceFolder(folder("faces", people(8)).directory, image_size=16)
            },
            r"`faces` must have the embedder's image size.*16x16.*\(8, 8\).*image_size=8",
        ),
    ],
    ids=["few people", "one image", "lone strangers", "name", "general", "test", "size"],
)
def test_wrong_sets_are_refused(folder, make, error):
    sets = make(folder)
    with pytest.raises(ValueError, match=error):
        divide(EMBEDDER, sets.pop("faces"), **sets, seed=1)


def test_crops_of_another_template_are_refused(folder, tmp_path):
    """A crop of 150x150 is dlib's; other sizes of one template are resized."""
    embedder = types.SimpleNamespace(input_shape=(None, SIDE, SIDE, 3))
    divide(embedder, folder("twice", people(8), size=2 * SIDE))
    with pytest.raises(ValueError, match=r"'arcface', 8x8.*crops of 150x150.*template 'dlib'"):
        divide(embedder, folder("dlib", people(8), size=150))


def test_numbers_are_names_within_their_own_set_only(folder):
    faces, others = folder("faces", {"1": 2, "2": 2}), folder("others", {"1": 2, "2": 2})
    divide(EMBEDDER, faces, strangers=others)


def test_half_of_sixteen_strangers_or_more_train_against(folder):
    faces = folder("faces", {"ann": 2, "bob": 2})
    few = divide(EMBEDDER, faces, strangers=folder("few", people(15)))
    assert few.others is None and few.strangers.num_classes == 15
    many = divide(EMBEDDER, faces, strangers=folder("many", people(17)))
    assert (many.strangers.num_classes, many.others.num_classes) == (9, 8)
    assert names(many.strangers).isdisjoint(names(many.others))


def test_strangers_with_few_second_images_only_test(folder):
    """Half of them would leave no genuine pair to test on, or none to train against."""
    lone = people(16, images=1) | {"zoe": 2}
    faces = folder("faces", {"ann": 2, "bob": 2})
    found = [
        divide(EMBEDDER, faces, strangers=folder("lone", lone), seed=seed) for seed in range(6)
    ]
    assert all(len(each.strangers) > each.strangers.num_classes for each in found)
    assert {each.others is None for each in found} == {True, False}
