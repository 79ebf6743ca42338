"""robustify: the correction, its loss, the views, the rates; a resumed run equals the other."""

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
from keras_facemargin.training.correction import (
    DEGRADED_WEIGHT,
    MAPS,
    MOST_OF_ANOTHER,
    STRANGERS_LIMIT,
    STRANGERS_WEIGHT,
    CorrectionTrainer,
    Range,
    _mixed,
    new_correction,
    train_correction,
)
from keras_facemargin.training.degraded_views import DegradedViews, draw_degradations
from keras_facemargin.training.robustify import Robustified, robustify
from keras_facemargin.training.robustness import Kept, agreement, rates_of
from keras_facemargin.zoo import load_card, load_embedder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_synthetic_faces(tmp_path_factory.mktemp("unlabelled") / "faces", 50, 4, seed=3)


@pytest.fixture
def few(images, monkeypatch):
    """Enough for three blocks of a quarter, for tests of what is around the training."""
    monkeypatch.setattr(room, "_FEWEST", 40)
    monkeypatch.setattr(room, "_VIEWS", 72)
    monkeypatch.setattr(room, "STEPS", 4)
    return images[:60]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(folder, 48, 2, seed=9)
    return FaceFolder(folder)


@pytest.fixture(scope="module", autouse=True)
def short():
    """A tenth of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "STEPS", 300)
        yield


@pytest.fixture(scope="module")
def result(images, people):
    return robustify(tiny_embedder(), images, test=people, progress=False)


def test_degraded_faces_come_nearer_and_clean_ones_stay(result):
    before, after = result.agreement
    assert before[CLEAN] == pytest.approx(1)
    for kind in ("14px", "blur4"):
        assert 1 - after[kind] < 0.8 * (1 - before[kind])
    assert result.kept.mean == pytest.approx(after[CLEAN]) and result.kept.mean > 0.98
    assert result.kept.lowest <= result.kept.percentile_1 <= result.kept.mean


def test_strangers_on_bad_images_match_less_often(result):
    before, after = (
        sum(each.fmr for kind, each in rates.both.items() if kind != CLEAN)
        for rates in (result.before, result.after)
    )
    assert after < before
    assert result.before.both[CLEAN].fmr <= result.before.far
    assert result.before.people == 48 and set(result.after.one) == set(result.after.both) - {CLEAN}


def test_the_test_people_give_the_thresholds(result, people):
    found = result.thresholds.find(mirrored=True)
    assert found.impostor_pairs == 96 * 95 // 2 - 48 and people.source.endswith("faces")
    assert found.data == "all pairs of 96 images of 48 people, faces"


@pytest.mark.any_backend
def test_a_resumed_run_equals_the_uninterrupted_one(few, tmp_path, monkeypatch):
    whole = robustify(tiny_embedder(), few, progress=False)

    class Killed(Exception):
        pass

    blocks = itertools.count(1)
    original = room._Bank._save

    def save_then_die(self, found):
        original(self, found)
        if next(blocks) == 2:
            raise Killed

    monkeypatch.setattr(room, "_SECONDS", 0.0)
    file = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(room._Bank, "_save", save_then_die)
        robustify(tiny_embedder(), few, checkpoint=file, progress=False)
    drawn = []
    batch = DegradedViews.batch
    monkeypatch.setattr(
        DegradedViews, "batch", lambda self, step: drawn.append(step) or batch(self, step)
    )
    resumed = robustify(tiny_embedder(), few, checkpoint=file, progress=False)
    assert drawn == [2]  # of three
    for ours, theirs in zip(
        resumed.embedder.get_weights(), whole.embedder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_another_run_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SECONDS", 0.0)
    file = tmp_path / "checkpoint"
    robustify(tiny_embedder(), few, checkpoint=file, progress=False)
    with pytest.raises(ValueError, match=r"arguments of its start. Received: .*checkpoint"):
        robustify(tiny_embedder(), few, checkpoint=file, seed=1, progress=False)
    file.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"checkpoint: must be a .npz file"):
        robustify(tiny_embedder(), few, checkpoint=file, progress=False)


@pytest.mark.any_backend
def test_the_embedder_itself_does_not_change(few):
    embedder = tiny_embedder()
    embedder.trainable = False  # a frozen one serves
    robust = robustify(embedder, few, progress=False).embedder
    old = tiny_embedder().get_weights()
    for weights in (embedder.get_weights(), robust.get_weights()[: len(old)]):
        for ours, theirs in zip(weights, old, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert robust.input_shape == embedder.input_shape
    assert robust.output_shape == embedder.output_shape
    again = robustify(robust, few, progress=False).embedder
    assert [layer.name for layer in again.layers][-2:] == ["correction", "correction_2"]


@pytest.mark.any_backend
def test_a_new_correction_changes_nothing():
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype("float32")
    found = Range.of(rows)
    assert not found.is_unit and found.norm == pytest.approx(np.linalg.norm(rows, axis=1).mean())
    np.testing.assert_array_equal(new_correction(12, found, 0).predict(rows, verbose=0), rows)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = Range.of(units)
    cosines = (units @ units.T)[np.triu_indices(60, 1)]
    np.testing.assert_allclose(found[2:], (cosines.mean(), cosines.std()), rtol=1e-4)
    correction = new_correction(12, found, 0)
    correction.get_layer("correction_maps").bias.assign(np.ones(MAPS * 12))
    moved = correction.predict(units, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, rtol=1e-5)
    assert not np.allclose(moved, units, atol=0.1)


@pytest.mark.any_backend
def test_the_loss_is_its_equation():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(4, 6))
    views = np.concatenate([clean, clean + 2, clean + 1]).astype("float32")  # bad ones gather
    t = clean / np.linalg.norm(clean, axis=1, keepdims=True)
    found = Range(norm=2.0, is_unit=False, mean=0.1, deviation=0.2)
    correction = new_correction(6, found, 0)
    correction.get_layer("correction_maps").bias.assign(rng.normal(size=MAPS * 6))
    s = correction.predict(views, verbose=0).astype("float64")
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    model = CorrectionTrainer(correction, found)
    model.compile(keras.optimizers.SGD(0.0))
    loss = float(model.train_on_batch(views, t.astype("float32")))
    far = [1 - s[i] @ t[i % 4] for i in range(12)]
    own = np.mean(far[:4]) + DEGRADED_WEIGHT * np.mean(far[4:])
    limit = 0.1 + STRANGERS_LIMIT * 0.2
    excess = [
        max(s[i] @ s[j] - max(t[i % 4] @ t[j % 4], limit), 0) ** 2 / 0.2**2
        for i in range(12)
        for j in range(12)
        if i % 4 != j % 4
    ]
    assert sum(excess) > 0
    np.testing.assert_allclose(loss, own / 0.9 + STRANGERS_WEIGHT * np.mean(excess), rtol=1e-4)


def test_a_crop_is_mixed_with_one_other_in_all_its_views():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(3, 9, 5)).astype("float32")
    mixed = _mixed(block, np.random.default_rng(1))
    assert mixed.dtype == np.float32 and np.abs(mixed - block).max() > 0.1
    for crop in range(9):
        moved = (mixed[:, crop] - block[:, crop]).ravel()
        ways = [(block[:, other] - block[:, crop]).ravel() for other in range(9)]
        shares = [moved @ way / max(way @ way, 1e-9) for way in ways]
        rests = [np.abs(moved - a * way).max() for a, way in zip(shares, ways, strict=True)]
        best = int(np.argmin(rests))
        assert rests[best] < 1e-6 and 0 <= shares[best] <= MOST_OF_ANOTHER


def test_a_loss_that_is_not_finite_stops_the_training():
    blocks = np.ones((2, 4, 8, 6), "float32")
    blocks[1] = np.inf
    with pytest.raises(ValueError, match="finite"):
        train_correction(blocks, steps=4, seed=0, advance=lambda: None)


def test_a_batch_depends_on_its_number_alone(images):
    views = DegradedViews(images, Crop(112, 112), batch_size=8, seed=5)
    ahead = list(views.batches(3, 6))
    again = DegradedViews(images, Crop(112, 112), batch_size=8, seed=5).batch(4)
    np.testing.assert_array_equal(ahead[1], again)
    assert again.shape == (8, 112, 112, 3)
    for kind in range(1, 4):  # of the same two crops
        change = np.abs(again[2 * kind : 2 * kind + 2].astype(int) - again[:2]).mean((1, 2, 3))
        assert (change > 0).all() and (change < 40).all()
    other = DegradedViews(images, Crop(112, 112), batch_size=8, seed=6).batch(4)
    assert (other[:2] != again[:2]).any()


def test_a_pass_shows_every_image_once(images):
    views = DegradedViews(images[:20], Crop(112, 112), batch_size=16, seed=0)
    assert views.batches_of_a_pass == 5
    rows = list(itertools.chain(*(views._rows(step) for step in range(10))))
    assert sorted(rows[:20]) == sorted(rows[20:]) == list(range(20))
    assert rows[:20] != rows[20:]


def test_drawn_degradations_reach_the_tested_ones():
    crop = synthesize_faces(1, 1)[0][0]
    change = [
        [np.abs(f(crop).astype(int) - crop).mean() for f in draw_degradations(rng)]
        for rng in map(np.random.default_rng, range(40))
    ]
    assert (np.min(change, 0) < np.max(change, 0) / 2.5).all()


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
    assert card.lineage[-1].startswith("Embedder made from spherenet_distilled with layers ")
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


def test_without_people_a_tenth_of_the_images_measures(few):
    result = robustify(tiny_embedder(), few, progress=False)
    assert (result.images, result.before, result.thresholds) == (54, None, None)
    assert isinstance(result, Robustified) and "calibrate" in result.remarks[-1]
    assert set(result.agreement[1]) >= {"14px", "jpeg8", CLEAN}


def test_no_more_images_than_needed_are_used(few, monkeypatch):
    monkeypatch.setattr(room, "_MOST", 50)
    assert robustify(tiny_embedder(), few, progress=False).images == 45


def test_bad_input_is_refused_in_a_sentence(images, people, tmp_path):
    def refused(match, faces=images, **options):
        with pytest.raises(ValueError, match=match):
            robustify(tiny_embedder(), faces, progress=False, **options)

    refused("200 or more images. Received: 10", faces=images[:10])
    refused("40 people with two images each. Received: 12", test=people.split(36)[0])
    refused("is not a face crop:", faces=[*images, *write_other_shape(tmp_path)])


def test_photos_are_refused(images, tmp_path):
    from PIL import Image

    photos = []
    for number, path in enumerate(images):
        with Image.open(path) as crop:
            photo = Image.new("RGB", (250, 250))
            photo.paste(crop, (70, 50))
        photos.append(tmp_path / f"{number}.jpg")
        photo.save(photos[-1])
    with pytest.raises(ValueError, match=r"must be aligned crops. Received: 200 images. The f"):
        robustify(tiny_embedder(), photos, progress=False)


def write_other_shape(folder):
    from PIL import Image

    Image.new("RGB", (96, 112)).save(folder / "narrow.png")
    return [folder / "narrow.png"]
