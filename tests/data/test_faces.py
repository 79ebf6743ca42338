"""What every container of faces offers: the share of a worker, a PyDataset, splits."""

import pickle

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin.augmentation.light import augment, draw_augmentation, move, recolour
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.data.tfrecords import FaceTFRecords, write_face_tfrecords
from keras_facemargin.images.image import read_face

COUNT, PEOPLE = 23, 5


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same flat images, each of a grey of its own, as a folder and as records."""
    place = tmp_path_factory.mktemp("faces")
    for number in range(COUNT):
        file = place / "folder" / str(number % PEOPLE) / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (112, 112), (10 * number,) * 3).save(file)
    folder = FaceFolder(place / "folder")
    write_face_records(place / "faces.rec", folder.paths, folder.labels)
    write_face_tfrecords(
        place / "faces.tfrecord",
        folder.paths,
        folder.labels,
        identities=folder.identities,
        shards=3,
    )
    return place


# Containers differ in how they read; `test_all_containers_give_the_same_epochs` compares the rest.
one_container = pytest.mark.parametrize(
    "faces",
    [
        "folder",
        pytest.param("records", marks=pytest.mark.slow),
        pytest.param("tfrecords", marks=pytest.mark.slow),
    ],
    indirect=True,
)


@pytest.fixture(params=["folder", "records", "tfrecords"])
def faces(request, places):
    if request.param == "folder":
        return FaceFolder(places / "folder")
    if request.param == "tfrecords":
        return FaceTFRecords(places / "faces.tfrecord")
    return FaceRecords(places / "faces.rec")


def collect(dataset):
    images, labels = zip(*dataset, strict=True)
    return np.concatenate([np.asarray(each) for each in images]), np.concatenate(labels)


def next_epoch(batches):
    batches.on_epoch_begin()
    batches.on_epoch_end()


@pytest.fixture
def order(monkeypatch, faces):
    """The images of a pass, as row numbers in `faces`: augmentation is switched off."""

    def still(rng, count):
        parameters = draw_augmentation(rng, count)
        return parameters._replace(
            corner=np.array([[4, 4, 0]] * count, "int32"),
            colour=np.broadcast_to(np.eye(3, dtype="float32"), (count, 3, 3)).copy(),
            offset=np.zeros((count, 1), "float32"),
        )

    monkeypatch.setattr("keras_facemargin.augmentation.light.draw_augmentation", still)
    greys = {int(read_face(path)[0, 0, 0]): row for row, path in enumerate(faces.paths)}
    assert len(greys) == COUNT

    def rows(dataset):
        images, labels = collect(dataset)
        found = [greys[round(float(image[50, 50, 0]))] for image in images]
        assert labels.tolist() == faces.labels[found].tolist()
        return found

    return rows


@pytest.mark.parametrize("other", [FaceRecords, FaceTFRecords])
def test_all_containers_give_the_same_epochs(places, other):
    name = {FaceRecords: "faces.rec", FaceTFRecords: "faces.tfrecord"}[other]
    folder, stored = FaceFolder(places / "folder"), other(places / name)
    ours, theirs = (each.dataset(4, training=True, seed=5) for each in (folder, stored))
    for _ in range(2):
        for (a, x), (b, y) in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(x, y)


@one_container
@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
@pytest.mark.parametrize("workers", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_workers_share_an_epoch(faces, order, kind, workers):
    make = getattr(faces, kind)
    datasets = [make(3, training=True, seed=7, shard=(index, workers)) for index in range(workers)]
    epochs = []
    for _ in range(2):
        shares = [order(dataset) for dataset in datasets]
        sizes = {len(share) for share in shares}
        assert sizes == {-(-COUNT // workers)}
        seen = np.bincount(np.concatenate(shares), minlength=COUNT)
        assert seen.min() == 1
        assert (seen - 1).sum() == sizes.pop() * workers - COUNT
        epochs.append(shares)
        if kind == "py_dataset":
            for dataset in datasets:
                next_epoch(dataset)
    assert epochs[0] != epochs[1]
    whole = order(make(3, training=True, seed=7))
    for index, share in enumerate(epochs[0]):
        mine = whole[index::workers]
        assert share[: len(mine)] == mine


@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
def test_without_training_each_image_is_seen_once(faces, order, kind):
    make = getattr(faces, kind)
    for workers in (1, 3):
        shares = [order(make(3, shard=(index, workers))) for index in range(workers)]
        assert shares == [list(range(index, COUNT, workers)) for index in range(workers)]
        lengths = [len(make(3, shard=(index, workers))) for index in range(workers)]
        assert lengths == [-(-len(share) // 3) for share in shares]


@one_container
def test_both_kinds_of_dataset_have_the_same_order(faces, order):
    dataset = faces.dataset(4, training=True, seed=3)
    batches = faces.py_dataset(4, training=True, seed=3)
    for _ in range(3):
        assert order(dataset) == order(batches)
        next_epoch(batches)


@one_container
def test_a_share_is_not_divided_again(faces):
    import tensorflow as tf

    def policy(dataset):
        return dataset.options().experimental_distribute.auto_shard_policy

    off = tf.data.experimental.AutoShardPolicy.OFF
    assert policy(faces.dataset(4, shard=(1, 2))) is off
    assert policy(faces.dataset(4)) is not off


@one_container
def test_workers_draw_different_augmentations(faces):
    moved = []
    for index in range(3):
        images, _ = collect(faces.dataset(9, training=True, shard=(index, 3)))
        # Black at the left and the top identifies the shift.
        moved.append([(image[56] > 0).any(axis=-1).tolist() for image in images])
    assert moved[0] != moved[1] != moved[2]


@pytest.mark.parametrize("block", [4096, 5], ids=["one block", "many blocks"])
def test_a_resumed_run_sees_the_same_batches(places, monkeypatch, block):
    """Pixels, labels and the ragged last batch of 3; the next pass is complete."""
    faces = FaceRecords(places / "faces.rec")
    monkeypatch.setattr("keras_facemargin.data.epochs._DRAWN", block)
    whole = faces.dataset(4, training=True, seed=3)
    epochs = [list(whole.as_numpy_iterator()) for _ in range(4)]
    for epoch, step in ((0, 3), (2, 0), (1, 5)):
        rest = faces.dataset(4, training=True, seed=3, start=(epoch, step))
        for expected in (epochs[epoch][step:], epochs[epoch + 1]):
            for (images, labels), (their_images, their_labels) in zip(
                rest.as_numpy_iterator(), expected, strict=True
            ):
                np.testing.assert_array_equal(images, their_images)
                np.testing.assert_array_equal(labels, their_labels)


@pytest.mark.parametrize(("workers", "step"), [(2, 0), (4, 2)])
def test_a_step_of_many_workers_equals_a_step_of_one(places, monkeypatch, workers, step):
    """The images of a step and their augmentation are the same, whatever the number of workers."""
    faces = FaceRecords(places / "faces.rec")
    monkeypatch.setattr("keras_facemargin.data.epochs._DRAWN", 6)
    whole = list(faces.dataset(8, training=True, seed=3).as_numpy_iterator())[step:]
    shares = [
        collect(
            faces.dataset(
                8 // workers, training=True, seed=3, shard=(index, workers), start=(0, step)
            )
        )
        for index in range(workers)
    ]
    for number, (images, labels) in enumerate(whole[:-1]):  # the last is filled up
        part = slice(number * 8 // workers, (number + 1) * 8 // workers)
        dealt = [np.stack([share[kind][part] for share in shares], 1) for kind in (0, 1)]
        np.testing.assert_array_equal(dealt[0].reshape(images.shape), images)
        np.testing.assert_array_equal(dealt[1].reshape(labels.shape), labels)


def test_images_before_the_start_are_not_read(places, monkeypatch):
    faces, read = FaceRecords(places / "faces.rec"), []
    payloads = type(faces.paths).payloads
    monkeypatch.setattr(
        type(faces.paths),
        "payloads",
        lambda self, indices: read.extend(indices.tolist()) or payloads(self, indices),
    )
    collect(faces.dataset(4, training=True, start=(0, 4)))
    assert len(read) == COUNT - 16


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({"training": True}, (0, 6)),
        ({"training": True}, (-1, 0)),
        ({"training": True}, (0, 1.5)),
        ({"training": True}, 3),
        ({}, (1, 0)),
        ({"training": True, "shard": (0, 3)}, (0, 2)),
    ],
)
def test_impossible_starts_are_refused(places, arguments, start):
    with pytest.raises(ValueError, match=r"Received: start="):
        FaceFolder(places / "folder").dataset(4, start=start, **arguments)


@one_container
@pytest.mark.parametrize("kind", ["dataset", "py_dataset"])
def test_impossible_workers_are_refused(faces, kind):
    for shard in ((1, 1), (-1, 2), (0, 0), (0, 24), (0,), 3, ("a", "b"), (0.0, 1)):
        with pytest.raises(ValueError, match=r"Received: shard=.* for 23 images"):
            getattr(faces, kind)(4, shard=shard)


def test_py_dataset_gives_exactly_the_pixels_of_read_face(faces):
    batches = faces.py_dataset(4)
    images, labels = collect(batches[step] for step in range(len(batches)))
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(images, [read_face(path) for path in faces.paths])
    np.testing.assert_array_equal(labels, faces.labels)


@one_container
def test_py_dataset_depends_on_seed_and_epoch_only(faces):
    def epochs(seed):
        batches, result = faces.py_dataset(4, training=True, seed=seed), []
        for _ in range(2):
            result.append(collect(batches[step] for step in range(len(batches)))[0])
            next_epoch(batches)
        return result

    first, again, other = epochs(0), epochs(0), epochs(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_py_dataset_works_in_other_processes(faces):
    batches = faces.py_dataset(4, training=True)
    copy = pickle.loads(pickle.dumps(batches))
    np.testing.assert_array_equal(batches[2][0], copy[2][0])


@one_container
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_keras_fits_on_a_py_dataset(faces):
    model = keras.Sequential(
        [
            keras.layers.Input((112, 112, 3)),
            keras.layers.AveragePooling2D(56),
            keras.layers.Flatten(),
            keras.layers.Dense(faces.num_classes),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for options in ({}, {"workers": 2}, {"workers": 1, "use_multiprocessing": True}):
        batches = faces.py_dataset(4, training=True, **options)
        for fits in (1, 2):  # whatever else Keras calls, an epoch is one
            history = model.fit(batches, epochs=2, shuffle=False, verbose=0)
            assert len(history.history["loss"]) == 2
            assert batches._epoch == 2 * fits


def test_splits_keep_images_and_labels_together(faces):
    for parts in (faces.split(2, seed=1), faces.split_images(1, seed=1)):
        assert sum(map(len, parts)) == len(faces)
        seen = []
        for part in parts:
            images, labels = collect(part.dataset(4))
            np.testing.assert_array_equal(images, [read_face(path) for path in part.paths])
            for image, label in zip(images, labels, strict=True):
                row = int(image[0, 0, 0]) // 10
                seen.append(row)
                assert int(part.identities[label]) == row % PEOPLE
            assert repr(part)
        assert sorted(seen) == list(range(COUNT))


def test_split_images_of_people_who_are_not_in_order(places):
    faces = FaceRecords(places / "faces.rec")
    shuffled = faces._take(np.random.default_rng(0).permutation(COUNT))
    kept, held_out = shuffled.split_images(2, seed=4)
    assert np.bincount(held_out.labels).tolist() == [2] * PEOPLE
    assert np.bincount(kept.labels).tolist() == [3, 3, 3, 2, 2]


def test_augmentation_in_numpy_equals_that_of_the_graph():
    images = np.random.default_rng(0).integers(0, 256, (20, 112, 112, 3)).astype("uint8")
    parameters = draw_augmentation(np.random.default_rng(1), 20)
    moved = np.stack(
        [
            move(image, corner, mirror)
            for image, corner, mirror in zip(
                images, parameters.corner, parameters.mirror, strict=True
            )
        ]
    )
    expected = recolour(moved, parameters.colour, parameters.offset)
    np.testing.assert_allclose(augment(images, parameters), expected, atol=1e-3)
