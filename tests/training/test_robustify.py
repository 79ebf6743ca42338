"""robustify: the loss, the views, the rates; a resumed run equals the uninterrupted one."""

import itertools
import json

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate.degraded import CLEAN
from keras_facemargin.images import Crop, synthesize_faces, write_synthetic_faces
from keras_facemargin.training import robustify as room
from keras_facemargin.training.degraded_views import DegradedViews, draw_degradations
from keras_facemargin.training.distillation import CLEAN_WEIGHT, STRANGERS_WEIGHT, CleanTarget
from keras_facemargin.training.robustify import Robustified, robustify
from keras_facemargin.training.robustness import Kept, agreement, rates_of
from keras_facemargin.zoo import load_card, load_embedder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_synthetic_faces(tmp_path_factory.mktemp("unlabelled") / "faces", 50, 4, seed=3)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(folder, 48, 2, seed=9)
    return FaceFolder(folder)


@pytest.fixture(scope="module")
def result(images, people):
    return robustify(
        tiny_embedder(), images, test=people, steps=60, learning_rate=3e-3, progress=False
    )


SHORT = {"steps": 6, "batch_size": 8, "progress": False}


def test_degraded_faces_come_nearer_and_clean_ones_stay(result):
    before, after = result.agreement
    assert before[CLEAN] == pytest.approx(1)
    for kind in ("14px", "blur4"):
        assert 1 - after[kind] < 0.8 * (1 - before[kind])
    assert result.kept.mean == pytest.approx(after[CLEAN]) and result.kept.mean > 0.99
    assert result.kept.lowest <= result.kept.percentile_1 <= result.kept.mean


def test_strangers_on_bad_images_match_less_often(result):
    for kind in ("14px", "blur4"):
        assert result.after.both[kind].fmr < result.before.both[kind].fmr
    assert result.before.both[CLEAN].fmr <= result.before.far
    assert result.before.people == 48 and set(result.after.one) == set(result.after.both) - {CLEAN}


def test_the_test_people_give_the_thresholds(result, people):
    found = result.thresholds.find(mirrored=True)
    assert found.impostor_pairs == 96 * 95 // 2 - 48 and people.source.endswith("faces")
    assert found.data == "all pairs of 96 images of 48 people, faces"


@pytest.mark.any_backend
def test_a_resumed_run_equals_the_uninterrupted_one(images, tmp_path, monkeypatch):
    whole = tiny_embedder()
    robustify(whole, images, **SHORT)

    class Killed(Exception):
        pass

    steps = itertools.count(1)
    original = room._Checkpoint.save

    def save_then_die(self, step):
        original(self, step)
        if next(steps) == 4:
            raise Killed

    monkeypatch.setattr(room, "_SECONDS", 0.0)
    file = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(room._Checkpoint, "save", save_then_die)
        robustify(tiny_embedder(), images, checkpoint=file, **SHORT)
    resumed = tiny_embedder()
    drawn = []
    batch = DegradedViews.batch
    monkeypatch.setattr(
        DegradedViews, "batch", lambda self, step: drawn.append(step) or batch(self, step)
    )
    robustify(resumed, images, checkpoint=file, **SHORT)
    assert sorted(drawn) == [4, 5]
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(whole.get_weights()[0], tiny_embedder().get_weights()[0])


def test_a_checkpoint_of_another_run_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SECONDS", 0.0)
    file = tmp_path / "checkpoint"
    robustify(tiny_embedder(), images, checkpoint=file, **SHORT)
    with pytest.raises(ValueError, match=r"arguments of its start. Received: .*checkpoint"):
        robustify(tiny_embedder(), images, checkpoint=file, seed=1, **SHORT)
    file.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"checkpoint: must be a .npz file"):
        robustify(tiny_embedder(), images, checkpoint=file, **SHORT)


@pytest.mark.any_backend
def test_the_statistics_of_batch_normalisation_stay(images):
    embedder = tiny_embedder()
    robustify(embedder, images, **SHORT)
    ours, theirs = (each.get_layer("normalization") for each in (embedder, tiny_embedder()))
    gamma, _, *statistics = ours.get_weights()
    old_gamma, _, *old_statistics = theirs.get_weights()
    np.testing.assert_array_equal(statistics, old_statistics)
    assert not np.array_equal(gamma, old_gamma)
    assert embedder.trainable_variables


