"""Makes an embedder fail safe on bad images, without labels.

An embedder that was trained on clean faces finds blurred strangers similar. `robustify` adds a few
layers to it that pull them apart and leave the embeddings of clean crops where they were. The
embedder is its own teacher.
"""

import dataclasses
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.table import Table

from keras_facemargin.arrays import read_npz
from keras_facemargin.data.problems import check_all, report_bad_files
from keras_facemargin.evaluate.degraded import CLEAN
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.files import atomic_write, draft_folder, write_json
from keras_facemargin.images import BadImage, Crop, read_face
from keras_facemargin.images.alignment_check import doubt
from keras_facemargin.images.degrade import KINDS
from keras_facemargin.images.image import check_face
from keras_facemargin.progress import progress_bar
from keras_facemargin.saving import save_model
from keras_facemargin.training.correction import train_correction
from keras_facemargin.training.degraded_views import GROUPS, DegradedViews
from keras_facemargin.training.robustness import (
    Kept,
    Robustness,
    TestFaces,
    agreement,
    rates_of,
    unit_embeddings,
)
from keras_facemargin.zoo import CARD, Thresholds, calibrate, describe, find_card, write_card

STEPS = 2500  # of the training
FAR = 1e-3  # of the threshold on clean faces
SAVED_FILES = ("embedder.keras", CARD, "report.json")
_FEWEST = 200  # images to train on
_FEWEST_PEOPLE = 40  # of a test: 1,560 pairs of two people
_MOST_PEOPLE = 400
_LOSS = 0.01  # in the FNMR of clean pairs that is remarked on
_MOST = 4000  # images to train on
_VIEWS = 240  # of a batch
_PASSES = 1  # over the images, with other degradations each
_SECONDS = 30.0  # between two checkpoints


