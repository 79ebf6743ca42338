"""Makes `spherenet_distilled` again: a narrow SphereNet taught by a MobileFaceNet.

    python tools/assets/train_first_default.py --data ../shared/data --work ~/default-embedder

The student learns by regression: for every picture it must return the embedding that the teacher
gives it, up to length (loss: one minus the cosine). Labels are not needed, so the teacher can also
embed faces that do not exist: mixes of two aligned faces, warped, recoloured and blurred. Every
such view is a pure function of the seed and its number, so that an interrupted run continues where
it stopped and two runs see the same pictures.

1. Hold out some labelled identities: they measure progress and are not trained on.
2. Label: draw `--views` pictures, embed them with the teacher, keep both in `WORK/views.npy` and
   `WORK/targets.npy` (38 KB a picture). Resumable.
3. Train for `--steps` steps. `WORK/student.keras` (weights and optimizer) is renewed after each
   epoch; the same command resumes from it.
4. `WORK/embedder.keras`, renewed with each validation, is the deployable file: float32, no
   optimizer. `WORK/starts.jsonl` has the settings of each start of the run.

Runs on Keras' TensorFlow backend in mixed bfloat16. Two free cores with AVX-512 label 300 views and
train on 280 to 390 images a second, so 80,000 views and 11,000 steps are about 45 minutes of work.

LFW is never read here. The next default comes from `tools/default_embedder`.
"""

import argparse
import itertools
import json
import os
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.progress import track

from keras_facemargin.backbones.spherenet import SphereNet
from keras_facemargin.embedder import build_embedder
from keras_facemargin.images.image import read_face

NAME = "spherenet_distilled"
WIDTHS, DEPTHS, EMBEDDING_DIM = (16, 32, 96, 160), (0, 1, 2, 1), 128
HELD_OUT_IDENTITIES = 125
SIZE = 112
STEPS_PER_EPOCH = 250
CHUNK = 64  # views that the teacher labels at once

