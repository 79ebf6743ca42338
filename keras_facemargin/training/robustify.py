"""Makes an embedder fail safe on bad images, without labels.

An embedder that was trained on clean faces finds blurred strangers similar. `robustify` trains it
further so that a degraded crop has the embedding of the clean crop. The embedder is its own
teacher.
"""

import dataclasses
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_facemargin.arrays import read_npz
from keras_facemargin.data.problems import check_all, report_bad_files
from keras_facemargin.evaluate.degraded import CLEAN
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.files import atomic_write, write_json
from keras_facemargin.images import BadImage, Crop, read_face
from keras_facemargin.images.degrade import KINDS
from keras_facemargin.images.image import check_face
from keras_facemargin.progress import progress_bar
from keras_facemargin.saving import save_model
from keras_facemargin.training.degraded_views import GROUPS, DegradedViews
from keras_facemargin.training.distillation import CLEAN_WEIGHT, CleanTarget
from keras_facemargin.training.robustness import (
    Kept,
    Robustness,
    TestFaces,
    agreement,
    rates_of,
)
from keras_facemargin.zoo import CARD, Thresholds, calibrate, describe, find_card, write_card

FAR = 1e-3  # of the threshold on clean faces
SAVED_FILES = ("embedder.keras", CARD, "report.json")
_FEWEST = 200  # images to train on
_FEWEST_PEOPLE = 40  # of a test: 1,560 pairs of two people
_MOST_PEOPLE = 400
_LOSS = 0.01  # in the FNMR of clean pairs that is remarked on
_SECONDS = 30.0  # between two checkpoints, and between two lines without a terminal