@dataclasses.dataclass(frozen=True)
class Robustified:
    """Result of `robustify`.

    Attributes:
        embedder: the trained embedder.
        images: number of images that it was trained on.
        kept: `Kept`, cosines of clean embeddings before and after, on the test people or, without
            them, on images that were kept out of the training.
        agreement: kind -> mean cosine of such images to the clean embeddings of the old embedder,
            before and after.
        before, after: `Robustness` on the test people; None without them.
        thresholds: calibrated on the test people; None without them.
    """

    embedder: keras.Model
    images: int
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
                    f"{old[CLEAN].fnmr:.1%} before, {new[CLEAN].fnmr:.1%} after. Check "
                    "this price."
                )
            if worse := [kind for kind in KINDS if new[kind].fmr > old[kind].fmr]:
                remarks.append(
                    f"Nothing is gained on {', '.join(worse)}: strangers match more often than "
                    "before."
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
        with draft_folder(directory) as draft:
            file = draft / "embedder.keras"
            save_model(self.embedder, file)
            made = (
                f"made from {model} with layers that {self.images:,} unlabelled images trained, so "
                "that strangers on small, blurred or compressed images match less often."
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
            card = card.changed(name=Path(directory).resolve().name, notes=(*card.notes, note))
            write_card(draft / CARD, card)
            write_json(draft / "report.json", {"model": str(model), **self.to_dict()})

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
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Robustified:
    """Adds a few layers to an embedder, so that strangers on bad images do not match.

    The layers learn from the embeddings of clean crops and of degraded views of them. The embedder
    keeps its weights, and runs once on each view. No labels are needed: `CorrectionTrainer` states
    the loss, `DegradedViews` the degradations.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); it is not changed.
        images: aligned crops, as `read_face` takes them; 200 or more, of which 4,000, drawn by the
            seed, are used.
        test: labelled faces, such as a `FaceFolder`, of people who are not in `images`: 40 or more
            with two images each, of which the first 400 count. None measures only how far
            embeddings move, on a tenth of `images`.
        seed: seed of order, degradations and initial weights.
        checkpoint: file that holds the embeddings, written about every 30 seconds. If it exists,
            the run resumes from it and ends as an uninterrupted run does. The caller removes it.
        progress: whether to show progress on standard error.

    Returns:
        A `Robustified`.

    Raises:
        ValueError: there are too few images or people; an image is not a crop of the embedder's
            shape; the images are clearly not aligned to its template; the checkpoint belongs to
            another run; the loss is not finite.
        OSError: a file cannot be read or written.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> images = sorted(Path("unlabelled").glob("*.jpg"))
    >>> result = robustify(load_embedder("mobilefacenet_192"), images)  # doctest: +SKIP
    >>> result.save("robust", "mobilefacenet_192")  # doctest: +SKIP
    """
    crop = Crop.of_embedder(embedder)
    people = None if test is None else _test_people(test, crop)
    training, kept_out = _checked_images(images, crop, seed, split=test is None)
    faces = people or TestFaces(np.stack([read_face(each, crop) for each in kept_out]))
    views = DegradedViews(training, crop, batch_size=_VIEWS, seed=seed)
    file = None if checkpoint is None else Path(checkpoint)
    bank = _Bank(file, embedder, views, _fingerprint(embedder, training, seed))
    with progress_bar("batches", progress) as bar:
        task = bar.add_task("Embedding", total=faces.batches + len(bank))
        blocks = bank.embed(lambda done: bar.advance(task, done))
        before = faces.embed(embedder, lambda: bar.advance(task))
    with progress_bar("steps", progress) as bar:
        task = bar.add_task("Training", total=STEPS)
        correction = train_correction(
            blocks, steps=STEPS, seed=seed, advance=lambda: bar.advance(task)
        )
    after = {
        kind: tuple(correction.predict(rows, verbose=0) for rows in sets)
        for kind, sets in before.items()
    }
    old, new = unit_embeddings(before), unit_embeddings(after)
    robust = _appended(embedder, correction)
    return Robustified(
        embedder=robust,
        images=len(training),
        kept=Kept.of(old, new),
        agreement=(agreement(old, old), agreement(old, new)),
        before=None if people is None else rates_of(old, FAR),
        after=None if people is None else rates_of(new, FAR),
        thresholds=None if test is None else _calibrate(robust, test, progress),
    )


def _appended(embedder: keras.Model, correction: keras.Model) -> keras.Model:
    """The embedder with the correction after it, whose name is free also in a second run."""
    taken = {layer.name for layer in embedder.layers}
    names = (
        "correction" if number == 1 else f"correction_{number}" for number in itertools.count(1)
    )
    name = next(each for each in names if each not in taken)
    layer = keras.Model(correction.inputs[0], correction.outputs[0], name=name)
    return keras.Model(embedder.inputs[0], layer(embedder.outputs[0]), name=embedder.name)


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
    """Some images to train on and those to measure on; each is decoded once before the work."""
    if len(images) < _FEWEST:
        raise ValueError(
            f"`robustify` needs {_FEWEST} or more images. Received: {len(images):,}. Any aligned "
            "faces serve; no names are needed."
        )
    order = np.random.default_rng(seed).permutation(len(images))[:_MOST].tolist()
    drawn = [images[row] for row in order]

    def check(index: int) -> BadImage | None:
        try:
            check_face(drawn[index], crop)
        except BadImage as error:
            return BadImage(drawn[index], error.reason)
        return None

    bad = [each for each in check_all(check, len(drawn)) if each is not None]
    report_bad_files("The set to train on", bad, "refuse")
    if reason := doubt(drawn, crop):
        raise ValueError(
            f"The images to train on must be aligned crops. Received: {len(images):,} images. "
            f"{reason} `facemargin align` cuts aligned crops out of photos."
        )
    count = min(500, len(drawn) // 10) if split else 0
    return drawn[count:], drawn[:count]


def _calibrate(embedder: keras.Model, test: Any, progress: bool) -> Thresholds:
    embeddings = embed(embedder, test.paths, progress=progress)
    name = Path(test.source).name
    about = f"all pairs of {len(test):,} images of {test.num_classes:,} people, {name}"
    return calibrate(embeddings, test.labels, data=about, progress=progress)


def _fingerprint(embedder: keras.Model, images: Sequence[Any], seed: int) -> str:
    """Digest of all that a resumed run must share with its start."""
    digest = hashlib.sha256(f"{seed} {_VIEWS} {_PASSES}".encode())
    for weight in embedder.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode() + weight.tobytes())
    for image in images:
        digest.update(os.fsencode(str(image)) + b"\0")
    return digest.hexdigest()


class _Bank:
    """The embeddings of the views, in a file that is replaced in one step."""

    def __init__(
        self, file: Path | None, embedder: keras.Model, views: DegradedViews, fingerprint: str
    ) -> None:
        self._file, self._embedder, self._views = file, embedder, views
        self._fingerprint = fingerprint
        self._last = time.monotonic()

    def __len__(self) -> int:
        return _PASSES * self._views.batches_of_a_pass

    def embed(self, advance: Callable[[int], object]) -> npt.NDArray[np.float32]:
        """Blocks (S, V, N, D); `advance` gets the number of blocks that were added."""
        blocks = self._resume()
        advance(len(blocks))
        for batch in self._views.batches(len(blocks), len(self)):
            rows = embed(self._embedder, batch, flip=False, progress=False).astype("float32")
            blocks.append(rows.reshape(GROUPS, -1, rows.shape[-1]))
            self._save(blocks)
            advance(1)
        return np.stack(blocks)

    def _resume(self) -> list[npt.NDArray[np.float32]]:
        if self._file is None or not self._file.exists():
            return []
        arrays = read_npz(self._file)
        if str(arrays.get("fingerprint")) != self._fingerprint:
            raise ValueError(
                "A run resumes with the embedder, the images and the arguments of its start. "
                f"Received: {self._file} of another run. Restore them, or remove the file."
            )
        return list(arrays["blocks"])

    def _save(self, blocks: list[npt.NDArray[np.float32]]) -> None:
        """Writes the blocks, if the last time is long ago."""
        if self._file is None or time.monotonic() - self._last < _SECONDS:
            return
        with atomic_write(self._file, "wb") as stream:
            np.savez(stream, fingerprint=self._fingerprint, blocks=np.stack(blocks))
        self._last = time.monotonic()
