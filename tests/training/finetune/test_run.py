"""Fine-tuning as a whole: what trains, what tests, what is kept, what the folder holds."""

import copy
import errno
import json
import os
import stat
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin import load_card, load_embedder
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.images import Crop, read_face
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.training.finetune import HEADS, SAVED_FILES, finetune, read_known
from keras_facemargin.training.finetune.judge import FAR, Comparison
from keras_facemargin.training.finetune.run import SHARES


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(directory, 16, 8)
    return FaceFolder(directory)


@pytest.fixture(scope="module")
def session(faces):
    """(embedder, its weights before, `FineTuned`).

    The judgement is taken for a gain: so small an embedder gains nothing here.
    """
    embedder = tiny_embedder()
    weights = [np.array(weight) for weight in embedder.weights]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Comparison, "score", 0.1)
        tuned = finetune(embedder, faces, progress=False)
    return embedder, weights, tuned


@pytest.fixture(scope="module")
def useless(faces):
    """(embedder, `FineTuned`) of a training that the judgement takes for a loss."""
    embedder = tiny_embedder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Comparison, "score", -0.1)
        tuned = finetune(embedder, faces, progress=False)
    return embedder, tuned


def unit(embeddings):
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def pixels(paths):
    return np.stack([read_face(path) for path in paths]).astype("float32")


def person(path):
    return Path(path).parent.name


def test_it_learns_and_keeps_what_was_gained(session):
    *_, tuned = session
    assert sorted(tuned.history) == ["accuracy", "loss"]
    assert tuned.history["loss"][-1] < 0.7 * tuned.history["loss"][0]
    assert (tuned.trained, tuned.share) == ("embedding", 1.0)
    assert tuned.result is tuned.after
    assert tuned.verdict.startswith("Your people are recognised with TPIR @ FPIR 0.1 ")


@pytest.mark.slow
def test_held_out_people_are_verified_better(tmp_path):
    write_synthetic_faces(tmp_path / "faces", 64, 12)
    tuned = finetune(load_embedder("spherenet_distilled"), FaceFolder(tmp_path / "faces"))
    assert tuned.share > 0
    assert tuned.after.strangers.eer < tuned.before.strangers.eer


