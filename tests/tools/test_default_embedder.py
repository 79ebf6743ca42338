"""The training of the default embedder: splits, targets, views, and a run that was interrupted."""

import csv
import doctest
import itertools

import benchmark_networks
import cv2
import faces
import keras
import networks
import numpy as np
import pytest
import student as students
import targets as teaching
import train_default
import views as viewing
from inference import infer
from keras import layers
from PIL import Image

from keras_facemargin.backbones.necks import NECKS
from keras_facemargin.files import exclusive
from keras_facemargin.images.synthetic import synthesize_faces

BATCH, SMALL, TOTAL, COOL = 8, 48, 80, 24  # 6 steps of small crops, 4 of whole ones; 3 to cool


def tiny_network(size=112):
    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(8, 16, 16, use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, NECKS["gdc"](x, networks.EMBEDDING_DIM, 0.0))


def names_of(part, count):
    names = (f"c{number}" for number in itertools.count())
    return list(itertools.islice((name for name in names if faces.part_of(name) == part), count))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Drawn faces laid out as the development data, and a teacher."""
    root = tmp_path_factory.mktemp("data")
    people = [
        *((name, "celeb") for name in names_of(faces.TRAIN, 8)),
        *((name, "celeb2") for name in names_of(faces.CHOICE, 40)),
        *((name, "celeb2") for name in names_of(faces.CARD, 2)),
    ]
    images, _ = synthesize_faces(len(people) + 3, 2, seed=0)
    for number, image in enumerate(images):
        person = number // 2
        if person < len(people):
            name, folder = people[person]
            place = root / folder / "train" / name
        elif person == len(people):
            place = root / "celeb2" / "unlabelled" / "other"
        else:
            name = "AB"[person - len(people) - 1]
            place = root / "lfw" / "aligned" / name
        place.mkdir(parents=True, exist_ok=True)
        stem = f"{place.name}_000{number % 2 + 1}"
        Image.fromarray(np.asarray(image, np.uint8)).save(place / f"{stem}.jpg", quality=95)
    (root / "celeb" / "unlabelled").mkdir()
    tight = "train/{0}/{0}_0001.jpg".format(names_of(faces.CHOICE, 1)[0])
    (root / "celeb2" / "manifest.csv").write_text(f"file,inside\n{tight},0.6\n")
    for file in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        (root / "lfw" / file).write_text("1\nA\t1\t2\nA\t1\tB\t1\n")
    keras.utils.set_random_seed(0)
    image = keras.Input((112, 112, 3))
    x = layers.Flatten()(layers.AveragePooling2D(16)(image))
    x = layers.Dense(130, use_bias=False)(layers.Rescaling(1 / 127.5, offset=-1.0)(x))
    keras.Model(image, x, name="teacher").save(root / "teacher.keras")
    return root


def arguments(data, work, *more):
    return [
        *("--data", data, "--work", work, "--teachers", data / "teacher.keras"),
        *("--network", "tiny", "--until", TOTAL, "--small", SMALL, "--batch", BATCH, "--mixes", 6),
        *("--save-every", 24, "--measure-every", 1_000, "--learning-rate", 0.2, *more),
    ]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The work folders of a run without a stop and of one that stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.CANDIDATES, "tiny", tiny_network)
        whole, parts = (tmp_path_factory.mktemp(name) for name in ("whole", "parts"))
        cool, stop = ["--cool", COOL], ["--stop-after", 0]
        for work, more in (
            *((whole, []), (whole, cool)),
            *((parts, stop), (parts, []), (parts, cool + stop), (parts, cool)),
        ):
            train_default.main([str(each) for each in arguments(data, work, *more)])
        yield whole, parts


@pytest.mark.parametrize(
    ("file", "images"), [("checkpoint.npz", TOTAL), ("cooled.npz", TOTAL + COOL)]
)
def test_a_run_that_stopped_ends_with_the_weights_of_one_that_did_not(trained, file, images):
    whole, parts = (students.State.load(work / file)[0] for work in trained)
    assert whole.images == parts.images == images
    assert whole.arrays.keys() == parts.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_allclose(parts.arrays[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_curve_has_a_row_for_each_measure(trained):
    with (trained[0] / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["images"], row["cooled"], row["size"]) for row in rows] == [
        *(("48", "0", "80"), ("80", "0", "112"), ("104", "24", "112"))
    ]
    assert all(0 <= float(row["tar"]) <= 1 for row in rows)


def test_the_saved_embedder_is_plain_and_half_as_large(trained):
    embedder = keras.saving.load_model(trained[0] / "embedder.keras")
    assert embedder.input_shape == (None, 112, 112, 3)
    assert {weight.dtype for weight in embedder.weights} == {"float32"}
    state, _ = students.State.load(trained[0] / "cooled.npz")
    crop = np.full((1, 112, 112, 3), 128, "float32")
    found, wanted = (infer(net, crop)[0] for net in (embedder, state.saved()))
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.9999


def test_the_small_checkpoint_resumes_near_the_exact_one(trained, tmp_path):
    state, about = students.State.load(trained[0] / "checkpoint.npz")
    state.save_small(tmp_path / "small.npz", about)
    small, read = students.State.load(tmp_path / "small.npz")
    assert (read, small.images) == (about, state.images)
    for name, array in small.arrays.items():
        scale = np.abs(state.arrays[name]).max() + 1e-30
        np.testing.assert_allclose(array / scale, state.arrays[name] / scale, atol=2e-3)
    momenta = {name for name in state.arrays if name.endswith("_momentum")}
    assert momenta
    assert small.arrays.keys() == state.arrays.keys() - momenta


def test_another_setting_is_refused(trained, data, monkeypatch):
    monkeypatch.setitem(networks.CANDIDATES, "tiny", tiny_network)
    more = ["--learning-rate", "1"]
    with pytest.raises(SystemExit, match=r"Received: learning_rate 1\.0, before 0\.2"):
        train_default.main([str(each) for each in arguments(data, trained[0], *more)])


def test_a_folder_without_the_data_is_refused(tmp_path):
    needed = "The data must have celeb/train"
    with pytest.raises(SystemExit, match=f"{needed}.* without celeb2/manifest.csv"):
        faces.list_crops(tmp_path)
    (tmp_path / "celeb2").mkdir()
    (tmp_path / "celeb2" / "manifest.csv").write_text("file,inside\n")
    with pytest.raises(SystemExit, match=f"{needed}.* without labelled crops"):
        faces.list_crops(tmp_path)


def test_missing_first_weights_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setitem(networks.CANDIDATES, "tiny", tiny_network)
    more = ["--begin-with", tmp_path / "none.keras"]
    with pytest.raises(SystemExit, match=r"Received: .*none\.keras, which does not exist"):
        train_default.main([str(each) for each in arguments(data, tmp_path, *more)])


def test_a_second_training_in_a_folder_is_refused(data, tmp_path):
    with exclusive(tmp_path), pytest.raises(SystemExit, match="Another process is writing"):
        train_default.main([str(each) for each in arguments(data, tmp_path)])


def test_people_with_two_labels_are_one_person(data):
    crops = faces.list_crops(data)
    assert [crop.part for crop in crops].count(faces.CHOICE) == 80
    assert [crop.full for crop in crops].count(False) == 1
    assert faces.part_of("c2813") == faces.part_of("p_Ehud_Olmert")


def test_two_teachers_are_reduced_to_their_common_cosines():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(50, 6))
    parts = [hidden @ rng.normal(size=(6, 20)) for _ in range(2)]
    parts = [(part / np.linalg.norm(part, axis=1, keepdims=True)).astype("f4") for part in parts]
    joined = np.concatenate(parts, axis=1)
    # Divided by different lengths, six dimensions become at most twelve.
    found = teaching.reduce(parts, 12, np.arange(50))
    np.testing.assert_allclose(found @ found.T, joined @ joined.T / 2, atol=1e-5)


def test_unknown_crops_that_look_like_a_held_out_person_are_left_out():
    targets = np.eye(4, dtype="f4")[[0, 1, 2, 0]]  # the last looks like the first
    rows = teaching.without_held_out(
        np.array([1, 2, 3]), targets, ["held", "known", "", ""], np.array([0])
    )
    assert rows.tolist() == [1, 2]


def test_a_held_out_person_who_looks_like_a_seen_crop_is_not_measured():
    targets = np.eye(4, dtype="f4")[[0, 1, 2, 0]]  # the last looks like the first
    people = ["held", "other", "", ""]
    kept = teaching.unseen(np.array([0, 1]), targets, people, [2, 3])
    assert kept.tolist() == [1]
    assert teaching.unseen(np.array([0, 1]), targets, people, []).tolist() == [0, 1]


@pytest.fixture(scope="module")
def views():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 14, 14, 3), np.uint8)
    pixels = np.repeat(np.repeat(pixels, 8, 1), 8, 2)
    return viewing.Views(pixels, np.arange(20), np.ones(20, bool), batch=16, seed=0)


def test_a_batch_depends_on_its_number_only(views):
    ahead = list(views.batches(0, 5, 80))
    rows, drawn = views.draw(3, 80)
    assert drawn.shape == (16, 80, 80, 3)
    assert np.array_equal(ahead[3][0], rows)
    assert np.array_equal(ahead[3][1], drawn)
    assert len(ahead) == 5
    seen = np.concatenate([rows for rows, _ in ahead])
    assert (np.bincount(seen[:20]) == 1).all()


def test_a_third_of_the_views_is_degraded(views):
    _, drawn = views.draw(0, 112)
    detail = [cv2.Laplacian(view, cv2.CV_64F).var() for view in drawn]
    assert max(detail[:4]) < min(detail[6:])  # 5.6 of 16 views: shrunk, blurred, JPEG


def test_a_frame_is_black_outside_of_a_rectangle():
    face = np.full((112, 112, 3), 200, np.uint8)
    framed = viewing._framed(face, np.random.default_rng(0))
    assert set(np.unique(framed)) == {0, 200}
    assert framed[56, 56].tolist() == [200] * 3


def test_the_loss_of_exact_embeddings_is_zero():
    student = students.Student(tiny_network())
    targets = np.random.default_rng(0).normal(size=(8, 128)).astype("float32")
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    labels = np.full(8, -1, "int32")
    exact = float(student.compute_loss(y=(targets, labels), y_pred=3 * targets))
    assert exact == pytest.approx(0, abs=1e-6)
    same = np.repeat(targets[:1], 8, axis=0)  # strangers in one place
    assert float(student.compute_loss(y=(targets, labels), y_pred=same)) > 1


def test_branches_are_summed_into_one_convolution():
    network = networks.repvgg()
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    plain = networks.plain(network)
    assert not any(isinstance(layer, layers.Add) for layer in plain.layers)
    crops = rng.uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    np.testing.assert_allclose(plain(crops), network(crops), atol=1e-4)


def test_a_grown_network_begins_as_the_narrower_one(tmp_path):
    """All slopes of the old network are 0, so its PReLU is the new one's ReLU."""
    old, rng = networks.spherenet_prelu(), np.random.default_rng(0)
    for layer in old.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    crops = rng.uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    old.save(tmp_path / "old.keras")
    state = students.State("spherenet_late")
    state.begin_with(tmp_path / "old.keras")
    np.testing.assert_allclose(state.saved()(crops), old(crops), rtol=1e-3, atol=1e-4)
    assert len(state.origin) == 64
    state.save_small(tmp_path / "small.npz", {})
    assert students.State.load(tmp_path / "small.npz")[0].origin == state.origin


def test_first_weights_of_another_family_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((8,)), layers.Dense(2, name="other")], name="foreign")
    with pytest.raises(ValueError, match=r"Received: 'foreign' with none of them"):
        networks.grow(networks.CANDIDATES["spherenet_late"](), other)


def test_multiply_adds_are_those_of_the_published_networks():
    assert networks.multiply_adds(networks.mobilefacenet_prelu()) == pytest.approx(221e6, rel=0.01)
    assert networks.multiply_adds(networks.spherenet_prelu()) == pytest.approx(119e6, rel=0.01)


def test_the_benchmark_keeps_the_other_columns(tmp_path):
    table = tmp_path / "networks.csv"
    benchmark_networks.write(table, {"a": {"parameters": 1}})
    benchmark_networks.write(table, {"a": {"ms_onnx_1": "0.5"}, "b": {"ms_onnx_1": "0.7"}})
    assert table.read_text() == "network,parameters,ms_onnx_1\na,1,0.5\nb,,0.7\n"


@pytest.mark.parametrize("module", [faces, teaching])
def test_the_examples_of_a_module_run(module):
    """The run of all doctests reads the package only."""
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
