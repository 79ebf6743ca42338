"""A killed run resumes with the losses of an uninterrupted run."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import resume_run
from PIL import Image
from processes import finish, start
from resume_run import BATCH, EPOCHS, SIDE, build, run
from strategies import replicas

from keras_facemargin.augmentation import RandomMirror
from keras_facemargin.callbacks import ExactResume
from keras_facemargin.callbacks.exact_resume import _fingerprint, _same
from keras_facemargin.data import FaceFolder
from keras_facemargin.files import exclusive

SCRIPT = Path(resume_run.__file__)
COUNT, PEOPLE = 22, 3  # six steps an epoch, the last of two images
STEPS = 6
# XLA may sum in another order when it traces again; `test_kill_minus_nine` compares bits.
EXACT = {"rtol": 1e-6, "atol": 1e-7}


class Killed(BaseException):
    """An exception that training does not catch."""


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    pytest.importorskip("tensorflow")  # the pipeline is tf.data on every backend
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (PEOPLE, SIDE, SIDE, 3))
    for number in range(COUNT):
        file = folder / str(number % PEOPLE) / f"{number:02d}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = patterns[number % PEOPLE] + rng.normal(0, 40, (SIDE, SIDE, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(file)
    return FaceFolder(folder, image_size=SIDE)


@pytest.fixture(scope="module")
def uninterrupted(faces, tmp_path_factory):
    """Lines of each step, history and weights of an uninterrupted run."""
    lines = []
    classifier, history = run(faces, tmp_path_factory.mktemp("whole"), lines.append, seed=1)
    assert [line[:2] for line in lines] == [[e, s] for e in range(EPOCHS) for s in range(STEPS)]
    return lines, history, classifier.get_weights()


def killed_after(steps, faces, directory, seed, **options):
    """The lines of a run that is killed after `steps` steps."""
    lines = []

    def after(done):
        if done == steps:
            raise Killed

    with pytest.raises(Killed):
        run(faces, directory, lines.append, seed, after, **options)
    return lines


@pytest.fixture(scope="module")
def killed(faces, tmp_path_factory):
    """Lines and folder of a run killed within the second epoch, between two checkpoints."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    return killed_after(9, faces, folder, seed=1), folder


@pytest.fixture
def interrupted(killed, tmp_path):
    """A copy of that run: its lines and the folder, `tmp_path / "run"`."""
    lines, folder = killed
    return list(lines), shutil.copytree(folder, tmp_path / "run")


def assert_resumed(lines, whole):
    """The lines equal those of the uninterrupted run, and no step is missing."""
    expected = {tuple(line[:2]): line[2:] for line in whole}
    assert {tuple(line[:2]) for line in lines} == set(expected)
    for epoch, step, *values in lines:
        np.testing.assert_allclose(
            values, expected[epoch, step], **EXACT, err_msg=f"{epoch}, {step}"
        )


@pytest.mark.any_backend
def test_a_killed_run_resumes(faces, uninterrupted, interrupted):
    whole, history, weights = uninterrupted
    lines, folder = interrupted
    # Another seed: the random state comes from the checkpoint.
    classifier, rest = run(faces, folder, lines.append, seed=77)
    assert_resumed(lines, whole)
    for name, values in history.items():
        np.testing.assert_allclose(rest[name], values, **EXACT)
    for ours, theirs in zip(classifier.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, **EXACT)


def test_kill_minus_nine(faces, uninterrupted, tmp_path):
    """A process is killed before it renames a checkpoint; another resumes, to the last bit."""
    log, folder = tmp_path / "log", tmp_path / "run"
    ((status, _, errors),) = finish(
        start(SCRIPT, faces.directory, folder, log, 1, 9, "while writing")
    )
    assert status == -signal.SIGKILL, errors
    assert (folder / "checkpoint.draft").exists()
    lines = list(map(json.loads, log.read_text().splitlines()))
    run(faces, folder, lines.append, seed=2)
    assert len(lines) > EPOCHS * STEPS  # some steps ran twice
    expected = {tuple(line[:2]): line[2:] for line in uninterrupted[0]}
    assert {tuple(line[:2]): line[2:] for line in lines} == expected
    assert all(line[2:] == expected[tuple(line[:2])] for line in lines)
    assert not (folder / "checkpoint.draft").exists()