def test_the_embedder_is_as_it_was_and_the_result_appends_one_linear_layer(session):
    embedder, before, tuned = session
    for now, then in zip(embedder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert all(layer.trainable for layer in embedder.layers)
    result = tuned.classifier.embedder
    assert [type(layer).__name__ for layer in result.layers[len(embedder.layers) :]] == ["Dense"]
    assert Crop.of_embedder(result) == Crop.of_embedder(embedder)


def test_the_figures_after_are_those_of_the_result(session):
    """Shares are judged on mapped embeddings; the result embeds images."""
    *_, tuned = session
    rows = embed(tuned.classifier.embedder, tuned.strangers.paths, progress=False)
    np.testing.assert_allclose(rows, tuned.after.embeddings["strangers"], rtol=1e-4, atol=1e-4)


def test_what_was_not_gained_leaves_the_embedder_and_the_mean_embeddings(useless):
    embedder, tuned = useless
    assert (tuned.trained, tuned.share) == (None, 0)
    assert tuned.classifier.embedder is embedder
    assert tuned.remarks[0] == tuned.verdict
    assert tuned.verdict.startswith("Too little was gained: your people are recognised with TPIR")
    paths, labels = tuned.parts.training.paths, tuned.parts.training.labels
    views = embed(embedder, paths, progress=False).reshape(len(paths), 2, -1)
    sums = unit(views.reshape(-1, views.shape[-1])).reshape(views.shape).sum(axis=1)
    means = unit(np.stack([sums[labels == each].sum(axis=0) for each in range(12)]))
    np.testing.assert_allclose(tuned.classifier.head.prototypes, means, atol=1e-5)
    assert tuned.thresholds.find(mirrored=True).impostor_pairs == tuned.before.strangers.impostors


def test_the_best_share_is_kept(faces, monkeypatch):
    """The one that the judgement prefers, and the weights that belong to it."""
    scores = iter((-0.1, 0.1, 0.3, 0.2, 0.3))  # of SHARES, and of the best one
    monkeypatch.setattr(Comparison, "score", property(lambda self: next(scores)))
    embedder = tiny_embedder()
    tuned = finetune(embedder, faces, progress=False)
    assert tuned.share == SHARES[2] == 0.5
    assert "50% of the learned change is kept" in tuned.verdict
    one = embed(tuned.classifier.embedder, tuned.strangers.paths, progress=False)
    np.testing.assert_allclose(one, tuned.after.embeddings["strangers"], rtol=1e-4, atol=1e-4)


def test_strangers_and_test_images_are_not_trained_on(session, faces):
    *_, tuned = session
    parts = tuned.parts
    training, test = set(parts.training.paths), set(parts.test.paths)
    assert training.isdisjoint(test)
    assert len(test) == 12  # one of eight images of each person
    trained_on = {person(path) for path in training}
    assert trained_on == {person(path) for path in test} == set(parts.identities)
    assert len(parts.strangers.identities) == 4  # a quarter
    assert trained_on.isdisjoint(parts.strangers.identities)
    assert trained_on | set(parts.strangers.identities) == set(faces.identities)


def test_the_pairs_are_the_strangers_that_were_scored(session):
    *_, tuned = session
    paths = sorted({*tuned.pairs.first, *tuned.pairs.second})
    assert {person(path) for path in paths} == set(tuned.parts.strangers.identities)
    images = pixels(paths)
    views = [tuned.classifier.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
    embeddings = dict(zip(paths, unit(np.concatenate(views, axis=1)), strict=True))
    assert len(tuned.pairs) == len(embeddings) * (len(embeddings) - 1) / 2
    for index in range(0, len(tuned.pairs), 25):
        first, second = tuned.pairs.first[index], tuned.pairs.second[index]
        assert tuned.pairs.same[index] == (person(first) == person(second))
        score = embeddings[first] @ embeddings[second]
        assert tuned.after.strangers.scores[index] == pytest.approx(score, abs=1e-4)


def test_few_pairs_give_the_threshold_of_the_smallest_rate_that_they_show(session):
    *_, tuned = session
    embedder = tuned.classifier.embedder
    pairs = 4 * 3 // 2 * 8 * 8
    assert tuned.after.strangers.impostors == pairs < 1 / FAR
    paths = sorted({*tuned.pairs.first, *tuned.pairs.second})
    people = [person(path) for path in paths]
    for chosen, flip in (
        (tuned.thresholds.find(mirrored=True), True),
        (tuned.thresholds.find(mirrored=False), False),
    ):
        assert (chosen.impostor_pairs, chosen.far) == (pairs, 1 / pairs)
        scores, same = all_pairs(embed(embedder, paths, flip=flip, progress=False), people)
        assert (scores[~same] >= chosen.cosine + 1e-6).sum() <= 1
        assert (scores[~same] >= chosen.cosine - 1e-6).sum() == 2
    (remark,) = [each for each in tuned.remarks if "smallest" in each]
    assert "FAR 0.0026, the smallest that 384 impostor pairs of 4 strangers" in remark
    assert "FAR 0.001 needs 1,000" in remark


# The folder.


@pytest.fixture(scope="module")
def saved(session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "new" / "folder"
    session[-1].save(folder, model="tiny")
    return folder


def test_what_is_saved_can_be_used_and_trained_on(session, saved):
    *_, tuned = session
    embedder = tuned.classifier.embedder
    assert sorted(path.name for path in saved.iterdir()) == sorted(SAVED_FILES)
    images = pixels(tuned.parts.training.paths[:4])
    expected = embedder.predict(images, verbose=0)
    opened = load_embedder(saved)
    np.testing.assert_allclose(opened.predict(images, verbose=0), expected, atol=1e-5)

    classifier = keras.saving.load_model(saved / "classifier.keras")
    np.testing.assert_array_equal(
        classifier.head.prototypes, np.array(tuned.classifier.head.prototypes)
    )
    classifier.compile("sgd")
    history = classifier.fit(images, tuned.parts.training.labels[:4], verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_the_record_names_the_people_and_the_figures(session, saved):
    *_, tuned = session
    record = json.loads((saved / "report.json").read_text())
    assert (record["model"], record["head"]) == ("tiny", "CosFace")
    assert (record["trained"], record["share"]) == ("embedding", 1.0)
    assert record["strangers"] == tuned.parts.strangers.identities
    assert record["identities"] == record["trained_identities"] == tuned.parts.identities
    assert record["history"] == tuned.history
    assert record["before"]["strangers"]["eer"] == tuned.before.strangers.eer
    assert record["after"]["people"] == tuned.after.people.to_dict()
    assert record["measures"][0]["name"] == "Your people, rank-1"
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
        "Embedder fine-tuned from spherenet_distilled on 84 images of 12 people, with CosFace: "
        "a linear map of the embedding."
    )
    assert card.thresholds == tuned.thresholds
    assert (card.embedding_dim, card.measured, card.training) == (24, (), None)
    tuned.save(tmp_path / "second", model=tmp_path / "first")
    assert load_card(tmp_path / "second").lineage[:-1] == card.lineage
    tuned.save(tmp_path / "third", model="somewhere else")
    assert load_card(tmp_path / "third").license == ()


def test_the_card_of_an_unchanged_embedder_says_so_and_adds_no_images(useless, tmp_path):
    tuned, first = useless[-1], tmp_path / "first"
    tuned.save(first, model="tiny")
    tuned.save(tmp_path / "again", model=first)
    card, base = load_card(tmp_path / "again"), load_card(first)
    assert card.license == base.license
    assert card.lineage == (*base.lineage, card.description)
    assert card.description == (
        f"Embedder of {first}, unchanged: fine-tuning on 84 images of 12 people gained too little."
    )
    assert card.thresholds == tuned.thresholds
    load_embedder(tmp_path / "again")


def test_a_full_disk_leaves_nothing_and_names_the_file(session, tmp_path, monkeypatch):
    *_, tuned = session

    def full(self, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="The disk is full") as caught:
        tuned.save(tmp_path / "one", model="tiny")
    assert Path(caught.value.filename).name == "embedder.keras"
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused(session, tmp_path):
    *_, tuned = session
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="must not be in use"):
        tuned.save(tmp_path, model="tiny")
    assert [each.name for each in tmp_path.iterdir()] == ["note.txt"]


def test_what_is_saved_has_the_mode_of_the_umask(session, tmp_path):
    *_, tuned = session
    umask = os.umask(0o077)
    try:
        tuned.save(tmp_path, model="tiny")
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(SAVED_FILES, 0o600)


# People of an earlier run.


def test_known_people_keep_their_prototypes_and_new_ones_are_added(saved, faces, monkeypatch):
    monkeypatch.setattr(Comparison, "score", -0.1)  # nothing is gained, so none moves
    known = read_known(saved)
    assert len(known.identities) == 12
    order = [faces.identities.index(name) for name in known.identities]
    newcomers = [label for label in range(16) if label not in order]
    now = faces._take(np.isin(faces.labels, [*order[:3], *newcomers[:2]]))
    kept, labels = np.unique(now.labels, return_inverse=True)
    now.identities, now.labels = [faces.identities[k] for k in kept], labels.astype("int32")
    strangers = faces._take(np.isin(faces.labels, newcomers[2:]))
    strangers.labels = np.unique(strangers.labels, return_inverse=True)[1].astype("int32")
    strangers.identities = [faces.identities[label] for label in newcomers[2:]]

    tuned = finetune(
        load_embedder(saved),
        now,
        strangers=strangers,
        known=known,
        progress=False,
    )
    added = sorted(faces.identities[label] for label in newcomers[:2])
    assert tuned.parts.identities == [*known.identities, *added]
    prototypes = np.array(tuned.classifier.head.prototypes)
    np.testing.assert_allclose(prototypes[:12], known.prototypes, atol=1e-6)
    new = tuned.parts.training
    images = pixels([p for p, label in zip(new.paths, new.labels, strict=True) if label == 13])
    views = [images, images[:, :, ::-1]]
    mean = sum(unit(tuned.classifier.predict(view, verbose=0)).mean(axis=0) for view in views)
    np.testing.assert_allclose(prototypes[13], mean / np.linalg.norm(mean), atol=1e-5)


def test_names_that_another_run_contradicts_are_refused(saved, session, faces):
    known = read_known(saved)
    swapped = copy.copy(faces)
    first, second = (faces.identities.index(name) for name in known.identities[:2])
    names = list(faces.identities)
    names[first], names[second] = names[second], names[first]
    swapped.identities = names
    with pytest.raises(ValueError, match=r"must keep the name. Received: 'person_\d+' in .*cosine"):
        finetune(load_embedder(saved), swapped, known=known, progress=False)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("report.json", b"{}", "does not list `identities`"),
        ("report.json", b'{"identities": ["a"]}', "12 prototypes in classifier.keras and 1 people"),
        ("classifier.keras", b"junk", "classifier.keras that cannot be opened"),
    ],
)
def test_a_damaged_folder_is_named(saved, tmp_path, name, content, error):
    for file in ("report.json", "classifier.keras"):
        (tmp_path / file).write_bytes((saved / file).read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"that `finetune` wrote. Received: .*{error}"):
        read_known(tmp_path)


# Wrong input.


def test_an_unknown_head_is_refused(faces):
    with pytest.raises(ValueError, match=r"`head` must be one of adacos.*Received: head='cosine'"):
        finetune(tiny_embedder(), faces, head="cosine", progress=False)


FEW = ("arcface", "subcenter")  # the contract of heads trains every head


@pytest.mark.parametrize(
    "head", [pytest.param(h, marks=[] if h in FEW else pytest.mark.slow) for h in HEADS]
)
def test_every_head_fine_tunes(faces, head):
    history = finetune(tiny_embedder(), faces, head=head, progress=False).history
    assert np.isfinite(history["loss"]).all()
