"""The training of the layers: rates by depth, what trains, how long."""

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed
from keras_facemargin.images import Crop
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.training.finetune import finetune, read_known
from keras_facemargin.training.finetune.judge import Comparison, Measure
from keras_facemargin.training.finetune.layers import (
    DepthLamb,
    choose_recipe,
    require_trainable,
)
from keras_facemargin.training.finetune.run import _by_all_gains, _Candidate
from keras_facemargin.zoo import load_card, load_embedder


@pytest.mark.any_backend
def test_steps_are_shares_of_the_weights_and_fall_to_the_first_layer():
    """A step changes the norm of weights by the rate, whatever the gradient and the weights."""
    dense = [
        keras.layers.Dense(4, use_bias=False, kernel_initializer=keras.initializers.Constant(value))
        for value in (0.1, 1.0, 10.0)
    ]
    backbone = keras.Sequential([keras.Input((4,)), dense[0], keras.layers.ReLU()])
    embedder = keras.Sequential([keras.Input((4,)), backbone, *dense[1:]])
    head = keras.Variable(np.ones(3, "float32"), name="prototypes")
    variables = [*embedder.trainable_variables, head]
    before = [keras.ops.convert_to_numpy(each) for each in variables]
    optimizer = DepthLamb(0.1, embedder, layer_decay=0.01)
    optimizer.build(variables)
    optimizer.apply([7 * keras.ops.ones(each.shape) for each in variables], variables)
    steps = [
        np.linalg.norm(then - keras.ops.convert_to_numpy(now)) / np.linalg.norm(then)
        for now, then in zip(variables, before, strict=True)
    ]
    np.testing.assert_allclose(steps, [0.001, 0.01, 0.1, 0.1], rtol=1e-3)


def test_few_images_get_few_steps_at_a_low_rate():
    few, many = (np.repeat(np.arange(40), each) for each in (5, 6))
    epochs, rate = choose_recipe(few, 200 + 120)
    assert (epochs, epochs * 10) == (10, 100)
    assert choose_recipe(few[:25], 25)[0] == 60  # steps, of one batch each
    assert choose_recipe(many, 240)[0] == 10 and choose_recipe(many, 240)[1] > rate
    assert choose_recipe(np.repeat([0, 7], 9), 18)[0] == 10  # classes without an image do not count


def test_an_embedder_without_weights_to_train_is_refused():
    frozen = tiny_embedder()
    for layer in frozen.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    with pytest.raises(ValueError, match=r"weights to train\. Received: 'tiny'"):
        require_trainable(frozen)
    with pytest.raises(ValueError, match="needs an embedder with weights to train"):
        finetune(frozen, None, layers=True, progress=False)


# From faces to a folder.


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(directory, 16, 8)
    return FaceFolder(directory)


def prefer(patch, which):
    """Judges one of the six candidates a gain: four shares of the map, two of the layers."""
    judged = []

    def score(comparison):
        if not any(comparison is each for each in judged):
            judged.append(comparison)
        place = next(place for place, each in enumerate(judged) if each is comparison)
        return 0.1 if place == which else 0.0

    patch.setattr(Comparison, "score", property(score))


@pytest.fixture(scope="module")
def session(faces):
    """(embedder, its weights before, `FineTuned`) where the layers half way gain most."""
    embedder = tiny_embedder()
    before = [np.array(weight) for weight in embedder.get_weights()]
    with pytest.MonkeyPatch.context() as patch:
        prefer(patch, 5)
        tuned = finetune(embedder, faces, layers=True, progress=False)
    return embedder, before, tuned


def test_the_layers_train_but_neither_batch_normalisation_nor_the_embedder_given(session):
    embedder, before, tuned = session
    for now, then in zip(embedder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    result = tuned.classifier.embedder
    assert [type(each) for each in result.layers] == [type(each) for each in embedder.layers]
    assert all(layer.trainable for layer in result.layers)
    assert Crop.of_embedder(result) == Crop.of_embedder(embedder)
    for layer, old in zip(result.layers, embedder.layers, strict=True):
        moved = [
            np.abs(now - then).max() > 0
            for now, then in zip(layer.get_weights(), old.get_weights(), strict=True)
        ]
        expected = not isinstance(layer, keras.layers.BatchNormalization)
        assert moved == [expected] * len(moved)


def test_the_figures_belong_to_the_layers_that_were_kept(session):
    *_, tuned = session
    assert (tuned.trained, tuned.share) == ("layers", 0.5)
    assert sorted(tuned.history) == ["accuracy", "loss"]
    assert tuned.history["loss"][-1] < tuned.history["loss"][0]
    assert "The trained layers are kept. 50% of the learned change is kept." in tuned.verdict
    rows = embed(tuned.classifier.embedder, tuned.strangers.paths, progress=False)
    np.testing.assert_allclose(rows, tuned.after.embeddings["strangers"], rtol=1e-4, atol=1e-4)


def test_the_folder_says_layers_and_is_known_later(session, faces, tmp_path, monkeypatch):
    *_, tuned = session
    tuned.save(tmp_path / "one", model="tiny")
    assert load_card(tmp_path / "one").lineage[-1].endswith("with CosFace: its layers.")
    known = read_known(tmp_path / "one")
    order = [faces.identities.index(name) for name in known.identities]
    strangers = faces._take(np.isin(faces.labels, order, invert=True))
    strangers.identities = [name for name in faces.identities if name not in known.identities]
    strangers.labels = np.unique(strangers.labels, return_inverse=True)[1].astype("int32")
    mine = faces._take(np.isin(faces.labels, order[:6]))  # the others stay without an image
    mine.labels = np.searchsorted(np.sort(order[:6]), mine.labels).astype("int32")
    mine.identities = [faces.identities[place] for place in sorted(order[:6])]
    prefer(monkeypatch, 4)
    again = finetune(
        load_embedder(tmp_path / "one"),
        mine,
        strangers=strangers,
        known=known,
        layers=True,
        progress=False,
    )
    assert (again.trained, again.share) == ("layers", 1.0)
    assert again.parts.identities == known.identities
    rows = keras.ops.convert_to_numpy(again.classifier.head.prototypes)
    assert np.abs(rows[:6] - known.prototypes[:6]).max() > 1e-4
    np.testing.assert_allclose(rows[6:], known.prototypes[6:], rtol=1e-6)


def test_of_those_that_gain_enough_the_one_with_most_gains_is_kept():
    """My people's gain alone would decide for the first one, by one test image."""

    def candidate(mine, strangers):
        gains = (("Your people", mine), ("Strangers", strangers))
        people, others = ((Measure(name, 0.5, 0.5 + gain, None),) for name, gain in gains)
        return _Candidate(None, 1.0, None, Comparison(people, others, ()))

    first, second = candidate(0.02, 0.1), candidate(0.012, 0.3)
    for found in ((first, second), (second, first)):
        assert max(found, key=_by_all_gains) is second
    useless = candidate(0.005, 0.9)
    assert max(first, useless, key=_by_all_gains) is first
