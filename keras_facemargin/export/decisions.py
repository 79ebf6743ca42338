"""What an export does to decisions: the same pairs before and after, by the same threshold.

A mean cosine of 0.994 says little about an app. What matters: which pairs change their answer at
the threshold that was calibrated before, and what a threshold of the file's own restores.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate import Pairs, cosine_scores, embed, verify_all_pairs
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.verification import fold_accuracy
from keras_facemargin.export.verdict import Verdict
from keras_facemargin.export.write import open_exported

FARS = (1e-3, 1e-4)
_BLOCK = 512  # rows; their scores with all rows are in memory
# A threshold is the next number above the score of an impostor pair, which a product of matrices
# computes with other last digits.
_DIGITS = 1e-12


class LabelledFaces(Protocol):
    """A set of faces, such as those that `keras_facemargin.data.open_faces` opens.

    Attributes:
        paths: sequence of the images, as `keras_facemargin.evaluate.embed` takes them.
        labels: (N,), the person in each.
    """

    paths: Any
    labels: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Flips:
    """Pairs whose answer changes at a threshold.

    Attributes:
        genuine_rejected: of one person, accepted before and rejected after.
        genuine_accepted: of one person, rejected before and accepted after.
        impostor_accepted: of two people, rejected before and accepted after.
        impostor_rejected: of two people, accepted before and rejected after.
    """

    genuine_rejected: int
    genuine_accepted: int
    impostor_accepted: int
    impostor_rejected: int


@dataclass(frozen=True)
class RateDecisions:
    """Decisions at one false accept rate.

    Attributes:
        far: the false accept rate that the thresholds are calibrated for.
        threshold, tar: before: least cosine, and share of the genuine pairs that it accepts.
        kept_far, kept_tar: shares of the impostor and of the genuine pairs that the *old* threshold
            accepts after the export.
        new_threshold, new_tar: calibrated on the exported file.
        kept_flips: pairs whose answer changes if the old threshold is kept.
        new_flips: pairs whose answer changes if each side has its own threshold.
    """

    far: float
    threshold: float
    tar: float
    kept_far: float
    kept_tar: float
    new_threshold: float
    new_tar: float
    kept_flips: Flips
    new_flips: Flips


@dataclass(frozen=True)
class Decisions:
    """Decisions of an exported file beside those of the Keras embedder, over all pairs of a set.

    Attributes:
        images, people: their numbers.
        genuine_pairs, impostor_pairs: their numbers.
        rates: one for each false accept rate that the number of impostor pairs supports.
        accuracy: mean accuracy over the folds of an official list before and after, each fold at
            the best threshold of the others; None without a list.
    """

    images: int
    people: int
    genuine_pairs: int
    impostor_pairs: int
    rates: tuple[RateDecisions, ...]
    accuracy: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts, ready for JSON."""
        found = asdict(self)
        found["rates"] = list(found["rates"])
        found["accuracy"] = None if self.accuracy is None else list(self.accuracy)
        return found

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = []
        if self.accuracy is not None:
            before, after = self.accuracy
            rows.append(("accuracy over folds", f"{before:.2%} before, {after:.2%} after"))
        for one in self.rates:
            kept, new = one.kept_flips, one.new_flips
            rows += [
                (
                    f"TAR @ FAR {one.far:g}",
                    f"{one.tar:.2%} before at {one.threshold:.4f}; {one.new_tar:.2%} after at its "
                    f"own {one.new_threshold:.4f}",
                ),
                (
                    "  old threshold kept",
                    f"TAR {one.kept_tar:.2%}, FAR {one.kept_far:.2g}",
                ),
                ("  flipped, kept", _words(kept)),
                ("  flipped, own", _words(new)),
            ]
        pairs = f"{self.genuine_pairs:,} genuine, {self.impostor_pairs:,} impostor"
        return [*rows, (f"pairs of {self.images:,} images", f"{pairs}; {self.people:,} people")]


def _words(flips: Flips) -> str:
    return (
        f"genuine -{flips.genuine_rejected:,} +{flips.genuine_accepted:,}, impostor "
        f"+{flips.impostor_accepted:,} -{flips.impostor_rejected:,}"
    )


def with_decisions(
    verdict: Verdict, embedder: Any, people: LabelledFaces, *, pairs: Pairs | None = None
) -> Verdict:
    """A verdict with the decisions of its file beside those of the Keras embedder.

    Args:
        verdict: as `export_embedder` returns it.
        embedder: the exported `keras.Model`.
        people: labelled crops of people whom the embedder was not trained on.
        pairs: an official list with folds among those images, as `read_pairs` reads it.

    Returns:
        The `Verdict` with `decisions`.

    Raises:
        ValueError, OSError: as `embed`, `compare_decisions` and `fold_accuracies`.
    """
    before = embed(embedder, people.paths, flip=False)
    after = embed(open_exported(verdict.path, embedder), people.paths, flip=False)
    found = compare_decisions(before, after, people.labels)
    if pairs is not None:
        accuracy = fold_accuracies(pairs, people.paths, before, after)
        found = replace(found, accuracy=accuracy)
    return replace(verdict, decisions=found)