def checkpoints(directory):
    return sorted(directory.glob("*.checkpoint"), reverse=True)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(faces, uninterrupted, interrupted):
    lines, folder = interrupted
    newest, before = checkpoints(folder)
    assert (newest.name[:16], before.name[:16]) == ("000001-000000002", "000001-000000000")
    data = newest.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (data[:-1], b"", bytes(flipped)):
        newest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=rf"damaged.*{newest.name}.*before: .*{before.name}"):
            assert ExactResume(folder).start == (1, 0)
    with pytest.warns(UserWarning, match="damaged"):
        run(faces, folder, lines.append, seed=77)
    assert_resumed(lines, uninterrupted[0])

    for file in checkpoints(folder):
        file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"Received: only damaged ones, .*Remove them"):
        ExactResume(folder)


def test_a_full_disk_loses_no_checkpoint(faces, uninterrupted, interrupted, monkeypatch):
    """The disk is full during the second checkpoint."""
    (lines, folder), opened = interrupted, Path.open
    room = [400_000]

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, data):
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.stream.write(data)

    def full(path, mode="r", *rest, **options):
        stream = opened(path, mode, *rest, **options)
        return Full(stream) if path.suffix == ".draft" else stream

    there = [(file, file.read_bytes()) for file in checkpoints(folder)]
    room[0] = len(there[0][1]) + 1000  # for one checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match=r"disk is full: .* are complete: make room") as error:
            run(faces, folder, lines.append, seed=77)
    assert error.value.errno == errno.ENOSPC
    left = checkpoints(folder)
    assert len(left) == 2 and left[1:] == [there[0][0]]
    assert left[1].read_bytes() == there[0][1]
    assert not list(folder.glob("*.draft"))
    run(faces, folder, lines.append, seed=78)
    assert_resumed(lines, uninterrupted[0])


@pytest.mark.slow  # `tests/tools/test_train.py` goes from one device to two workers
def test_on_other_numbers_of_replicas(faces, tmp_path):
    """One, two, one. The last step of an epoch has two images, one for each replica. No dropout,
    because each replica draws its own.
    """

    def made(count, seed):
        with replicas(count).scope():
            return build(faces.num_classes, seed, dropout=0.0)

    whole = []
    run(faces, tmp_path / "whole", whole.append, 1, model=made(1, 1))
    lines = killed_after(3, faces, tmp_path / "run", 1, model=made(1, 1))
    lines += killed_after(6, faces, tmp_path / "run", 2, model=made(2, 2))
    run(faces, tmp_path / "run", lines.append, 3, model=made(1, 3))
    expected = {tuple(line[:2]): line[2:] for line in whole}
    assert {tuple(line[:2]) for line in lines} == set(expected)
    for epoch, step, *values in lines:
        np.testing.assert_allclose(
            values, expected[epoch, step], rtol=2e-4, err_msg=f"{epoch}, {step}"
        )


@pytest.mark.any_backend
def test_callbacks_remember_and_loss_scaling_resumes(faces, tmp_path):
    """mixed_float16: the scale and its counter are weights of an optimizer around the optimizer."""

    def made():
        callbacks = [
            keras.callbacks.EarlyStopping("loss", patience=50, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0),
        ]
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.01, momentum=0.9), initial_scale=64.0, dynamic_growth_steps=4
        )
        return {"remember": callbacks, "model": build(faces.num_classes, 1, optimizer)}

    expected, whole = [], made()
    run(faces, tmp_path / "whole", expected.append, 1, **whole)
    lines = killed_after(14, faces, tmp_path / "run", 1, **made())
    after = made()
    run(faces, tmp_path / "run", lines.append, 1, **after)
    assert_resumed(lines, expected)
    for theirs, ours in zip(whole["remember"], after["remember"], strict=True):
        assert (ours.best, ours.wait) == (pytest.approx(theirs.best), theirs.wait)
    stopping, theirs = after["remember"][0], whole["remember"][0]
    for ours, best in zip(stopping.best_weights, theirs.best_weights, strict=True):
        np.testing.assert_allclose(ours, best, **EXACT)
    optimizer = after["model"].optimizer
    rate, scale = (
        float(keras.ops.convert_to_numpy(each))
        for each in (optimizer.inner_optimizer.learning_rate, optimizer.dynamic_scale)
    )
    # Every epoch after the first is a plateau.
    assert rate == pytest.approx(0.01 * 0.1 ** (EPOCHS - 1), rel=1e-5)
    assert scale == 64.0 * 2 ** (EPOCHS * STEPS // 4)


def test_another_model_optimizer_or_start_is_refused(faces, interrupted):
    _, folder = interrupted
    other = build(faces.num_classes + 1, 1)
    resume = ExactResume(folder, every=2)
    assert resume.start == (1, 2)
    data = faces.dataset(BATCH, training=True, seed=5, start=resume.start)
    with pytest.raises(ValueError, match=r"\[3, 6\] and float32 \[4, 6\].*Build the same"):
        other.fit(data, verbose=0, shuffle=False, callbacks=[resume])
    same = build(faces.num_classes, 1, keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="variables of the optimizer for 2"):
        same.fit(data, verbose=0, shuffle=False, callbacks=[ExactResume(folder, every=2)])
    same = build(faces.num_classes, 1)
    fresh = faces.dataset(BATCH, training=True)
    with pytest.raises(ValueError, match=r"Received: data that starts at .*\(0, 0\).*\(1, 2\)"):
        same.fit(fresh, verbose=0, shuffle=False, callbacks=[ExactResume(folder, every=2)])
    images, labels = np.zeros((4, SIDE, SIDE, 3)), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"unknown for a run at \(0, 0\) with every=2"):
        same.fit(images, labels, verbose=0, callbacks=[ExactResume(folder / "new", every=2)])


