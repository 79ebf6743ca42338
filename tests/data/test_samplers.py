"""Samplers: what an epoch shows, alone, through both kinds of dataset and on several workers."""

import itertools

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin.augmentation.layers import (
    RandomCutout,
    RandomMirror,
    RandomPhotometric,
    RandomShift,
)
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.samplers import BalancedSampler, CappedSampler, IdentityBatches, Sampler
from keras_facemargin.images.image import read_face

COUNTS = [1, 2, 3, 9, 4, 4, 5, 2]
ALL = [IdentityBatches(3, 2), BalancedSampler(3), CappedSampler(2)]
LAYERS = [RandomShift(), RandomMirror(), RandomPhotometric(), RandomCutout()]


def labels_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Thirty images, each of a grey of its own."""
    place = tmp_path_factory.mktemp("faces")
    for number, label in enumerate(np.repeat(np.arange(len(COUNTS)), COUNTS)):
        file = place / str(label) / f"{number:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (112, 112), (8 * number,) * 3).save(file)
    return FaceFolder(place)


def shown(dataset):
    """Rows of the images of a pass without augmentation, batch by batch."""
    batches = []
    for images, labels in dataset:
        rows = (np.asarray(images)[:, 0, 0, 0] / 8).round().astype(int)
        assert len(rows) == len(np.asarray(labels))
        batches.append(rows.tolist())
    return batches


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


# The drawn images


@pytest.mark.parametrize("p", [2, 3, 8])
@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_batches_show_p_identities_with_m_images_each(p, m, seed):
    labels = labels_of(COUNTS, seed)
    order = IdentityBatches(p, m).draw(labels, np.random.default_rng(seed))
    batches = order.reshape(-1, p, m)
    groups = [-(-count // m) for count in COUNTS]
    assert len(batches) == -(-sum(groups) // p)
    for batch in batches:
        people = labels[batch]
        assert (people == people[:, :1]).all()
        assert len(set(people[:, 0].tolist())) == p
        for person, rows in zip(people[:, 0], batch, strict=True):
            assert len(set(rows.tolist())) == min(m, COUNTS[person])
    seen = np.bincount(labels[order[np.unique(order, return_index=True)[1]]], minlength=8)
    for person, count in enumerate(COUNTS):  # all images, or all that so many batches can show
        assert seen[person] >= min(count, m * len(batches) - m + 1) or groups[person] > len(batches)


def test_an_identity_with_most_of_the_images_does_not_break_the_rule():
    labels = np.repeat(np.arange(3), [100, 1, 2])
    sampler = IdentityBatches(2, 4)
    first, second = (sampler.draw(labels, np.random.default_rng(seed)) for seed in (0, 1))
    people = labels[first].reshape(-1, 2, 4)[:, :, 0]
    assert (people[:, 0] != people[:, 1]).all()
    assert len(people) == 14  # 27 groups
    assert len(set(first.tolist()) & set(range(100))) == 56
    assert set(first.tolist()) != set(second.tolist())  # another part of the hundred


def test_filled_places_are_spread():
    labels = np.repeat(np.arange(6), 2)
    fills = np.zeros(6)
    for seed in range(300):
        order = IdentityBatches(4, 2).draw(labels, np.random.default_rng(seed))
        assert len(order) == 16
        fills += np.bincount(labels[order], minlength=6) / 2 - 1
    np.testing.assert_allclose(fills / 300, 2 / 6, atol=0.12)


def test_all_pairs_of_identities_share_a_batch():
    labels, met = np.arange(8), np.zeros((8, 8), int)
    for seed in range(300):
        for pair in IdentityBatches(2, 1).draw(labels, np.random.default_rng(seed)).reshape(-1, 2):
            met[pair[0], pair[1]] += 1
            met[pair[1], pair[0]] += 1
    assert met[~np.eye(8, dtype=bool)].min() > 15  # 300 / 7 expected
    assert met.trace() == 0


def test_balanced_shows_each_identity_equally_often():
    labels = labels_of(COUNTS)
    order = BalancedSampler(4).draw(labels, np.random.default_rng(0))
    assert np.bincount(labels[order]).tolist() == [4] * 8
    times = np.bincount(order, minlength=len(labels))
    for person, count in enumerate(COUNTS):
        mine = times[labels == person]
        assert mine.max() - mine.min() <= 1
        assert count < 4 or mine.max() == 1
    assert (np.diff(labels[order]) != 0).sum() > 16  # shuffled


def test_capped_shortens_only_the_head():
    labels = labels_of(COUNTS)
    seen = set()
    for seed in range(40):
        order = CappedSampler(3).draw(labels, np.random.default_rng(seed))
        assert np.bincount(labels[order]).tolist() == [min(count, 3) for count in COUNTS]
        assert len(set(order.tolist())) == len(order)
        seen |= set(order.tolist())
    assert len(seen) == len(labels)


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_the_draw_depends_on_the_seed_only(sampler):
    labels = labels_of(COUNTS)
    orders = [sampler.draw(labels, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == len(orders[2])
    assert len(orders[0]) % sampler.unit == 0


def test_a_hundred_thousand_identities():
    labels = np.repeat(np.arange(100_000), np.arange(100_000) % 7 + 1)
    order = IdentityBatches(64, 4).draw(labels, np.random.default_rng(0))
    people = np.sort(labels[order].reshape(-1, 64, 4)[:, :, 0], axis=1)
    assert (np.diff(people, axis=1) > 0).all()
    assert len(np.unique(order)) == len(labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IdentityBatches(1, 2), "`identities` must .*at least 2. Received: identities=1"),
        (lambda: IdentityBatches(2, 0), "Received: images=0"),
        (lambda: BalancedSampler(1.5), "Received: images=1.5"),
        (lambda: CappedSampler(-1), "Received: images=-1"),
        (
            lambda: IdentityBatches(9, 2).draw(labels_of(COUNTS), np.random.default_rng(0)),
            "Received: 8 identities for",
        ),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Through the pipelines


@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_datasets_show_what_the_sampler_draws(faces, kind, sampler):
    options = {"training": True, "seed": 4, "sampler": sampler, "augmentation": []}
    dataset = getattr(faces, kind)(6, **options)
    for epoch in range(2):
        batches = shown(dataset)
        expected = sampler.draw(faces.labels, np.random.default_rng([4, epoch])).tolist()
        assert joined(batches) == expected
        assert len(batches) == len(dataset)
        if kind == "py_dataset":
            dataset.on_epoch_begin()
            dataset.on_epoch_end()


@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
@pytest.mark.parametrize("sampler", ALL, ids=repr)
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_epoch_of_a_sampler(faces, kind, sampler, workers):
    make = getattr(faces, kind)
    shares = [
        shown(make(6, training=True, sampler=sampler, augmentation=[], shard=(index, workers)))
        for index in range(workers)
    ]
    assert len({sum(map(len, share)) for share in shares}) == 1
    drawn = sampler.draw(faces.labels, np.random.default_rng([0, 0]))
    together = np.bincount(np.concatenate([joined(share) for share in shares]), minlength=30)
    more = together - np.bincount(drawn, minlength=30)
    assert more.min() >= 0
    assert more.sum() < workers * sampler.unit
    if sampler.unit > 1:
        for batch in joined(shares):
            people = faces.labels[batch].reshape(3, 2)
            assert (people[:, 0] == people[:, 1]).all()
            assert len(set(people[:, 0].tolist())) == 3


def test_both_containers_of_a_split_can_be_sampled(faces):
    first, _ = faces.split(3)
    batches = shown(first.dataset(6, training=True, sampler=IdentityBatches(3, 2), augmentation=[]))
    assert {len(batch) for batch in batches} == {6}


@pytest.mark.any_backend
def test_augmentation_in_the_pipeline_equals_that_of_the_layers(faces):
    pytest.importorskip("tensorflow")
    epochs = []
    for seed in (1, 1, 2):
        dataset = faces.dataset(7, training=True, seed=seed, augmentation=LAYERS)
        epochs.append([np.concatenate([x for x, _ in dataset.as_numpy_iterator()]) for _ in "ab"])
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    assert not np.array_equal(epochs[0][0], epochs[2][0])
    order = np.random.default_rng([1, 0]).permutation(30)
    numbers = np.random.default_rng([1, 0, 1]).random((30, 12), "float32")  # seed, epoch, block + 1
    images = np.stack([read_face(faces.paths[row]) for row in order]).astype("float32")
    images, numbers = map(keras.ops.convert_to_tensor, (images, numbers))
    start = 0
    for layer in LAYERS:
        images = layer.transform(images, numbers[:, start : start + layer.numbers])
        start += layer.numbers
    np.testing.assert_allclose(epochs[0][0], keras.ops.convert_to_numpy(images), atol=1e-3)


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
def test_fit_takes_augmented_faces(faces, kind):
    if kind == "dataset":
        pytest.importorskip("tensorflow")
    model = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(8)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = getattr(faces, kind)(10, training=True, augmentation=LAYERS)
    losses = model.fit(batches, shuffle=False, epochs=2, verbose=0).history["loss"]
    assert len(losses) == 2 and np.isfinite(losses).all()


@pytest.mark.any_backend
def test_augmentation_in_a_py_dataset_is_reproducible(faces):
    first, again = (faces.py_dataset(7, training=True, augmentation=LAYERS) for _ in range(2))
    for step in (3, 0):
        np.testing.assert_array_equal(first[step][0], again[step][0])
        assert first[step][0].dtype == np.float32
    plain = faces.py_dataset(7, training=True, augmentation=[])
    assert not np.array_equal(first[0][0], plain[0][0])
    np.testing.assert_array_equal(first[0][1], plain[0][1])


@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": CappedSampler(2)}, "need training=True. Received: training=False"),
        ({"augmentation": []}, "need training=True. Received: training=False"),
        ({"training": True, "augmentation": ["flip"]}, "Received: 'flip' in the list"),
        ({"training": True, "sampler": IdentityBatches(2, 2)}, "multiple of the 4 .*batch_size=6"),
        (
            {"training": True, "sampler": IdentityBatches(3, 2), "shard": (0, 9)},
            r"shard=\(0, 9\) for 36 images in batches of 6",
        ),
    ],
)
def test_wrong_doors(faces, kind, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(faces, kind)(6, **options)


def test_a_custom_sampler(faces):
    class Backwards(Sampler):
        def draw(self, labels, rng):
            return np.arange(len(labels))[::-1].copy()

    rows = shown(faces.dataset(10, training=True, sampler=Backwards(), augmentation=[]))
    assert joined(rows) == list(range(30))[::-1]
