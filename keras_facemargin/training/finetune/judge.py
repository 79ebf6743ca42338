"""What fine-tuning gains and loses: the same images before and after.

Three questions, each with its own images:

- Are *my people* recognised? Their test images and the strangers' images are searched in a gallery
  with one template for each of my people, the mean embedding of the training images. Rank-1 of the
  test images alone (closed set), and TPIR at a FPIR among strangers (open set).
- Are *strangers* distinguished? All pairs of the strangers' images.
- How much is *forgotten*? All pairs of a general set, if there is one; and the cosine between the
  embeddings of an image before and after: 1 means that old galleries stay valid.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.audit import shared_images
from keras_facemargin.evaluate import Verification, all_pairs, embed, identify, verify
from keras_facemargin.evaluate.at_scale import hardest_pairs
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.identification import Identification
from keras_facemargin.evaluate.uncertainty import (
    Interval,
    bootstrap_hardest,
    bootstrap_searches,
    interval,
)
from keras_facemargin.images import read_face
from keras_facemargin.training.finetune.parts import Parts
from keras_facemargin.training.validation import sample_images

FPIR, FAR = (1e-2, 1e-1), 1e-3  # the first FPIR that there are enough strangers for
ENOUGH = 20  # people, for an interval
_COPY_COSINE, _COPY_CORRELATION = 0.9, 0.98  # of embeddings and of pixels of one picture
_DRAWS = 500  # for an interval
_HARDEST = 50_000  # impostor pairs, of the most similar, that a draw counts one by one

_Rows = npt.NDArray[Any]


class Images(NamedTuple):
    """A sample of a part: paths, and the class or the number of each person."""

    paths: _Rows
    labels: _Rows


@dataclasses.dataclass(frozen=True)
class Judged:
    """The figures of one embedder.

    Attributes:
        people: `Identification` of the test images and the strangers among my people.
        strangers: `Verification` of all pairs of strangers.
        general: `Verification` of all pairs of the general set, or None.
        similarity: mean cosine of the embeddings of strangers, and of the general set, with those
            before fine-tuning.
        embeddings: those of each set, with the mirror images'.
    """

    people: Identification
    strangers: Verification
    general: Verification | None
    similarity: float
    embeddings: Mapping[str, _Rows] = dataclasses.field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "people": self.people.to_dict(),
            "strangers": self.strangers.to_dict(),
            "general": None if self.general is None else self.general.to_dict(),
            "similarity": self.similarity,
        }


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure before and after.

    Attributes:
        name: in words.
        before, after: rates, in [0, 1].
        difference: interval of after - before over people; None if there are too few people.
        better: 1 if a larger figure is better, -1 if a smaller one is.
    """

    name: str
    before: float
    after: float
    difference: Interval | None
    better: int = 1

    @property
    def gain(self) -> float:
        """By how much it is better after than before; negative if it is worse."""
        return self.better * (self.after - self.before)

    def row(self) -> tuple[str, str, str, str]:
        """Name, before, after, difference as text."""
        change = f"{100 * (self.after - self.before):+.2f}"
        if self.difference is not None:
            change += f" ({100 * self.difference.low:+.2f} to {100 * self.difference.high:+.2f})"
        return self.name, f"{self.before:.2%}", f"{self.after:.2%}", change


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The judgement of a fine-tuning, by set; the last measure of each is the strictest one.

    Attributes:
        people: rank-1, and TPIR at a FPIR if there are enough strangers.
        strangers, general: EER, and TAR at a FAR if there are enough pairs; `general` may be empty.
    """

    people: tuple[Measure, ...]
    strangers: tuple[Measure, ...]
    general: tuple[Measure, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All of them."""
        return (*self.people, *self.strangers, *self.general)

    @property
    def losses(self) -> tuple[Measure, ...]:
        """The strictest measures of the sets that lose."""
        return tuple(measure for measure in self._strictest if measure.gain < 0)

    @property
    def gains(self) -> tuple[Measure, ...]:
        """The strictest measures of the sets that gain."""
        return tuple(measure for measure in self._strictest if measure.gain > 0)

    @property
    def score(self) -> float:
        """What my people gain, less what the other sets lose, in shares.

        0.01 means that one more test image of a hundred is recognised than genuine pairs of a
        hundred are lost. A gain elsewhere counts only if no set loses and my people do not gain.
        """
        mine, *others = (measure.gain for measure in self._strictest)
        loss = sum(max(0.0, -gain) for gain in others)
        return mine - loss if mine or loss else max(others)

    @property
    def gain(self) -> float:
        """What all sets gain, less what they lose, in shares."""
        return sum(measure.gain for measure in self._strictest)

    @property
    def _strictest(self) -> list[Measure]:
        return [found[-1] for found in (self.people, self.strangers, self.general) if found]