def test_epochs_of_arrays_resume(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (8, SIDE, SIDE, 3)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    options = {"shuffle": False, "batch_size": 4, "verbose": 0}
    whole = build(3, 1).fit(images, labels, epochs=4, **options).history
    build(3, 1).fit(images, labels, epochs=2, callbacks=[ExactResume(tmp_path)], **options)
    model = build(3, 77)
    rest = model.fit(images, labels, epochs=4, callbacks=[ExactResume(tmp_path)], **options).history
    np.testing.assert_allclose(rest["loss"], whole["loss"], **EXACT)
    again = model.fit(images, labels, epochs=1, **options).history  # a new run
    assert len(again["loss"]) == 1


def test_arguments_of_an_augmentation_are_compared_in_any_order(faces):
    """As earlier versions wrote them, in another order in each process."""

    def fingerprint(*layers):
        data = faces.dataset(BATCH, training=True, augmentation=layers or None)
        return {"augmentation": _fingerprint(data)["augmentation"]}

    def as_text(**arguments):
        return {"augmentation": repr([("RandomMirror", arguments)])}

    ours = fingerprint(RandomMirror(rate=0.5))
    for theirs, same in (
        (as_text(trainable=True, seed=None, rate=0.5), True),
        (as_text(rate=0.5, trainable=True, seed=None), True),
        (as_text(rate=0.4, trainable=True, seed=None), False),
        (fingerprint(), False),
    ):
        assert _same(ours, theirs, "augmentation") == same


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_bad_arguments_are_refused_with_the_rule(tmp_path, every):
    with pytest.raises(ValueError, match=r"`every` must be a positive integer.*Received: every="):
        ExactResume(tmp_path, every=every)


def test_another_model_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"MarginClassifier.*Received"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[ExactResume(tmp_path)])


def test_a_run_resumes_with_its_own_data_only(faces, interrupted, tmp_path):
    """The error names each difference; folder and times of the files do not count."""
    copy = shutil.copytree(faces.directory, tmp_path / "copy")
    for file in copy.glob("*/*"):
        os.utime(file, (1, 1))
    again = FaceFolder(copy, image_size=SIDE)

    def resume_with(given, batch_size=BATCH, seed=5, **options):
        resume = ExactResume(tmp_path / "run", every=2)
        data = given.dataset(batch_size, training=True, seed=seed, start=resume.start, **options)
        build(PEOPLE, 1).fit(data, shuffle=False, verbose=0, callbacks=[resume])

    for options, other in (
        ({"batch_size": 8}, "batch_size"),
        ({"seed": 6}, "seed"),
        ({"augmentation": []}, "augmentation"),
    ):
        with pytest.raises(ValueError, match=rf"Received: other {other} than those of .*Restore"):
            resume_with(again, **options)
    file = next(copy.glob("2/*"))
    original = file.read_bytes()
    file.rename(file.with_name("99.png"))
    with pytest.raises(ValueError, match="Received: other names"):
        resume_with(FaceFolder(copy, image_size=SIDE))
    file.with_name("99.png").rename(file)
    Image.fromarray(np.zeros((SIDE, SIDE, 3), "uint8")).save(file)
    with pytest.raises(ValueError, match="Received: other names, contents than"):
        resume_with(FaceFolder(copy, image_size=SIDE))
    file.write_bytes(original)
    resume_with(again)


@pytest.mark.any_backend
def test_arrays_and_streams_have_a_fingerprint():
    images = np.random.default_rng(0).uniform(0, 255, (200, 2, 2, 3)).astype("float32")
    labels = np.arange(200) % 3
    whole = _fingerprint((images, labels))
    assert whole == _fingerprint((images.copy(), labels.copy(), None))
    assert _fingerprint((images[::-1], labels))["images"] != whole["images"]
    assert _fingerprint((images, np.roll(labels, 1)))["labels"] != whole["labels"]
    assert _fingerprint((images, labels.astype("int32")))["labels"] != whole["labels"]
    tf = pytest.importorskip("tensorflow")
    stream = tf.data.Dataset.from_tensor_slices((images, labels))
    assert _fingerprint(stream.batch(4))["batches"] == 50
    assert _fingerprint(stream.batch(4)) != _fingerprint(stream.batch(8))
    stream.data_fingerprint = lambda: {"mine": 3}
    assert _fingerprint(stream) == {"mine": 3}


