"""The page of a bench: the page of all pairs with facts, official pairs and tables side by side."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.bench.models import Facts, facts_table
from keras_facemargin.evaluate.at_scale import PairRates
from keras_facemargin.evaluate.discard import ErrorVersusDiscard, raw_utilities
from keras_facemargin.evaluate.plots import plot_error_versus_discard
from keras_facemargin.evaluate.uncertainty import Bootstrap, GroupRate
from keras_facemargin.evaluate.verification import FAR_TARGETS, Pairs, Verification, verify
from keras_facemargin.report import Measured, Report
from keras_facemargin.report.all_pairs import AllPairs
from keras_facemargin.report.draws import Resampling, draw_pairs, failures_to_enrol
from keras_facemargin.report.measures import ends_record, power, verification_measures
from keras_facemargin.report.sections.discards import decided_far, discard_curves
from keras_facemargin.report.sections.thresholds import FARS

Found = Measured[PairRates, Bootstrap]


class BenchPage(AllPairs):
    """All pairs of the faces, and the official pairs where there are any.

    Args:
        resampling: a `Resampling`.
        faces: a `BenchFaces`.
        facts: embedder's name -> its `Facts`.
        machine: the machine on which the latencies were measured, in words.
        flip: whether the embeddings hold those of the mirror images.

    Attributes:
        official: embedder's name -> the `Verification` of the official pairs.
        discards: embedder's name -> the `ErrorVersusDiscard` of the official pairs by utility, if
            the embeddings hold those of the mirror images.
    """

    fars = FAR_TARGETS

    def __init__(
        self,
        resampling: Resampling,
        faces: BenchFaces,
        facts: Mapping[str, Facts],
        machine: str,
        *,
        flip: bool,
    ):
        super().__init__(resampling, faces.people, faces.paths, faces.groups)
        self.faces, self.facts_of = faces, facts
        self.official: dict[str, Verification] = {}
        self.discards: dict[str, ErrorVersusDiscard] = {}
        self.machine, self.flip = machine, flip

    def measure(self, name: str, given: npt.NDArray[Any]) -> Found:
        found = super().measure(name, given)
        pairs = self.faces.pairs
        if pairs is None:
            return found
        result = verify(self.faces.score(given), pairs.same, pairs.folds)
        result = dataclasses.replace(result, failed_to_enrol=failures_to_enrol(pairs))
        self.official[name] = result
        if self.flip:
            self.discards |= self._discards(name, given, result, pairs)
        accuracy = next(verification_measures(result, draw_pairs(result, pairs, self.resampling)))
        return dataclasses.replace(found, measures=(accuracy, *found.measures))

    def _discards(
        self, name: str, given: npt.NDArray[Any], result: Verification, pairs: Pairs
    ) -> dict[str, ErrorVersusDiscard]:
        """The curve of an embedder by its name; none with too few pairs."""
        card = self.facts_of[name].card
        quality = None if card is None else card.quality
        utilities = raw_utilities(given, None if quality is None else quality.norm_weight)
        sides = {name: self.faces.sides(utilities)}
        return discard_curves(sides, result, pairs, self.resampling)

    def opening(self, first: Found) -> Iterator[str]:
        yield from super().opening(first)
        if count := self.faces.left_out:
            yield (
                f"{count:,} image{'s are' if count > 1 else ' is'} left out: not every folder of "
                "crops has them all."
            )
        pairs = self.faces.pairs
        if pairs is None or pairs.folds is None:
            return
        yield (
            f"Official pairs: {len(pairs):,}, in {len({*pairs.folds.tolist()})} folds. The "
            "accuracy is the mean over the folds ± its standard error; each fold has the best "
            f"threshold of the others. Failures to enrol: {failures_to_enrol(pairs):,} of these "
            "pairs have a missing image and count as rejected, for every embedder."
        )

    def add_counts(self, page: Report, first: Found) -> None:
        """The facts of the embedders."""
        page.heading("Models")
        facts = facts_table(self.facts_of)
        page.table(
            ("Model", *(name for name, *_ in facts)),
            zip(self.facts_of, *(texts for _, *texts in facts), strict=True),
            "Numbers: length of an embedding. Commercial use: the verdict of the statements in the "
            "model's card, not legal advice. Latency: median time of one call with one image, in "
            f"brackets the middle 80 % of the calls, on {self.machine}; without reading the image "
            "and without detection. A load near or above the number of cores makes a latency "
            "longer than that of a free machine.",
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        """The thresholds and the errors by group side by side, then the curves."""
        page.heading("Thresholds")
        page.table(
            ("FAR target", *models),
            thresholds_table(models),
            "Cosine from which a pair is accepted, from all impostor pairs of these faces. A "
            "threshold holds for one embedder and for the kind of faces that it comes from.",
        )
        for number, column in enumerate(self.groups):
            page.heading(f"Errors by {column}")
            rates = {name: each.groups[number] for name, each in models.items()}
            for kind, words in (("fmr", "FMR"), ("fnmr", "FNMR")):
                page.table(
                    (f"{words} by {column}", *models),
                    [
                        [group[0].name, *(_rate(getattr(one, kind)) for one in group)]
                        for group in zip(*(each.rates for each in rates.values()), strict=True)
                    ],
                    f"{words}: {_MEANINGS[kind]}, with its interval, at each embedder's own "
                    f"threshold for FAR {next(iter(rates.values())).far:g} over all pairs.",
                )
        if self.discards:
            page.heading("Error versus discard")
            page.figure(
                plot_error_versus_discard(self.discards),
                "FNMR on the official pairs, at each embedder's threshold of FAR "
                f"{decided_far(next(iter(self.official.values()))):g} on them, after the pairs of "
                "the lowest utility are discarded, with intervals over people. Utility: norm of "
                "the embedding and its agreement with the mirror image. Dashed: without discards.",
            )
        super().add_curves(page, models)

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        card = self.facts_of[name].card
        if card is not None:
            page.paragraph(f"Card: {card.name}. {card.description}")
            if not card.commercial_use:
                page.paragraph(f"Against commercial use: {' '.join(card.commercial_obstacles)}")
        super().add_details(page, name, measured)

    def facts(self) -> dict[str, Any]:
        pairs = self.faces.pairs
        return {
            "machine": self.machine,
            "images": len(self.faces.paths),
            "left_out": self.faces.left_out,
            "failed_to_enrol": 0 if pairs is None else failures_to_enrol(pairs),
        }

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        official = self.official.get(name)
        if official is None:
            return {**self.facts_of[name].to_dict(), **super().record(name, measured)}
        accuracy, *others = measured.measures
        discards = self.discards.get(name)
        return {
            **self.facts_of[name].to_dict(),
            **super().record(name, dataclasses.replace(measured, measures=tuple(others))),
            "official_pairs": {
                **official.to_dict(),
                "intervals": {"accuracy": ends_record(accuracy.interval)},
                "error_versus_discard": discards and {"utility": discards.to_dict()},
            },
        }


def thresholds_table(models: Mapping[str, Found]) -> list[list[str]]:
    """A row for each FAR from 1e-2: the threshold of each embedder, or the reason for none."""
    return [
        [
            power(entries[0].target),
            *(f"{e.threshold:.4f}" if e.supported else str(e) for e in entries),
        ]
        for entries in zip(*(each.result.tar_at_far for each in models.values()), strict=True)
        if entries[0].target in FARS
    ]


_MEANINGS = {"fmr": "impostor pairs accepted", "fnmr": "genuine pairs rejected"}


def _rate(rate: GroupRate) -> str:
    """The rate and its interval, without the counts that the details have."""
    return str(rate).rpartition(", ")[0] or str(rate)