class Judge:
    """Measures embedders on the same images.

    Args:
        parts: who trains and who tests.
        seed: draws samples of large sets.
        progress: whether to draw progress bars.
    """

    def __init__(self, parts: Parts, *, seed: int, progress: bool) -> None:
        self.parts, self.seed, self.progress = parts, seed, progress
        self.sets = {
            "training": Images(_array(parts.training.paths), parts.training.labels),
            "test": Images(_array(parts.test.paths), parts.test.labels),
            "strangers": Images(*sample_images(parts.strangers, seed)),
        }
        if parts.others is not None:
            paths, labels = sample_images(parts.others, seed)
            self.sets["others"] = Images(paths, np.unique(labels, return_inverse=True)[1])
        if parts.general is not None:
            self.sets["general"] = Images(*sample_images(parts.general, seed))

    def embed(self, embedder: Any) -> dict[str, _Rows]:
        """Embeddings of all images, with the mirror images'."""
        every = np.concatenate([images.paths for images in self.sets.values()])
        rows = embed(embedder, every, progress=self.progress)
        ends = np.cumsum([len(images.paths) for images in self.sets.values()])
        return dict(zip(self.sets, np.split(rows, ends[:-1]), strict=True))

    def leave_out_copies(self, embeddings: dict[str, _Rows]) -> tuple[dict[str, _Rows], list[str]]:
        """Test images and strangers must not be pictures that train.

        Of a part that was drawn from the training folder such images are left out.

        Args:
            embeddings: before fine-tuning.

        Returns:
            The embeddings without these images, and sentences about them.

        Raises:
            ValueError: a set of your own has a picture of the training images; or no test image is
                left.
        """
        remarks = []
        for name in list(self.sets)[1:]:
            copies = self._copies(name, embeddings)
            if not copies:
                continue
            first = f"{self.sets[name].paths[min(copies)]} and {copies[min(copies)]}"
            if name not in self.parts.drawn:
                given = "strangers" if name == "others" else name
                raise ValueError(
                    f"The images of `{given}` must not be training images. Received: {len(copies)} "
                    f"that are the same pictures as training images: {first}. Remove them from "
                    "one side."
                )
            kept = np.setdiff1d(np.arange(len(self.sets[name].paths)), list(copies))
            if not len(kept):
                raise ValueError(
                    "Test images must be other pictures than the training images. Received: "
                    f"{self.parts.training.source}, where each test image repeats a training "
                    f"image: {first}. Remove the copies; `facemargin check-data` lists them."
                )
            self.sets[name] = Images(*(each[kept] for each in self.sets[name]))
            embeddings = embeddings | {name: embeddings[name][kept]}
            whose = "the same person" if name == "test" else "another name"
            purpose = "to train against" if name == "others" else "that test"
            remarks.append(
                f"{len(copies)} of the images {purpose} are pictures of {whose} that also train; "
                f"they do not count: {first}."
            )
        return embeddings, remarks

    def measure(self, embeddings: dict[str, _Rows], before: dict[str, _Rows]) -> Judged:
        """The figures of one embedder."""
        training, test, strangers = (self.sets[k] for k in ("training", "test", "strangers"))
        people, templates = mean_directions(embeddings["training"], training.labels)
        found = identify(
            templates,
            np.concatenate([embeddings["test"], embeddings["strangers"]]),
            gallery_labels=people,
            probe_labels=np.concatenate([test.labels, self.numbers(strangers)]),
            progress=False,
        )
        drift = [
            np.sum(unit_rows(embeddings[name], name) * unit_rows(before[name], name), axis=1)
            for name in ("strangers", "general")
            if name in self.sets
        ]
        return Judged(
            people=found,
            strangers=self._verify("strangers", embeddings),
            general=self._verify("general", embeddings) if "general" in self.sets else None,
            similarity=float(np.concatenate(drift).mean()),
            embeddings=embeddings,
        )

    def compare(self, before: Judged, after: Judged, *, intervals: bool) -> Comparison:
        """All measures, with intervals, if wanted, where there are enough people."""
        return Comparison(
            people=self._people_measures(before, after, intervals),
            strangers=self._pairs_measures("strangers", before, after, intervals),
            general=self._pairs_measures("general", before, after, intervals),
        )

    def _people_measures(
        self, before: Judged, after: Judged, intervals: bool
    ) -> tuple[Measure, ...]:
        tested, strangers = self.sets["test"].labels, self.sets["strangers"]
        subjects = np.concatenate([tested, self.numbers(strangers)])
        fpir = next((f for f in FPIR if f * len(strangers.labels) >= 1), None)
        both = (before.people, after.people)
        ranks = [each.rank_rate(1) for each in both]
        rank_interval = tpir_interval = None
        if intervals and len(np.unique(tested)) >= ENOUGH:
            draws = [
                bootstrap_searches(
                    {"all": each},
                    subjects,
                    fpirs=() if fpir is None else (fpir,),
                    replicates=_DRAWS,
                    seed=self.seed,
                    progress=False,
                )
                for each in both
            ]
            rank_interval = interval(draws[1].cmc[:, 0] - draws[0].cmc[:, 0])
            if fpir is not None:
                tpir_interval = interval(draws[1].tpir[:, 0] - draws[0].tpir[:, 0])
        found = [Measure("Your people, rank-1", ranks[0], ranks[1], rank_interval)]
        if fpir is not None:
            rates = [each.tpir_at_fpir(fpir).tpir or 0.0 for each in both]
            name = f"Your people, TPIR @ FPIR {fpir:g}"
            found.append(Measure(name, rates[0], rates[1], tpir_interval))
        return tuple(found)

    def _pairs_measures(
        self, name: str, before: Judged, after: Judged, intervals: bool
    ) -> tuple[Measure, ...]:
        if name not in self.sets:
            return ()
        labels = self.sets[name].labels
        both = [getattr(each, name) for each in (before, after)]
        differences: dict[str, Interval | None] = {"eer": None, "tar": None}
        if intervals and len(np.unique(labels)) >= ENOUGH:
            draws = [
                bootstrap_hardest(
                    hardest_pairs(
                        each.embeddings[name], labels, impostors=_HARDEST, progress=False
                    ),
                    (FAR,),
                    replicates=_DRAWS,
                    seed=self.seed,
                    progress=False,
                )
                for each in (before, after)
            ]
            differences["eer"] = interval(draws[1].eer - draws[0].eer)
            differences["tar"] = interval(draws[1].tar[:, 0] - draws[0].tar[:, 0])
        words = {"strangers": "Strangers", "general": "General set"}[name]
        old, new = (each.eer for each in both)
        found = [Measure(f"{words}, EER", old, new, differences["eer"], better=-1)]
        if both[0].impostors * FAR >= 1:
            old, new = (each.curve.tar_at_far(FAR).tar or 0.0 for each in both)
            found.append(Measure(f"{words}, TAR @ FAR {FAR:g}", old, new, differences["tar"]))
        return tuple(found)

    def _verify(self, name: str, embeddings: dict[str, _Rows]) -> Verification:
        return verify(*all_pairs(embeddings[name], self.sets[name].labels))

    def numbers(self, strangers: Images) -> _Rows:
        """Numbers of other people that are not a class of mine."""
        return strangers.labels + len(self.parts.identities)

    def classes(self) -> dict[str, _Rows]:
        """The sets that train, and the class of each image: of my people, then of the others."""
        found = {"training": self.sets["training"].labels}
        if "others" in self.sets:
            found["others"] = self.numbers(self.sets["others"])
        return found

    def _copies(self, name: str, embeddings: dict[str, _Rows]) -> dict[int, Any]:
        """Images of a set that are pictures of the training images: place -> training image."""
        training = self.sets["training"].paths
        similar = shared_images(embeddings[name], embeddings["training"], _COPY_COSINE)
        pairs = zip(similar.first.tolist(), similar.second.tolist(), strict=True)
        return {
            first: training[second]
            for first, second in pairs
            if _same_picture(self.sets[name].paths[first], training[second], self.parts)
        }