def test_other_arrays_and_other_dependencies_are_refused(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (8, SIDE, SIDE, 3)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    options = {"batch_size": 4, "verbose": 0}

    def fit(images, **depends_on):
        resume = ExactResume(tmp_path, depends_on=depends_on)
        build(3, 1).fit(images, labels, epochs=1, callbacks=[resume], **options)

    fit(images, model="a")
    with pytest.raises(ValueError, match=r"Received: other images than those of"):
        fit(images[::-1], model="a")
    with pytest.raises(ValueError, match=r"Received: other model than those of"):
        fit(images, model="b")
    fit(images, model="a")


def test_a_checkpoint_without_a_fingerprint_resumes(faces, uninterrupted, interrupted):
    """Such as an earlier version wrote."""
    lines, folder = interrupted
    for file in checkpoints(folder):
        rewrite(file, lambda state: {k: v for k, v in state.items() if k not in KINDS})
    run(faces, folder, lines.append, seed=77)
    assert_resumed(lines, uninterrupted[0])


KINDS = ("data", "depends_on")


def rewrite(file, change, arrays=lambda arrays: arrays):
    """Changes the state in a checkpoint, and its name with it."""
    stored = dict(np.load(file))
    state = change(json.loads(stored["state"].tobytes()))
    stored["state"] = np.frombuffer(json.dumps(state).encode(), "uint8")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays(stored))
    return replace(file, buffer.getvalue())


def replace(file, data):
    """Replaces the bytes of the file, and the digest in its name."""
    digest = hashlib.sha256(data).hexdigest()[:16]
    made = file.with_name(f"{file.stem.rpartition('-')[0]}-{digest}.checkpoint")
    file.unlink()
    made.write_bytes(data)
    return made


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


HEADER = b"\x93NUMPY\x01\x00\x46\x00"
FOREIGN = {
    "not a zip": b"PK\x03\x04" + b"0" * 40,
    "nothing": b"",
    "no state": npz(other=b""),
    "a header that is not a literal": npz(state=HEADER + b"{'descr': (((" + b" " * 56 + b"\n"),
    "a header of a shape beyond memory": npz(
        state=HEADER
        + b"{'descr':'|u1','fortran_order':False,'shape':(99999999999999,)}".ljust(69)
        + b"\n"
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_is_not_a_checkpoint_is_skipped_and_named(interrupted, what):
    _, folder = interrupted
    newest, before = checkpoints(folder)
    newest = replace(newest, FOREIGN[what])
    with pytest.warns(UserWarning, match=rf"not what ExactResume wrote.*{newest.name}"):
        assert ExactResume(folder).start == (1, 0)
    before.unlink()
    with pytest.raises(ValueError, match=r"only damaged ones, .*Remove them to start again"):
        ExactResume(folder)


def test_a_checkpoint_that_lacks_an_array_is_refused_in_one_sentence(faces, interrupted):
    _, folder = interrupted
    file, before = checkpoints(folder)
    before.unlink()

    def without(arrays):
        return {name: array for name, array in arrays.items() if name != "model.1"}

    file = rewrite(file, dict, without)
    with pytest.raises(ValueError, match=rf"{file.name}: must be a checkpoint.*KeyError.*model.1"):
        run(faces, folder, list, seed=1)
    rewrite(file, lambda state: {**state, "place": "here"})
    with pytest.raises(ValueError, match="only damaged ones"):
        ExactResume(folder)


def test_one_process_trains_with_a_folder(faces, interrupted):
    (_, folder), lines = interrupted, []
    with (
        exclusive(folder),
        pytest.raises(BlockingIOError, match=r"Another process is writing to .*run. Received"),
    ):
        run(faces, folder, lines.append, seed=1)
    resume = ExactResume(folder, every=2)
    killed_after(3, faces, folder, seed=1)
    with exclusive(folder):  # a killed run has released it
        pass
    data = faces.dataset(BATCH, training=True, seed=5, start=resume.start)
    with pytest.raises(ValueError, match=r"which has changed. Make a new ExactResume"):
        build(PEOPLE, 1).fit(data, shuffle=False, verbose=0, callbacks=[resume])
    assert lines == []