@dataclasses.dataclass(frozen=True)
class Robustified:
    """Result of `robustify`.

    Attributes:
        embedder: the trained embedder.
        images: number of images that it was trained on.
        steps: number of steps.
        kept: `Kept`, cosines of clean embeddings before and after, on the test people or, without
            them, on images that were kept out of the training.
        agreement: kind -> mean cosine of such images to the clean embeddings of the old embedder,
            before and after.
        before, after: `Robustness` on the test people; None without them.
        thresholds: calibrated on the test people; None without them.
    """

    embedder: keras.Model
    images: int
    steps: int
    kept: Kept
    agreement: tuple[dict[str, float], dict[str, float]]
    before: Robustness | None
    after: Robustness | None
    thresholds: Thresholds | None

    @property
    def remarks(self) -> list[str]:
        """Sentences to show with the table."""
        remarks = [
            f"Beside the old embedder: {self.kept}. The embedding id is new, so commands refuse to "
            "compare old and new embeddings: embed an old gallery again, or judge by these cosines."
        ]
        if self.before is not None and self.after is not None:
            old, new = self.before.both, self.after.both
            if new[CLEAN].fnmr > old[CLEAN].fnmr + _LOSS:
                remarks.append(
                    "Clean images of one person are rejected more often: FNMR "
                    f"{old[CLEAN].fnmr:.1%} before, {new[CLEAN].fnmr:.1%} after. Train for more "
                    "steps, or at a lower learning rate."
                )
            if worse := [kind for kind in KINDS if new[kind].fmr > old[kind].fmr]:
                remarks.append(
                    f"Nothing is gained on {', '.join(worse)}: strangers match more often than "
                    "before. Train for more steps."
                )
        if self.thresholds is None:
            remarks.append(
                "The thresholds of the old embedder do not hold for the new one, and it has none: "
                "`facemargin calibrate PEOPLE --model FOLDER` finds them. With --test PEOPLE this "
                "command measures error rates and calibrates."
            )
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "images": self.images,
            "steps": self.steps,
            "clean_cosine": dataclasses.asdict(self.kept),
            "cosine_to_old_clean": dict(zip(("before", "after"), self.agreement, strict=True)),
            "before": self.before and self.before.to_dict(),
            "after": self.after and self.after.to_dict(),
        }

    def save(self, directory: str | os.PathLike[str], model: str | os.PathLike[str]) -> None:
        """Writes the folder in one step: `embedder.keras`, `card.json` and `report.json`.

        Every command takes the folder as a model. The card repeats the licence and the lineage of
        the old embedder's card, if it has one.

        Args:
            directory: the folder; it must not exist, or be empty.
            model: name or path of the old embedder.

        Raises:
            FileExistsError: the folder is in use.
            OSError: a file cannot be written.
        """
        directory = Path(directory)
        refuse_used(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.draft")
        draft.mkdir()
        try:
            file = draft / "embedder.keras"
            save_model(self.embedder, file)
            made = (
                f"trained from {model} on {self.images:,} unlabelled images, so that few pixels, "
                "blur and JPEG change its embeddings less."
            )
            card = describe(
                self.embedder,
                file,
                f"An embedder {made}",
                base=find_card(model),
                lineage=(f"Embedder {made}",),
                thresholds=self.thresholds,
            )
            note = f"Beside those of {model}: {self.kept}."
            card = card.changed(name=directory.resolve().name, notes=(*card.notes, note))
            write_card(draft / CARD, card)
            write_json(draft / "report.json", {"model": str(model), **self.to_dict()})
            os.rename(draft, directory)  # replaces an empty folder
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def __rich__(self) -> Table:
        if self.before is None or self.after is None:
            table = Table("Images", "Cosine to the old clean embedding", "After")
            for kind, before in self.agreement[0].items():
                table.add_row(kind, f"{before:.4f}", f"{self.agreement[1][kind]:.4f}")
            return table
        table = Table(
            f"{self.before.people} people", "FMR both", "FNMR both", "FMR one", "FNMR one"
        )
        for kind in self.before.both:
            pairs = [
                *_column(self.before.both[kind], self.after.both[kind], self.before.far),
                *(
                    ("", "")
                    if kind == CLEAN
                    else _column(self.before.one[kind], self.after.one[kind], self.before.far)
                ),
            ]
            table.add_row(kind, *pairs)
        return table


def _column(before: Any, after: Any, far: float) -> tuple[str, str]:
    """FMR as a multiple of its target, and FNMR, before and after."""
    return (
        f"{before.fmr / far:.1f} -> {after.fmr / far:.1f}",
        f"{100 * before.fnmr:.1f} -> {100 * after.fnmr:.1f}",
    )


def robustify(
    embedder: keras.Model,
    images: Sequence[Any],
    *,
    test: Any = None,
    steps: int = 700,
    batch_size: int = 48,
    learning_rate: float = 3e-4,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Robustified:
    """Trains an embedder so that a degraded crop has the embedding of the clean crop.

    No labels are needed: `CleanTarget` states the loss, `DegradedViews` the degradations. Batch
    normalisation keeps its statistics. Adam's learning rate decays to zero on a cosine schedule.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); trained in place.
        images: aligned crops, as `read_face` takes them; 200 or more.
        test: labelled faces, such as a `FaceFolder`, of people who are not in `images`: 40 or more
            with two images each, of which the first 400 count. None measures only how far
            embeddings move, on a tenth of `images`.
        steps: number of steps.
        batch_size: images of a step, a multiple of 4.
        learning_rate: initial learning rate for Adam.
        seed: seed of order and degradations.
        checkpoint: file that holds the state of the training, written about every 30 seconds. If it
            exists, the run resumes from it and ends as an uninterrupted run does. The caller
            removes it.
        progress: whether to show progress on standard error.

    Returns:
        A `Robustified`.

    Raises:
        ValueError: there are too few images or people; an image is not a crop of the embedder's
            shape; the embedder cannot be trained; an argument is out of its range; the checkpoint
            belongs to another run; the loss is not finite.
        OSError: a file cannot be read or written.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> images = sorted(Path("unlabelled").glob("*.jpg"))
    >>> result = robustify(load_embedder("mobilefacenet_192"), images)  # doctest: +SKIP
    >>> result.save("robust", "mobilefacenet_192")  # doctest: +SKIP
    """
    if batch_size % GROUPS or batch_size < GROUPS:
        raise ValueError(
            f"`batch_size` must be a multiple of {GROUPS}. Received: batch_size={batch_size}"
        )
    if steps < 1 or not learning_rate > 0:
        raise ValueError(
            "`steps` must be at least 1 and `learning_rate` above 0. Received: "
            f"steps={steps}, learning_rate={learning_rate}"
        )
    _check_trainable(embedder)
    crop = Crop.of_embedder(embedder)
    people = None if test is None else _test_people(test, crop)
    training, kept_out = _checked_images(images, crop, seed, split=test is None)
    faces = people or TestFaces(np.stack([read_face(each, crop) for each in kept_out]))
    student = CleanTarget(embedder, _copy_of(embedder))
    student.compile(keras.optimizers.Adam(_schedule(learning_rate, steps)))
    student.optimizer.build(student.trainable_variables)
    about = _fingerprint(embedder, training, steps, batch_size, learning_rate, seed)
    run = _Checkpoint(None if checkpoint is None else Path(checkpoint), student, about)
    with _Bar(steps, 2 * faces.batches, progress) as bar:
        before = faces.embed(student.teacher, bar.advance)
        start = run.resume()
        bar.start_at(start)
        views = DegradedViews(training, crop, batch_size=batch_size, seed=seed)
        for step, batch in enumerate(views.batches(start, steps), start):
            weights = np.where(batch.is_clean, CLEAN_WEIGHT, 1.0).astype("float32")
            loss = float(student.train_on_batch(batch.degraded, batch.clean, weights))
            if not np.isfinite(loss):
                raise ValueError(
                    f"The loss must be finite. Received: {loss} at step {step}. Lower the learning "
                    "rate."
                )
            run.save(step + 1)
            bar.step(step + 1, loss)
        after = faces.embed(embedder, bar.advance)
    return Robustified(
        embedder=embedder,
        images=len(training),
        steps=steps,
        kept=Kept.of(before, after),
        agreement=(agreement(before, before), agreement(before, after)),
        before=None if people is None else rates_of(before, FAR),
        after=None if people is None else rates_of(after, FAR),
        thresholds=None if test is None else _calibrate(embedder, test, progress),
    )


def refuse_used(directory: Path) -> None:
    """Refuses a destination that is a file or a folder with content."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(
            f"The output folder must not be in use. Received: {directory} exists. Choose another "
            "folder, or remove it."
        )


def _check_trainable(embedder: keras.Model) -> None:
    layers = [layer for layer in embedder._flatten_layers(include_self=False) if layer.weights]
    quantised = [each.name for each in layers if getattr(each, "quantization_mode", None)]
    if quantised:
        raise ValueError(
            "An embedder is trained in floating point. Received: the quantised layer "
            f"{quantised[0]!r}. Robustify the original, and quantise the result."
        )
    if not embedder.trainable_variables:
        frozen = next((each.name for each in layers if not each.trainable), embedder.name)
        raise ValueError(
            f"The embedder has no weights to train. Received: {embedder.name!r}, whose layer "
            f"{frozen!r} is frozen. Set its attribute `trainable`, and save it again."
        )


def _schedule(learning_rate: float, steps: int) -> Any:
    """Up to the rate in a tenth of the steps, because Adam's first steps are its largest; to 0."""
    warmup = steps // 10
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else learning_rate,
        steps - warmup,
        warmup_target=learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _copy_of(embedder: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(embedder)
    copy.set_weights(embedder.get_weights())
    return copy


def _test_people(test: Any, crop: Crop) -> TestFaces:
    """The first two images of each of the first people that have two."""
    order = np.argsort(test.labels, kind="stable")
    labels, starts, counts = np.unique(test.labels[order], return_index=True, return_counts=True)
    starts = starts[counts >= 2][:_MOST_PEOPLE]
    if len(starts) < _FEWEST_PEOPLE:
        raise ValueError(
            f"The test needs {_FEWEST_PEOPLE} people with two images each. Received: {len(starts)} "
            f"of {len(labels)} people in {test.source}"
        )
    first, second = (
        np.stack([read_face(test.paths[row], crop) for row in order[starts + n].tolist()])
        for n in (0, 1)
    )
    return TestFaces(first, second)


def _checked_images(
    images: Sequence[Any], crop: Crop, seed: int, *, split: bool
) -> tuple[Sequence[Any], Sequence[Any]]:
    """The images to train on and those to measure on; every file is decoded once."""
    if len(images) < _FEWEST:
        raise ValueError(
            f"`robustify` needs {_FEWEST} or more images. Received: {len(images):,}. Any aligned "
            "faces serve; no names are needed."
        )

    def check(index: int) -> BadImage | None:
        try:
            check_face(images[index], crop)
        except BadImage as error:
            return BadImage(images[index], error.reason)
        return None

    bad = [each for each in check_all(check, len(images)) if each is not None]
    report_bad_files("The set to train on", bad, "refuse")
    if not split:
        return images, []
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    count = min(500, len(images) // 10)
    return [images[row] for row in order[count:]], [images[row] for row in order[:count]]


def _calibrate(embedder: keras.Model, test: Any, progress: bool) -> Thresholds:
    embeddings = embed(embedder, test.paths, progress=progress)
    name = Path(test.source).name
    about = f"all pairs of {len(test):,} images of {test.num_classes:,} people, {name}"
    return calibrate(embeddings, test.labels, data=about, progress=progress)


def _fingerprint(embedder: keras.Model, images: Sequence[Any], *settings: Any) -> str:
    """Digest of all that a resumed run must share with its start."""
    digest = hashlib.sha256(repr(settings).encode())
    for weight in embedder.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode() + weight.tobytes())
    for image in images:
        digest.update(os.fsencode(str(image)) + b"\0")
    return digest.hexdigest()


class _Checkpoint:
    """The state of the training in a file: weights, optimizer, step; replaced in one step."""

    def __init__(self, file: Path | None, student: CleanTarget, fingerprint: str) -> None:
        self._file, self._student, self._fingerprint = file, student, fingerprint
        self._last = time.monotonic()

    @property
    def _variables(self) -> list[Any]:
        return [*self._student.student.variables, *self._student.optimizer.variables]

    def resume(self) -> int:
        """Restores the state, if the file exists; returns the next step."""
        if self._file is None or not self._file.exists():
            return 0
        arrays = read_npz(self._file)
        if str(arrays.get("fingerprint")) != self._fingerprint:
            raise ValueError(
                "A run resumes with the embedder, the images and the arguments of its start. "
                f"Received: {self._file} of another run. Restore them, or remove the file."
            )
        for number, variable in enumerate(self._variables):
            variable.assign(arrays[f"variable.{number}"])
        return int(arrays["step"])

    def save(self, step: int) -> None:
        """Writes the state, if the last time is long ago."""
        if self._file is None or time.monotonic() - self._last < _SECONDS:
            return
        arrays = {
            f"variable.{number}": keras.ops.convert_to_numpy(variable)
            for number, variable in enumerate(self._variables)
        }
        with atomic_write(self._file, "wb") as stream:
            np.savez(stream, fingerprint=self._fingerprint, step=step, **arrays)
        self._last = time.monotonic()


class _Bar:
    """One progress bar for measuring and training; lines without a terminal."""

    def __init__(self, steps: int, batches: int, progress: bool) -> None:
        self._console = Console(stderr=True)
        has_bar = self._console.is_terminal or self._console.is_jupyter
        self._lines = progress and not has_bar
        self._bar = progress_bar("steps", progress and has_bar)
        self._steps, self._last = steps, time.monotonic()
        self._task = self._bar.add_task("Measuring", total=steps + batches)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def advance(self) -> None:
        self._bar.advance(self._task)

    def start_at(self, step: int) -> None:
        """The steps that an interrupted run has done."""
        self._bar.advance(self._task, step)

    def step(self, done: int, loss: float) -> None:
        text = f"Training, loss {loss:.3f}" if done < self._steps else "Measuring"
        self._bar.update(self._task, advance=1, description=text)
        if self._lines and (time.monotonic() - self._last >= _SECONDS or done == self._steps):
            self._last = time.monotonic()
            self._console.print(
                f"step {done:,}/{self._steps:,}  loss {loss:.3f}", highlight=False, soft_wrap=True
            )
