"""Fine-tuning: held-out people test, prototypes start at means, batch normalisation is frozen."""

import dataclasses
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin import load_card, load_embedder
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.images import read_face
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.training import finetune as module
from keras_facemargin.training import validation
from keras_facemargin.training.finetune import FAR, finetune


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(directory, 16, 8)
    return FaceFolder(directory)


@pytest.fixture(scope="module")
def session(faces):
    """(embedder, its weights before, the paths that each pipeline read, `FineTuned`)."""
    embedder = tiny_embedder()
    weights = [np.array(weight) for weight in embedder.weights]
    fed = []
    with pytest.MonkeyPatch.context() as patch:
        dataset = FaceFolder.dataset
        patch.setattr(
            FaceFolder,
            "dataset",
            lambda self, *args, **kwargs: fed.append(self.paths) or dataset(self, *args, **kwargs),
        )
        tuned = finetune(embedder, faces, epochs=8, learning_rate=3e-3, progress=False)
    return embedder, weights, fed, tuned


def unit(embeddings):
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def test_it_learns(session):
    *_, tuned = session
    assert sorted(tuned.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert len(tuned.history["loss"]) == 8
    assert tuned.history["loss"][-1] < 0.7 * tuned.history["loss"][0]
    assert tuned.history["val_accuracy"][-1] > 0.3  # chance is one in twelve


@pytest.mark.slow
def test_held_out_people_are_verified_better(tmp_path):
    write_synthetic_faces(tmp_path / "faces", 64, 12)
    tuned = finetune(load_embedder("spherenet_distilled"), FaceFolder(tmp_path / "faces"), epochs=6)
    assert tuned.after.eer < 0.7 * tuned.before.eer


def test_held_out_people_are_not_trained_on(session, faces):
    *_, fed, tuned = session
    trained_on = {Path(path).parent.name for paths in fed for path in paths}
    assert trained_on == set(tuned.training.identities)
    assert len(tuned.held_out.identities) == 4  # a quarter
    assert trained_on.isdisjoint(tuned.held_out.identities)
    assert trained_on | set(tuned.held_out.identities) == set(faces.identities)
    training, validation = map(set, fed)
    assert training.isdisjoint(validation)


def test_the_pairs_are_the_tested_ones(session):
    _, _, _, tuned = session
    paths = sorted({*tuned.pairs.first, *tuned.pairs.second})
    assert {Path(path).parent.name for path in paths} == set(tuned.held_out.identities)
    images = np.stack([read_face(path) for path in paths]).astype("float32")
    views = [tuned.classifier.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
    embeddings = dict(zip(paths, unit(np.concatenate(views, axis=1)), strict=True))
    assert len(tuned.pairs) == len(embeddings) * (len(embeddings) - 1) / 2
    for index in range(0, len(tuned.pairs), 25):
        first, second = tuned.pairs.first[index], tuned.pairs.second[index]
        assert tuned.pairs.same[index] == (Path(first).parent == Path(second).parent)
        score = embeddings[first] @ embeddings[second]
        assert tuned.after.scores[index] == pytest.approx(score, abs=1e-4)


def test_batch_normalisation_keeps_its_statistics_and_the_rest_moves(session):
    embedder, before, _, _ = session
    for weight, old in zip(embedder.weights, before, strict=True):
        assert np.array_equal(weight, old) == (weight.path.startswith("normalization/"))


def test_trainable_flags_are_restored(session):
    embedder, *_ = session
    assert all(layer.trainable for layer in embedder.layers)


def test_a_frozen_layer_stays_frozen(faces):
    embedder = tiny_embedder()
    embedder.get_layer("normalization").trainable = False
    finetune(embedder, faces, epochs=1, progress=False)
    assert not embedder.get_layer("normalization").trainable


def test_trainable_flags_are_restored_when_training_breaks_off(faces, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.MarginClassifier, "fit", interrupted)
    embedder = tiny_embedder()
    with pytest.raises(KeyboardInterrupt):
        finetune(embedder, faces, progress=True)
    assert all(layer.trainable for layer in embedder.layers)


def test_prototypes_begin_at_the_mean_embedding_of_each_identity(faces):
    tuned = finetune(tiny_embedder(), faces, epochs=1, learning_rate=0.0, progress=False)
    images = np.stack([read_face(path) for path in tuned.training.paths]).astype("float32")
    embeddings = unit(tuned.classifier.predict(images, verbose=0))
    expected = [
        embeddings[tuned.training.labels == label].mean(axis=0)
        for label in range(tuned.training.num_classes)
    ]
    np.testing.assert_allclose(tuned.classifier.head.prototypes, expected, atol=1e-5)
    assert tuned.after.eer == tuned.before.eer


def test_the_split_follows_the_seed(faces):
    def held_out(seed):
        return module._split(faces, seed)[1].identities

    assert held_out(0) == held_out(0) != held_out(1)


def test_few_pairs_give_the_threshold_of_the_smallest_rate_that_they_show(session):
    embedder, *_, tuned = session
    pairs = 4 * 3 // 2 * 8 * 8
    assert tuned.after.impostors == pairs < 1 / FAR
    paths = sorted({*tuned.pairs.first, *tuned.pairs.second})
    people = [Path(path).parent.name for path in paths]
    for chosen, flip in (
        (tuned.thresholds.find(mirrored=True), True),
        (tuned.thresholds.find(mirrored=False), False),
    ):
        assert (chosen.impostor_pairs, chosen.far) == (pairs, 1 / pairs)
        scores, same = all_pairs(embed(embedder, paths, flip=flip, progress=False), people)
        assert (scores[~same] >= chosen.cosine + 1e-6).sum() <= 1
        assert (scores[~same] >= chosen.cosine - 1e-6).sum() == 2
    (remark,) = [each for each in tuned.remarks if "smallest" in each]
    assert "FAR 0.0026, the smallest that 384 impostor pairs of 4 held-out people" in remark
    assert "FAR 0.001 needs 1,000" in remark


def test_many_pairs_give_the_threshold_of_one_in_a_thousand(tmp_path):
    write_synthetic_faces(tmp_path / "faces", 24, 10)  # 6 held out: 1,500 pairs
    faces = FaceFolder(tmp_path / "faces")
    tuned = finetune(tiny_embedder(), faces, epochs=1, learning_rate=0.0, progress=False)
    assert tuned.thresholds.find(mirrored=True).impostor_pairs == tuned.after.impostors == 1_500
    assert tuned.thresholds.find(mirrored=True).far == FAR
    scores = tuned.after.scores[~tuned.after.same]
    assert (scores >= tuned.thresholds.find(mirrored=True).cosine + 1e-9).sum() == 1
    assert tuned.remarks == []  # enough pairs, and nothing got worse


def test_a_remark_names_a_higher_error(session):
    *_, tuned = session
    worse = dataclasses.replace(tuned, before=tuned.after, after=tuned.before)
    eers = sorted((tuned.before.eer, tuned.after.eer))
    assert eers[0] < eers[1]
    (remark,) = [each for each in (*tuned.remarks, *worse.remarks) if "worse" in each]
    assert f"EER {eers[0]:.2%} before, {eers[1]:.2%} after" in remark


def test_of_many_images_an_equal_share_of_each_person_is_tested(faces, monkeypatch):
    monkeypatch.setattr(validation, "_MOST_IMAGES", 48)
    paths, labels = validation.sample_images(faces, seed=0)
    assert np.bincount(labels).tolist() == [3] * 16
    assert [faces.identities[label] for label in labels] == [Path(p).parent.name for p in paths]
    assert list(validation.sample_images(faces, seed=1)[0]) != list(paths)


def test_what_is_saved_can_be_used_and_trained_on(session, tmp_path):
    embedder, *_, tuned = session
    tuned.save(tmp_path / "new" / "folder", model="tiny")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "classifier.keras",
        "embedder.keras",
        "report.json",
    ]
    images = np.stack([read_face(path) for path in tuned.training.paths[:4]]).astype("float32")
    expected = embedder.predict(images, verbose=0)
    opened = load_embedder(folder)
    np.testing.assert_allclose(opened.predict(images, verbose=0), expected, atol=1e-5)

    classifier = keras.saving.load_model(folder / "classifier.keras")
    np.testing.assert_array_equal(
        classifier.head.prototypes, np.array(tuned.classifier.head.prototypes)
    )
    classifier.compile("sgd")
    history = classifier.fit(images, tuned.training.labels[:4], verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_the_record_names_the_people_and_the_figures(session, tmp_path):
    *_, tuned = session
    tuned.save(tmp_path, model="tiny.keras")
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["model"] == "tiny.keras"
    assert record["head"] == "CosFace"
    assert record["held_out_identities"] == tuned.held_out.identities
    assert record["history"] == tuned.history
    assert record["before"]["eer"] == tuned.before.eer
    assert record["after"]["eer"] == tuned.after.eer
    assert record["thresholds"] == tuned.thresholds.model_dump(mode="json")
    assert record["remarks"] == tuned.remarks


def test_the_card_names_its_origin_and_inherits_its_limits(session, tmp_path):
    *_, tuned = session
    tuned.save(tmp_path / "first", model="spherenet_distilled")
    card, base = load_card(tmp_path / "first"), load_card("spherenet_distilled")
    assert card.license[:-1] == base.license
    assert (card.license[-1].part, card.license[-1].commercial) == ("data", None)
    assert card.lineage[:-1] == base.lineage
    assert card.lineage[-1] == (
        "Embedder fine-tuned from spherenet_distilled on 84 images of 12 people, with CosFace."
    )
    assert card.thresholds == tuned.thresholds
    assert (card.embedding_dim, card.measured, card.training) == (24, (), None)
    tuned.save(tmp_path / "second", model=tmp_path / "first")
    assert load_card(tmp_path / "second").lineage[:-1] == card.lineage
    tuned.save(tmp_path / "third", model="somewhere else")
    assert load_card(tmp_path / "third").license == ()


def test_a_full_disk_leaves_the_old_model_and_names_the_file(session, tmp_path, monkeypatch):
    *_, tuned = session
    tuned.save(tmp_path, model="tiny")
    before = (tmp_path / "embedder.keras").read_bytes()

    def full(self, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="The disk is full") as caught:
        tuned.save(tmp_path, model="tiny")
    assert caught.value.filename == str(tmp_path / "embedder.keras")
    assert (tmp_path / "embedder.keras").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_is_saved_has_the_mode_of_the_umask(session, tmp_path):
    *_, tuned = session
    umask = os.umask(0o077)
    try:
        tuned.save(tmp_path, model="tiny")
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(module.SAVED_FILES, 0o600)


def test_the_table_sets_before_beside_after(session):
    *_, tuned = session
    rows = {measure: values for measure, *values in tuned.rows()}
    assert rows["EER"] == [f"{tuned.before.eer:.2%}", f"{tuned.after.eer:.2%}"]


# Wrong input.


def test_fewer_than_eight_people_are_refused(tmp_path):
    write_synthetic_faces(tmp_path / "faces", 7, 2)
    with pytest.raises(ValueError, match=r"at least 8 .*Received: 7 identities in .*faces"):
        finetune(tiny_embedder(), FaceFolder(tmp_path / "faces"), progress=False)


@pytest.mark.parametrize("role", ["training", "held-out"])
def test_one_image_of_each_is_refused(tmp_path, role):
    write_synthetic_faces(tmp_path / "faces", 8, 2)
    faces = FaceFolder(tmp_path / "faces")
    people, held_out = module._split(faces, seed=0)
    for identity in (held_out if role == "held-out" else people).identities:
        (tmp_path / "faces" / identity / "001.jpg").unlink()
    with pytest.raises(ValueError, match=f"The {role} identities .*two or more"):
        finetune(tiny_embedder(), FaceFolder(tmp_path / "faces"), progress=False)


def test_images_of_another_size_than_the_embedders_are_refused(faces, tmp_path):
    shutil.copytree(faces.directory, tmp_path / "faces")
    small = FaceFolder(tmp_path / "faces", image_size=96)
    with pytest.raises(ValueError, match="image_size=112"):
        finetune(tiny_embedder(), small, progress=False)


def test_an_unknown_head_is_refused(faces):
    with pytest.raises(ValueError, match=r"`head` must be one of adacos.*Received: head='cosine'"):
        finetune(tiny_embedder(), faces, head="cosine", progress=False)


FEW = ("arcface", "curricularface", "subcenter")  # the contract of heads trains every head


@pytest.mark.parametrize(
    "head", [pytest.param(h, marks=[] if h in FEW else pytest.mark.slow) for h in module.HEADS]
)
def test_every_head_fine_tunes(faces, head):
    history = finetune(tiny_embedder(), faces, head=head, epochs=1, progress=False).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