@pytest.mark.any_backend
def test_the_loss_is_its_equation():
    student, teacher = tiny_embedder(), tiny_embedder()
    student.set_weights([1.1 * each + 0.01 for each in student.get_weights()])
    views, clean = (synthesize_faces(4, 1, seed=seed)[0] for seed in (0, 1))
    weights = np.array([CLEAN_WEIGHT, 1, 1, 1], "float32")
    model = CleanTarget(student, teacher)
    model.compile(keras.optimizers.SGD(0.0))
    loss = float(model.train_on_batch(views, clean, weights))

    def units(embedder, crops):
        rows = embedder.predict(crops.astype("float32"), verbose=0).astype("float64")
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    s, t = units(student, views), units(teacher, clean)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    wanted = [t[i] @ t[j] for i, j in pairs]
    own = sum(weights[i] * (1 - s[i] @ t[i]) for i in range(4)) / weights.sum()
    excess = [max(s[i] @ s[j] - t[i] @ t[j], 0) ** 2 for i, j in pairs]
    assert sum(excess) > 0
    expected = own / (1 - np.mean(wanted)) + STRANGERS_WEIGHT * np.mean(excess) / np.var(wanted)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_a_batch_depends_on_its_number_alone(images):
    views = DegradedViews(images, Crop(112, 112), batch_size=8, seed=5)
    ahead = list(views.batches(3, 6))
    again = DegradedViews(images, Crop(112, 112), batch_size=8, seed=5).batch(4)
    for ours, theirs in zip(ahead[1], again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.is_clean.tolist() == [True] * 2 + [False] * 6
    np.testing.assert_array_equal(again.degraded[:2], again.clean[:2])
    assert all((again.degraded[row] != again.clean[row]).any() for row in range(2, 8))
    other = DegradedViews(images, Crop(112, 112), batch_size=8, seed=6).batch(4)
    assert (other.clean != again.clean).any()


def test_a_pass_shows_every_image_once(images):
    views = DegradedViews(images[:20], Crop(112, 112), batch_size=8, seed=0)
    rows = list(itertools.chain(*(views._rows(step) for step in range(5))))
    assert sorted(rows[:20]) == sorted(rows[20:]) == list(range(20))
    assert rows[:20] != rows[20:]


def test_drawn_degradations_reach_the_tested_ones():
    crop = synthesize_faces(1, 1)[0][0]
    change = [
        [np.abs(f(crop).astype(int) - crop).mean() for f in draw_degradations(rng)]
        for rng in map(np.random.default_rng, range(40))
    ]
    assert (np.min(change, 0) < np.max(change, 0) / 3).all()


def test_rates_count_every_pair():
    turn = np.deg2rad([0, 90, 180, 0, 10, 100, 170, 40])
    first, second = (np.stack([np.cos(a), np.sin(a)], 1) for a in (turn[:4], turn[4:]))
    found = rates_of({CLEAN: (first, second), "14px": (second, second)}, 0.1)
    scores = first @ second.T
    impostors = scores[~np.eye(4, dtype=bool)]
    assert np.sum(impostors >= found.threshold) == 1
    assert found.both[CLEAN].fnmr == np.mean(np.diag(scores) < found.threshold)
    assert found.one["14px"].fmr == found.both[CLEAN].fmr
    worse = (second @ second.T)[~np.eye(4, dtype=bool)]
    assert found.both["14px"].fmr == np.mean(worse >= found.threshold)
    rows = {CLEAN: (first, second)}
    assert Kept.of(rows, rows).lowest == pytest.approx(1)
    assert agreement(rows, {CLEAN: (second, first)})[CLEAN] == pytest.approx(np.diag(scores).mean())


def test_the_folder_is_an_embedder_with_a_card(result, tmp_path):
    (tmp_path / "robust").mkdir()  # an empty folder may exist
    result.save(tmp_path / "robust", "spherenet_distilled")
    card, parent = load_card(tmp_path / "robust"), load_card("spherenet_distilled")
    assert card.name == "robust" and card.embedding_id != parent.embedding_id
    assert card.lineage[: len(parent.lineage)] == parent.lineage
    assert card.lineage[-1].startswith("Embedder trained from spherenet_distilled on 200 ")
    assert card.license[: len(parent.license)] == parent.license and not card.commercial_use
    assert card.thresholds == result.thresholds and card.caution
    assert card.notes[-1] == f"Beside those of spherenet_distilled: {result.kept}."
    report = json.loads((tmp_path / "robust" / "report.json").read_text())
    assert report["after"]["both"]["blur4"]["fmr"] == result.after.both["blur4"].fmr
    faces = synthesize_faces(2, 1)[0].astype("float32")
    ours, theirs = (
        each.predict(faces, verbose=0)
        for each in (load_embedder(tmp_path / "robust"), result.embedder)
    )
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(FileExistsError, match=r"must not be in use. Received: .*robust exists"):
        result.save(tmp_path / "robust", "spherenet_distilled")
    assert [each.name for each in tmp_path.iterdir()] == ["robust"]


def test_a_failed_save_leaves_nothing(result, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(room, "write_json", fail)
    with pytest.raises(OSError, match="no space"):
        result.save(tmp_path / "robust", "spherenet_distilled")
    assert not list(tmp_path.iterdir())


def test_without_people_a_tenth_of_the_images_measures(images):
    result = robustify(tiny_embedder(), images, **SHORT)
    assert (result.images, result.before, result.thresholds) == (180, None, None)
    assert isinstance(result, Robustified) and "calibrate" in result.remarks[-1]
    assert set(result.agreement[1]) >= {"14px", "jpeg8", CLEAN}


def test_bad_input_is_refused_in_a_sentence(images, people, tmp_path):
    def refused(match, embedder=None, faces=images, **options):
        with pytest.raises(ValueError, match=match):
            robustify(embedder or tiny_embedder(), faces, **{**SHORT, **options})

    refused("200 or more images. Received: 10", faces=images[:10])
    refused("multiple of 4. Received: batch_size=6", batch_size=6)
    refused("`steps` must be at least 1", steps=0)
    refused("above 0. Received: .*learning_rate=0", learning_rate=0)
    refused("40 people with two images each. Received: 12", test=people.split(36)[0])
    refused("is not a face crop:", faces=[*images, *write_other_shape(tmp_path)])
    frozen = tiny_embedder()
    frozen.trainable = False
    refused("no weights to train. Received: 'tiny', whose layer .* is frozen", frozen)


def write_other_shape(folder):
    from PIL import Image

    Image.new("RGB", (96, 112)).save(folder / "narrow.png")
    return [folder / "narrow.png"]


def test_a_loss_that_is_not_finite_stops_the_run(images):
    embedder = tiny_embedder()
    embedder.get_layer("normalization").gamma.assign(np.full(24, np.nan))
    with pytest.raises(ValueError, match="finite"):
        robustify(embedder, images, **SHORT)
