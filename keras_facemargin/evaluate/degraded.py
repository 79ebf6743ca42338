"""Degraded faces: the errors at a clean threshold when crops are small, blurred or poor JPEGs.

An embedder finds bad crops similar to each other: at a threshold that accepts one in a thousand
pairs of clean strangers, it may accept most pairs of blurred ones. `measure_degraded` takes two
crops of each person. The threshold is that of the target FAR on the clean crops of all people. Then
both crops of each pair, or only the second, are degraded alike, and every pair is counted: the two
crops of each person are the genuine pairs, the first of one with the second of another the
impostors. With the quality limits of an embedder, pairs that get no answer are counted apart.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.degrade import KINDS, degrade
from keras_facemargin.images.image import ImageFile, read_face
from keras_facemargin.quality import Limits, UtilityScale, effective_resolution, verdicts
from keras_facemargin.quality.decision import FAINT, SHARP
from keras_facemargin.quality.judge import norm_and_agreement

CLEAN = "clean"
_ROWS = 256  # people whose scores are in memory at a time


class QualityRule(UtilityScale, Limits, Protocol):
    """The scale and the limits of an embedder, as `FaceQuality` on its card has them."""


@dataclasses.dataclass(frozen=True, eq=False)
class JudgedFaces:
    """Two crops of each person under one kind of damage: embeddings and quality.

    Attributes:
        units: float64 (2, P, E), embeddings of unit length.
        sharpness: (2, P), pixels between the eyes.
        norms, agreements: (2, P), as `judge` uses them; None without the mirror images.
    """

    units: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    norms: npt.NDArray[np.float64] | None
    agreements: npt.NDArray[np.float64] | None

    def utilities(self, scale: UtilityScale) -> npt.NDArray[np.float64]:
        """Utility, (2, P); 1 where it is not known."""
        if self.norms is None or self.agreements is None:
            return np.ones(self.sharpness.shape)
        found = scale.utilities(self.norms.ravel(), self.agreements.ravel())
        return found.reshape(self.norms.shape)


@dataclasses.dataclass(frozen=True)
class Damage:
    """The pairs of one kind of damage at the threshold of clean crops.

    Attributes:
        kind: "clean", or a kind of `keras_facemargin.images.degrade`.
        both: whether both crops of a pair are degraded, or only the second.
        genuines, impostors: numbers of pairs.
        false_rejects, false_accepts: pairs decided wrongly without the limits.
        answered_genuines, answered_impostors: pairs that get an answer with the limits; None
            without limits.
        answered_false_rejects, answered_false_accepts: wrong answers among these.
    """

    kind: str
    both: bool
    genuines: int
    impostors: int
    false_rejects: int
    false_accepts: int
    answered_genuines: int | None = None
    answered_impostors: int | None = None
    answered_false_rejects: int | None = None
    answered_false_accepts: int | None = None

    @property
    def name(self) -> str:
        """The kind in words."""
        return self.kind if self.both else f"one {self.kind}"

    @property
    def fmr(self) -> float:
        """Share of the impostor pairs that is accepted without the limits."""
        return self.false_accepts / self.impostors

    @property
    def fnmr(self) -> float:
        """Share of the genuine pairs that is rejected without the limits."""
        return self.false_rejects / self.genuines


@dataclasses.dataclass(frozen=True)
class Degraded(Measures):
    """The result of `measure_degraded`.

    Attributes:
        people: number of people, two crops each.
        far: target FAR of the threshold.
        threshold: cosine of that FAR on clean crops.
        limited: whether the embedder has quality limits.
        refused_crops: share of the clean crops below a limit; None without limits.
        columns: the kinds of damage, clean first.
    """

    people: int
    far: float
    threshold: float
    limited: bool
    refused_crops: float | None
    columns: tuple[Damage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return dataclasses.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text."""
        rows = [
            (each.name, f"FMR {each.fmr / self.far:,.3g} x target, FNMR {each.fnmr:.1%}")
            for each in self.columns
        ]
        pairs = f"{self.columns[0].genuines:,} genuine, {self.columns[0].impostors:,} impostor"
        return [*rows, ("Pairs of each kind", pairs)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of the table that a console and a page show."""
        headers = ["Crops", "FMR / target", "FNMR"]
        if self.limited:
            headers += [
                "With limits: FMR / target",
                "Two people: different",
                "One person: same",
                "One person: different",
            ]
        # A word a line: seven columns fit 80 characters.
        headers = [each.replace(" ", "\n").replace("\n/", " /") for each in headers]
        return headers, [self._cells(each) for each in self.columns]

    def _cells(self, found: Damage) -> list[str]:
        cells = [found.name, _times(found.fmr / self.far), f"{found.fnmr:.1%}"]
        if found.answered_impostors is None or found.answered_genuines is None:
            return cells
        assert found.answered_false_accepts is not None
        assert found.answered_false_rejects is not None
        rejected = found.answered_impostors - found.answered_false_accepts
        accepted = found.answered_genuines - found.answered_false_rejects
        return [
            *cells,
            _times(found.answered_false_accepts / found.impostors / self.far),
            f"{rejected / found.impostors:.1%}",
            f"{accepted / found.genuines:.1%}",
            f"{found.answered_false_rejects / found.genuines:.1%}",
        ]

    def __rich__(self) -> Any:
        from rich.table import Column, Table

        headers, rows = self.table()
        first, *others = headers
        table = Table(first, *(Column(each, justify="right") for each in others))
        for row in rows:
            table.add_row(*row)
        table.caption = self.about()
        return table

    def about(self) -> str:
        """The numbers of pairs and the threshold, in words."""
        first = self.columns[0]
        text = (
            f"{self.people:,} people: {first.genuines:,} genuine and {first.impostors:,} impostor "
            f"pairs of each kind. Threshold {self.threshold:.4f}, FAR {self.far:g} on clean crops."
        )
        if self.refused_crops is None:
            return f"{text} The model has no quality limits: every pair gets an answer."
        return (
            f"{text} Clean crops below a quality limit: {self.refused_crops:.1%}. The four columns "
            'with limits are shares of all pairs; those that are missing get "cannot say".'
        )


def _times(times: float) -> str:
    return f"{times:,.2f} x" if times < 10 else f"{times:,.0f} x"


def draw_people(
    images: Sequence[ImageFile], labels: Sequence[Any], people: int | None = None, *, seed: int = 0
) -> tuple[list[ImageFile], list[ImageFile]]:
    """The first two images of each person who has two, or of some people drawn by a seed.

    Args:
        images: in their order; the first two of a person count.
        labels: the person on each.
        people: number of people to draw; None for all.
        seed: of the draw.

    Returns:
        Two lists of images, a person in each place.

    Raises:
        ValueError: fewer than two people have two images.
    """
    found: dict[Any, list[ImageFile]] = {}
    for image, label in zip(images, labels, strict=True):
        found.setdefault(label, []).append(image)
    pairs = [each[:2] for each in found.values() if len(each) > 1]
    if len(pairs) < 2:
        raise ValueError(
            "Degraded faces need two people or more with two images each. Received: "
            f"{len(pairs)} such people among {len(found):,}."
        )
    if people is not None and people < len(pairs):
        drawn = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:people])
        pairs = [pairs[place] for place in drawn]
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def read_sides(
    embedder: Any, sides: tuple[Sequence[ImageFile], Sequence[ImageFile]]
) -> npt.NDArray[np.uint8]:
    """Reads two crops of each person, once for all kinds of damage.

    Args:
        embedder: as `embed`; its crop decides.
        sides: two lists of P images, as `draw_people` gives them.

    Returns:
        uint8 (2 P, H, W, 3), the first list first.

    Raises:
        BadImage, OSError: as `read_face`.
    """
    crop = Crop.of_embedder(embedder)
    return np.stack([read_face(image, crop) for image in (*sides[0], *sides[1])])


def judge_faces(
    embedder: Any,
    crops: npt.NDArray[np.uint8],
    kind: str = CLEAN,
    *,
    flip: bool = True,
    progress: bool = True,
) -> JudgedFaces:
    """Degrades and embeds two crops of each person.

    Args:
        embedder: as `embed`.
        crops: uint8 (2 P, H, W, 3), as `read_sides` gives them.
        kind: as `degrade`.
        flip: whether to append the mirror image's embedding; utility needs it.
        progress: whether to draw a progress bar on standard error.

    Returns:
        `JudgedFaces`.

    Raises:
        ValueError, OSError: as `embed` and `degrade`.
    """
    crops = np.stack([degrade(crop, kind) for crop in crops])
    rows = embed(embedder, crops, flip=flip, progress=progress)
    norms = agreements = None
    if flip:
        straight, mirrored = np.split(rows, 2, axis=1)
        norms, agreements = (each.reshape(2, -1) for each in norm_and_agreement(straight, mirrored))
    units = unit_rows(rows, "embeddings")
    return JudgedFaces(
        units.reshape(2, len(crops) // 2, -1),
        effective_resolution(crops).reshape(2, -1),
        norms,
        agreements,
    )


def clean_threshold(clean: JudgedFaces, far: float) -> float:
    """The threshold of a false accept rate on clean crops."""
    first, second = clean.units
    scores = first @ second.T
    return threshold_at_far(scores[~np.eye(len(scores), dtype=bool)], far)


def measure_degraded(
    embedder: Any,
    sides: tuple[Sequence[ImageFile], Sequence[ImageFile]],
    *,
    rule: QualityRule | None = None,
    far: float = 1e-3,
    kinds: Sequence[str] = KINDS,
    flip: bool = True,
    progress: bool = True,
) -> Degraded:
    """Measures an embedder on degraded crops, at the threshold of clean ones.

    Args:
        embedder: as `embed`.
        sides: two lists of images, a person in each place, as `draw_people` gives them.
        rule: the quality limits of the embedder, from its card; None counts no refusals.
        far: false accept rate of the threshold.
        kinds: kinds of damage, as `degrade` takes them.
        flip, progress: as `embed`.

    Returns:
        A `Degraded`: clean, then each kind with both crops degraded, then with one.

    Raises:
        ValueError: `far` is below what the pairs support, or as `embed` and `degrade`.
    """
    crops = read_sides(embedder, sides)
    clean = judge_faces(embedder, crops, flip=flip, progress=progress)
    threshold = clean_threshold(clean, far)
    columns = [count_pairs(clean, clean, CLEAN, threshold, rule)]
    one: list[Damage] = []
    for kind in kinds:
        bad = judge_faces(embedder, crops, kind, flip=flip, progress=progress)
        columns.append(count_pairs(bad, bad, kind, threshold, rule))
        one.append(count_pairs(clean, bad, kind, threshold, rule))
    refused = None if rule is None else refused_share(clean, rule)
    return Degraded(
        people=len(sides[0]),
        far=far,
        threshold=threshold,
        limited=rule is not None,
        refused_crops=refused,
        columns=(*columns, *one),
    )


def refused_share(faces: JudgedFaces, rule: QualityRule) -> float:
    """Share of the crops that are below a limit."""
    below = (faces.sharpness < rule.sharpness) | (faces.utilities(rule) < rule.utility)
    return float(below.mean())


def count_pairs(
    first: JudgedFaces,
    second: JudgedFaces,
    kind: str,
    threshold: float,
    rule: QualityRule | None,
) -> Damage:
    """Counts every pair of a first and a second crop.

    Args:
        first, second: the faces on the two sides; from the first, side 0 counts, from the second
            side 1.
        kind: of the damage, for the result.
        threshold: smallest cosine that is accepted.
        rule: the quality limits, or None.

    Returns:
        A `Damage`.
    """
    people = first.units.shape[1]
    counts: dict[str, int] = dict.fromkeys(_COUNTS[: 2 if rule is None else 6], 0)
    if rule is not None:
        utility = first.utilities(rule)[0], second.utilities(rule)[1]
    for start in range(0, people, _ROWS):
        rows = slice(start, min(start + _ROWS, people))
        scores = first.units[0, rows] @ second.units[1].T
        same = np.arange(people)[rows, None] == np.arange(people)
        wrong = (scores >= threshold) != same
        counts["false_rejects"] += int(np.count_nonzero(wrong & same))
        counts["false_accepts"] += int(np.count_nonzero(wrong & ~same))
        if rule is not None:
            found = verdicts(
                scores,
                threshold,
                sharpness=(first.sharpness[0, rows, None], second.sharpness[1]),
                utility=(utility[0][rows, None], utility[1]),
                limits=rule,
            )
            answered = found.same | found.different
            counts["answered_genuines"] += int(np.count_nonzero(answered & same))
            counts["answered_impostors"] += int(np.count_nonzero(answered & ~same))
            counts["answered_false_rejects"] += int(np.count_nonzero(found.different & same))
            counts["answered_false_accepts"] += int(np.count_nonzero(found.same & ~same))
    return Damage(kind, second is first, people, people * (people - 1), **counts)


_COUNTS = (
    "false_rejects",
    "false_accepts",
    "answered_genuines",
    "answered_impostors",
    "answered_false_rejects",
    "answered_false_accepts",
)


# Damage that a limit must hold against: also between the strengths of the protocol, where crops are
# still sharp enough to pass and strangers already similar.
DAMAGE = ("40px", "36px", "32px", *KINDS[:3], "blur1.5", *KINDS[3:])


def sharpness_limit(bad: Mapping[str, JudgedFaces], threshold: float, *, far: float) -> float:
    """The fewest pixels between the eyes at which damage accepts no more than clean crops.

    For each kind of damage it is the lowest limit, in steps of half a pixel, at which the accepted
    pairs of two people, both crops at or above the limit, are at most a share `far` of all pairs.

    Args:
        bad: kind of `DAMAGE` -> faces, both degraded.
        threshold: of the clean crops.
        far: false accept rate of that threshold.

    Returns:
        The highest of these limits.
    """
    highest = 0.0
    for faces in bad.values():
        _, softer, _ = _accepted(faces, threshold)
        limits = np.arange(0, 36, 0.5)
        kept = np.array([np.count_nonzero(softer >= limit) for limit in limits])
        allowed = far * _impostors(faces)
        highest = max(highest, float(limits[int(np.argmax(kept <= allowed))]))
    return highest


# Strangers that damage may accept with a raised threshold, as a multiple of the target: those of
# two crops at or above the limit of sharpness are at most the target, and half of it is added.
_WITH_RISE = 1.5


def threshold_rise(
    bad: Mapping[str, JudgedFaces], threshold: float, limit: float, *, far: float
) -> float | None:
    """The rise of the threshold for each missing pixel at which damage accepts few strangers.

    Args:
        bad: kind of `DAMAGE` -> faces, both degraded.
        threshold: of the clean crops.
        limit: of sharpness, as `sharpness_limit`; pairs of two crops at or above it keep the
            threshold.
        far: false accept rate of that threshold.

    Returns:
        The smallest rise, a multiple of 0.0001, at which no kind accepts more than 1.5 `far` of all
        pairs of two people; None if no rise holds that.
    """
    highest = 0.0
    for faces in bad.values():
        excess, softer, sharper = _accepted(faces, threshold)
        clear = softer >= limit
        allowed = int(_WITH_RISE * far * _impostors(faces)) - np.count_nonzero(clear)
        below = ~clear & (sharper >= FAINT)
        missing = np.maximum(SHARP - sharper[below], 0)
        # A pair is accepted up to this rise.
        rises = np.where(missing > 0, excess[below] / np.maximum(missing, 1e-9), np.inf)
        if len(rises) > allowed:
            highest = max(highest, float(np.sort(rises)[::-1][allowed]))
    if highest == 0:
        return 0.0
    return None if np.isinf(highest) else float(np.ceil(highest * 1e4 + 1e-6) / 1e4)


def _accepted(
    faces: JudgedFaces, threshold: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The accepted pairs of two people: excess over the threshold, lower and higher sharpness."""
    first, second = faces.units
    scores = first @ second.T
    accepted = scores >= threshold
    np.fill_diagonal(accepted, False)
    one, other = faces.sharpness[0][:, None], faces.sharpness[1]
    return (
        scores[accepted] - threshold,
        np.minimum(one, other)[accepted],
        np.maximum(one, other)[accepted],
    )


def _impostors(faces: JudgedFaces) -> int:
    people = len(faces.units[0])
    return people * (people - 1)