def compare_decisions(
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    labels: npt.ArrayLike,
    *,
    fars: Sequence[float] = FARS,
) -> Decisions:
    """Compares the decisions of two embedders over every pair of a set of faces.

    Args:
        before: (N, D), embeddings by the Keras embedder.
        after: (N, D), embeddings of the same images by the exported file, in the same order.
        labels: (N,), the person in each image.
        fars: false accept rates; those that the impostor pairs do not support are left out.

    Returns:
        `Decisions`.

    Raises:
        ValueError: as `verify_all_pairs`; the shapes differ.

    Example:

    >>> rows = np.array([[1.0, 0.0], [0.9, 0.3], [0.0, 1.0], [0.1, 0.9]])
    >>> found = compare_decisions(rows, rows[:, ::-1], [1, 1, 2, 2], fars=[0.25])
    >>> found.rates[0].tar, found.rates[0].kept_flips.genuine_rejected
    (1.0, 0)
    """
    if before.shape != after.shape:
        raise ValueError(
            "The embeddings before and after must be of the same images and length. Received: "
            f"shapes {before.shape} and {after.shape}"
        )
    people = np.unique(np.asarray(labels), return_inverse=True)[1]
    found = [verify_all_pairs(rows, people, fars=fars, progress=False) for rows in (before, after)]
    entries = [
        (old, new)
        for old, new in zip(found[0].tar_at_far, found[1].tar_at_far, strict=True)
        if old.threshold is not None and new.threshold is not None
    ]
    thresholds = np.array([(old.threshold, new.threshold) for old, new in entries]) + _DIGITS
    # Per rate: (kept or new threshold, same person, accepted before, accepted after) -> pairs.
    counts = _count(
        unit_rows(before, "before"), unit_rows(after, "after"), people, thresholds.reshape(-1, 2)
    )
    rates = []
    for (old, new), table in zip(entries, counts, strict=True):
        genuine, impostor = table[0, 1], table[0, 0]
        rates.append(
            RateDecisions(
                far=old.target,
                threshold=float(old.threshold or 0.0),
                tar=float(old.tar or 0.0),
                kept_far=float(impostor[:, 1].sum() / impostor.sum()),
                kept_tar=float(genuine[:, 1].sum() / genuine.sum()),
                new_threshold=float(new.threshold or 0.0),
                new_tar=float(new.tar or 0.0),
                kept_flips=_flips(table[0]),
                new_flips=_flips(table[1]),
            )
        )
    return Decisions(
        images=len(people),
        people=int(people.max()) + 1,
        genuine_pairs=found[0].genuines,
        impostor_pairs=found[0].impostors,
        rates=tuple(rates),
    )


def _flips(table: npt.NDArray[np.int64]) -> Flips:
    return Flips(
        genuine_rejected=int(table[1, 1, 0]),
        genuine_accepted=int(table[1, 0, 1]),
        impostor_accepted=int(table[0, 0, 1]),
        impostor_rejected=int(table[0, 1, 0]),
    )


def _count(
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    people: npt.NDArray[Any],
    thresholds: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Numbers of pairs: (R, kept or new, same, accepted before, accepted after)."""
    counts = np.zeros((len(thresholds), 2, 8), np.int64)
    for start in range(0, len(people), _BLOCK):
        rows = slice(start, start + _BLOCK)
        upper = np.arange(start, len(people)) > np.arange(start, start + _BLOCK)[:, None]
        upper = upper[: len(people[rows])]
        same = (people[rows, None] == people[start:])[upper]
        old, new = ((each[rows] @ each[start:].T)[upper] for each in (before, after))
        for rate, (threshold, own) in enumerate(thresholds):
            for side, least in enumerate((threshold, own)):
                kind = 4 * same + 2 * (old >= threshold) + (new >= least)
                counts[rate, side] += np.bincount(kind, minlength=8)
    return counts.reshape(-1, 2, 2, 2, 2)


def fold_accuracies(
    pairs: Pairs,
    paths: Sequence[str | os.PathLike[str]],
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
) -> tuple[float, float]:
    """Mean accuracy of an official list before and after, each fold at the others' threshold.

    Args:
        pairs: the list, with folds, as `read_pairs` reads it.
        paths: N images, which contain those of the list.
        before, after: (N, D), as `compare_decisions`.

    Raises:
        ValueError: the list has no folds, or an image of it is not among `paths`.
    """
    if pairs.folds is None:
        raise ValueError(
            "The list of pairs must have folds, as LFW's pairs.txt has. Received: one without"
        )
    row = {os.path.abspath(path): index for index, path in enumerate(paths)}
    seen = ~pairs.failed_to_enrol
    listed = {os.path.abspath(each) for side in pairs.images for each in side}
    if seen.all() and (absent := sorted(listed - set(row))):
        raise ValueError(
            "The faces must contain every image of the list. Received: faces without "
            f"{len(absent):,} of them, the first {absent[0]}"
        )
    first, second = (
        [
            row[os.path.abspath(each)] if is_seen else 0
            for each, is_seen in zip(side, seen, strict=True)
        ]
        for side in pairs.images
    )
    found = []
    for rows in (before, after):
        scores = np.where(seen, cosine_scores(rows[first], rows[second]), -1.0)
        found.append(fold_accuracy(scores, pairs.same, pairs.folds).mean)
    return found[0], found[1]