console = Console()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with celeb/ and weights/")
    parser.add_argument("--work", type=Path, required=True, help="folder for views, checkpoints")
    parser.add_argument("--views", type=int, default=80_000, help="pictures the teacher labels")
    parser.add_argument("--steps", type=int, default=11_000, help="training steps in all")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    cv2.setNumThreads(1)

    training, held_out = split_identities(options.data / "celeb" / "train", options.seed)
    unlabelled = sorted((options.data / "celeb" / "unlabelled").glob("*.jpg"))
    faces = read_faces([path for path, _ in training] + unlabelled)
    console.print(f"{len(training)} labelled and {len(unlabelled)} unlabelled faces to train on")
    teacher = Teacher(options.data / "weights" / "foamliu_MobileFaceNet.onnx")
    views, targets = label_views(faces, teacher, options)
    del faces

    student = resume_or_build(options)
    epochs = -(-options.steps // STEPS_PER_EPOCH)
    step = int(student.optimizer.iterations)
    record_start(options, step)
    student.fit(
        draw_batches(views, targets, options, step),
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=epochs,
        initial_epoch=step // STEPS_PER_EPOCH,
        shuffle=False,
        callbacks=[
            CosineSchedule(options.learning_rate, epochs * STEPS_PER_EPOCH),
            Validation(held_out, options.work),
        ],
        verbose=2,
    )


def split_identities(directory, seed):
    """`(path, identity)` of the training identities and of the held-out ones."""
    identities = sorted(folder.name for folder in directory.iterdir())
    held_out = set(
        np.random.default_rng(seed).choice(identities, HELD_OUT_IDENTITIES, replace=False)
    )
    training, validation = [], []
    for identity in identities:
        part = validation if identity in held_out else training
        part.extend((path, identity) for path in sorted((directory / identity).glob("*.jpg")))
    return training, validation


def read_faces(paths):
    return np.stack([read_face(path, SIZE) for path in paths])


class Teacher:
    """The published ONNX file, its batch dimension set free; returns unit vectors."""

    MEAN = np.float32([0.485, 0.456, 0.406]) * 255
    STD = np.float32([0.229, 0.224, 0.225]) * 255

    def __init__(self, path):
        model = onnx.load(path)
        for node in model.graph.node:  # a reshape to [1, -1] would glue the batch together
            if node.op_type == "Reshape":
                node.op_type = "Flatten"
                del node.input[1:]
                del node.attribute[:]
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        del model.graph.value_info[:]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # no word about the initializer that the reshape left
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self._input = self._session.get_inputs()[0].name
        self._check_against(path)

    def __call__(self, faces):
        embeddings = self._session.run(None, {self._input: self._normalise(faces)})[0]
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def _normalise(self, faces):
        scaled = (faces.astype(np.float32) - self.MEAN) / self.STD
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _check_against(self, path):
        original = onnxruntime.InferenceSession(path)
        faces = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
        one_by_one = [
            original.run(None, {self._input: self._normalise(face[None])})[0] for face in faces
        ]
        batch = self._session.run(None, {self._input: self._normalise(faces)})[0]
        np.testing.assert_allclose(batch, np.concatenate(one_by_one), atol=1e-5)


def label_views(faces, teacher, options):
    """Memory maps of the views and of the teacher's unit embeddings, filled where still empty."""
    views = open_array(options.work / "views.npy", np.uint8, (options.views, SIZE, SIZE, 3))
    targets = open_array(options.work / "targets.npy", np.float32, (options.views, EMBEDDING_DIM))
    starts = range(0, options.views, CHUNK)
    todo = [start for start in starts if not targets[start : start + CHUNK].any(axis=1).all()]
    for start in track(todo, "The teacher labels views", console=console):
        numbers = range(start, min(start + CHUNK, options.views))
        drawn = np.stack([draw_view(faces, number, options.seed) for number in numbers])
        views[numbers.start : numbers.stop] = drawn
        targets[numbers.start : numbers.stop] = teacher(drawn)
    return views, targets


def open_array(path, dtype, shape):
    """The first `shape[0]` rows of the file; made if missing, refused if shorter."""
    if not path.exists():
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array = np.lib.format.open_memmap(path, mode="r+")
    if len(array) < shape[0]:
        raise SystemExit(
            f"{path} has room for {len(array)} views, so --views may not exceed that. "
            f"Received: --views {shape[0]}. Delete the file to label more."
        )
    return array[: shape[0]]


def draw_view(faces, number, seed):
    """View `number`: first each face as it is, then mixed and augmented ones without end."""
    if number < len(faces):
        return faces[number]
    rng = np.random.default_rng((seed, number))
    face = faces[rng.integers(len(faces))].astype(np.float32)
    kind = rng.random()
    if kind < 0.6:
        other = match_colours(faces[rng.integers(len(faces))].astype(np.float32), face)
        weight = np.float32(rng.uniform(0.3, 0.7)) if kind < 0.15 else soft_mask(rng)
        face = weight * face + (1 - weight) * other
    face = recolour(warp(face, rng), rng)
    return np.clip(np.rint(face), 0, 255).astype(np.uint8)


def match_colours(face, reference):
    mean, std = face.mean((0, 1)), face.std((0, 1)) + 1
    return (face - mean) / std * reference.std((0, 1)) + reference.mean((0, 1))


def soft_mask(rng):
    """Weights 0..1, shape (SIZE, SIZE, 1): a soft half, or smooth random patches."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        field = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.4, 0.4)
    else:
        side = int(rng.integers(3, 6))
        noise = rng.normal(0, 0.6, (side, side)).astype(np.float32)
        field = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    softness = rng.uniform(0.05, 0.25)
    return (1 / (1 + np.exp(-field / softness)))[..., None].astype(np.float32)


def warp(face, rng):
    """A small similarity, a little stretch and, half the time, a smooth random deformation."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - (SIZE - 1) / 2
    angle, shift = np.radians(rng.normal(0, 3)), rng.normal(0, 1.5, 2)
    scale_x, scale_y = np.exp(rng.normal(0, 0.03) + rng.normal(0, 0.015, 2))
    to_x = scale_x * (np.cos(angle) * x - np.sin(angle) * y) + shift[0]
    to_y = scale_y * (np.sin(angle) * x + np.cos(angle) * y) + shift[1]
    if rng.random() < 0.5:
        bend = rng.normal(0, 1.5, (5, 5, 2)).astype(np.float32)
        bend = cv2.resize(bend, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        to_x, to_y = to_x + bend[..., 0], to_y + bend[..., 1]
    middle = (SIZE - 1) / 2
    return cv2.remap(
        face,
        (to_x + middle).astype(np.float32),
        (to_y + middle).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def recolour(face, rng):
    """Brightness, contrast, tint and gamma; sometimes grey, blurred, noisy or partly covered."""
    gain = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.05, 3))
    face = np.clip(face * gain.astype(np.float32) + np.float32(rng.normal(0, 10)), 0, 255)
    face = 255 * (face / 255) ** np.float32(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.1:
        face = np.repeat(face.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.2:
        face = cv2.GaussianBlur(face, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.15:
        face = face + rng.normal(0, rng.uniform(2, 8), face.shape).astype(np.float32)
    if rng.random() < 0.08:
        (top, left), (height, width) = rng.integers(0, 90, 2), rng.integers(15, 45, 2)
        face[top : top + height, left : left + width] = rng.uniform(0, 255, 3)
    return face


def draw_batches(views, targets, options, first_step):
    """Endless batches: shuffled again on each pass, mirrored at random, shifted by 0..2 pixels.

    A batch depends on the seed and its step only. A mirrored face keeps its target, so the student
    learns the mean of the teacher's embeddings of both.
    """
    batches_per_pass = len(views) // options.batch
    for step in itertools.count(first_step):
        pass_number, place = divmod(step, batches_per_pass)
        if step == first_step or place == 0:
            order = np.random.default_rng((options.seed, 1, pass_number)).permutation(len(views))
        rows = np.sort(order[place * options.batch : (place + 1) * options.batch])
        rng = np.random.default_rng((options.seed, 2, step))
        images = np.pad(views[rows], ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        top, left = rng.integers(0, 5, 2)
        images = images[:, top : top + SIZE, left : left + SIZE].astype(np.float32)
        mirrored = rng.random(len(rows)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        yield images, targets[rows]


def record_start(options, step):
    """One line per start in WORK/starts.jsonl: from which step the run went on with what."""
    settings = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
    with (options.work / "starts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"from_step": step, **settings}) + "\n")


def build_student():
    """A fresh student, in the dtype policy in force."""
    backbone = SphereNet(widths=WIDTHS, depths=DEPTHS)
    return build_embedder(backbone, EMBEDDING_DIM, preprocessing="inside", name=NAME)


def resume_or_build(options):
    """The compiled student in mixed bfloat16, from its last checkpoint if there is one."""
    checkpoint = options.work / "student.keras"
    if checkpoint.exists():
        student = keras.saving.load_model(checkpoint)
        console.print(f"resumed at step {int(student.optimizer.iterations)}")
        return student
    keras.config.set_dtype_policy("mixed_bfloat16")
    student = build_student()
    keras.config.set_dtype_policy("float32")
    student.compile(
        keras.optimizers.AdamW(options.learning_rate, weight_decay=0.02),
        loss=keras.losses.CosineSimilarity(),
    )
    return student


class CosineSchedule(keras.callbacks.Callback):
    """Linear warm-up over 500 steps, then half a cosine to zero; `--steps` may change on resume."""

    def __init__(self, peak, steps, warm_up=500):
        super().__init__()
        self._peak, self._steps, self._warm_up = peak, steps, warm_up

    def on_train_batch_begin(self, batch, logs=None):
        step = self._epoch * STEPS_PER_EPOCH + batch
        progress = min(1.0, max(0, step - self._warm_up) / (self._steps - self._warm_up))
        rate = min(1.0, (step + 1) / self._warm_up) * 0.5 * (1 + np.cos(np.pi * progress))
        self.model.optimizer.learning_rate = self._peak * rate

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch


class Validation(keras.callbacks.Callback):
    """After each epoch saves the checkpoint; every fourth, the embedder and TAR@FAR=1e-3."""

    def __init__(self, held_out, work):
        super().__init__()
        self._faces = read_faces([path for path, _ in held_out])
        identities = np.array([identity for _, identity in held_out])
        self._pairs = np.triu_indices(len(identities), k=1)
        self._same = identities[self._pairs[0]] == identities[self._pairs[1]]
        self._work = work

    def on_epoch_end(self, epoch, logs=None):
        save(self.model, self._work / "student.keras")
        if (epoch + 1) % 4 and epoch + 1 != self.params["epochs"]:
            return
        embedder = build_student()
        embedder.set_weights(self.model.get_weights())
        save(embedder, self._work / "embedder.keras")
        unit = keras.ops.normalize(embedder.predict(self._faces, verbose=0), axis=1)
        unit = keras.ops.convert_to_numpy(unit)
        scores = (unit @ unit.T)[self._pairs]
        threshold = np.quantile(scores[~self._same], 1 - 1e-3)
        tar = np.mean(scores[self._same] > threshold)
        console.print(
            f"epoch {epoch + 1}: held-out identities TAR@FAR=1e-3 {tar:.4f} at {threshold:.3f}"
        )


def save(model, path):
    """Save beside, then rename: an interruption never leaves half a file."""
    partial = path.with_name(f"partial-{path.name}")
    model.save(partial)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