def mapped(embeddings: Mapping[str, _Rows], matrix: _Rows) -> dict[str, _Rows]:
    """Embeddings and the mirror images' beside them, each times a (D, D) matrix."""
    return {
        name: (rows.reshape(-1, len(matrix)) @ matrix).reshape(rows.shape)
        for name, rows in embeddings.items()
    }


def mean_directions(embeddings: _Rows, labels: _Rows) -> tuple[_Rows, _Rows]:
    """The labels, and the unit mean of the unit embeddings of each."""
    people, numbers = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(people), embeddings.shape[1]))
    np.add.at(sums, numbers, unit_rows(embeddings, "embeddings"))
    return people, unit_rows(sums, "means")


def _array(paths: Sequence[Any]) -> _Rows:
    """The images as an object array: they may be texts or places in a file."""
    found = np.empty(len(paths), object)
    found[:] = [paths[place] for place in range(len(paths))]
    return found


def _same_picture(first: Any, second: Any, parts: Parts) -> bool:
    """Whether two similar images have nearly the same pixels."""
    values = []
    for path in (first, second):
        face = read_face(path, parts.training.crop).mean(axis=2)
        height, width = (side // 8 * 8 for side in face.shape)
        values.append(
            face[:height, :width].reshape(height // 8, 8, width // 8, 8).mean(axis=(1, 3)).ravel()
        )
    if not all(each.std() for each in values):  # without a correlation
        return bool(np.allclose(*values))
    return bool(np.corrcoef(*values)[0, 1] >= _COPY_CORRELATION)
