"""The result of a fine-tuning: the better embedder, the figures, and the folder with both."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.evaluate import Pairs
from keras_facemargin.files import draft_folder, write_json
from keras_facemargin.saving import save_model
from keras_facemargin.training.finetune.judge import FAR, Comparison, Images, Judge, Judged
from keras_facemargin.training.finetune.known import CLASSIFIER, REPORT
from keras_facemargin.training.finetune.learned import Trained
from keras_facemargin.training.finetune.parts import Parts
from keras_facemargin.zoo import (
    CARD,
    Card,
    Thresholds,
    describe,
    find_card,
    keras_card,
    write_card,
)

# The files that `FineTuned.save` writes.
SAVED_FILES = ("embedder.keras", CARD, CLASSIFIER, REPORT)


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """Result of fine-tuning.

    Attributes:
        classifier: the `MarginClassifier` of the better embedder; its `embedder` is the result. It
            is not compiled: the learning rate has decayed to zero, so further training needs a new
            one.
        trained: what was kept: "embedding", a linear map of it; "layers", their weights; None if
            too little was gained: then the embedder is as it was, and the prototypes are the mean
            embeddings of your people.
        share: how far the map, or the weights, went on the way from the start (0) to what was
            learned (1). 0 if too little was gained.
        history: lists by epoch of the better training: "loss", "accuracy" on the images that
            trained.
        parts: who trained and who tested.
        before, after: `Judged`, the figures; `after` with the best share of the training, also if
            it gained too little.
        comparison: `Comparison`, the measures side by side with intervals.
        strangers: the strangers' images that were tested, and the number of each person.
        thresholds: `keras_facemargin.zoo.Thresholds` that accept one in a thousand of the
            strangers' impostor pairs or, of fewer than a thousand, one pair: for the embedding of
            an image alone and for embeddings with the mirror image's appended.
        notes: sentences about the images, such as copies that were left out.
        judge: measures other embedders on the same images.
    """

    classifier: MarginClassifier
    trained: Trained | None
    share: float
    history: dict[str, list[float]]
    parts: Parts
    before: Judged
    after: Judged
    comparison: Comparison
    strangers: Images
    thresholds: Thresholds
    notes: tuple[str, ...]
    judge: Judge = dataclasses.field(repr=False)

    @property
    def result(self) -> Judged:
        """The figures of the embedder that was kept."""
        return self.after if self.share else self.before

    @property
    def pairs(self) -> Pairs:
        """All pairs of the strangers' images, in the order of the scores in `before.strangers`."""
        paths, labels = self.strangers
        first, second = np.triu_indices(len(paths), 1)
        return Pairs(tuple(paths[first]), tuple(paths[second]), labels[first] == labels[second])

    def compare(self, embedder: Any) -> Comparison:
        """The measures before fine-tuning beside those of an embedder made of the result.

        Args:
            embedder: as `evaluate.embed` takes it, such as an exported file of the result that
                `open_embedder` opened. A file normalises each embedding before that of the mirror
                image is appended, so single answers may differ from the embedder's.
        """
        judged = self.judge.measure(self.judge.embed(embedder), dict(self.before.embeddings))
        return self.judge.compare(self.before, judged, intervals=False)

    @property
    def verdict(self) -> str:
        """A sentence: which embedder was kept, and why."""
        mine = self.comparison.people[-1]
        name = mine.name.partition(", ")[2]
        figures = f"{name} {mine.before:.2%} before, {mine.after:.2%} after"
        losses, gains = (
            "; ".join(
                f"{each.name} {each.before:.2%} before, {each.after:.2%} after"
                for each in found
                if each is not mine
            )
            for found in (self.comparison.losses, self.comparison.gains)
        )
        if not self.share:
            return (
                f"Too little was gained: your people are recognised with {figures}"
                + (f"; {losses}" if losses else "")
                + ". The embedder is kept as it was, with the prototypes of your people."
            )
        return (
            f"Your people are recognised with {figures}."
            + (f" Gained elsewhere: {gains}." if gains else "")
            + (f" Lost elsewhere: {losses}." if losses else "")
            + (" The trained layers are kept." if self.trained == "layers" else "")
            + (f" {self.share:.0%} of the learned change is kept." if self.share < 1 else "")
        )

    @property
    def remarks(self) -> list[str]:
        """Sentences to show with the table: the verdict, notes, a threshold from few pairs."""
        remarks = [self.verdict, *self.notes]
        chosen = self.thresholds.find(mirrored=True)
        if chosen.far > FAR:
            remarks.append(
                f"The threshold is for FAR {chosen.far:.2g}, the smallest that "
                f"{chosen.impostor_pairs:,} impostor pairs of "
                f"{len(np.unique(self.strangers.labels))} strangers support; FAR {FAR:g} needs "
                f"{math.ceil(1 / FAR):,}. `facemargin calibrate` finds a threshold on more people."
            )
        return remarks

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(measure, before, after, difference in percentage points) as text, for a table."""
        rows = [measure.row() for measure in self.comparison.measures]
        rows.append(
            ("Cosine to the embeddings before", "1.0000", f"{self.after.similarity:.4f}", "")
        )
        return rows

    def save(self, directory: str | os.PathLike[str], model: str | os.PathLike[str]) -> None:
        """Writes the folder in one step.

        The files are `embedder.keras` (to use), `classifier.keras` (to train further) and two
        records. `card.json` describes the embedder and holds its thresholds: `load_embedder` and
        every command take the folder as a model. `report.json` holds the people, the history and
        the measures; with it `finetune` continues from the folder.

        Args:
            directory: the folder; it must not exist, or be empty.
            model: name or path of the original embedder. The new card repeats the licence and the
                lineage of its card, if it has one.

        Raises:
            FileExistsError: the folder is in use.
            OSError: a file cannot be written.
        """
        base = find_card(model)
        training = self.parts.training
        trained = sorted(set(training.labels.tolist()))
        record = {
            "model": str(model),
            "trained": self.trained,
            "share": self.share,
            "verdict": self.verdict,
            "head": type(self.classifier.head).__name__,
            "identities": self.parts.identities,
            "trained_identities": [self.parts.identities[label] for label in trained],
            "strangers": self.parts.strangers.identities,
            "history": self.history,
            "thresholds": self.thresholds.model_dump(mode="json"),
            "remarks": self.remarks,
            "measures": [_plain(measure) for measure in self.comparison.measures],
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }
        with draft_folder(directory) as draft:
            file = draft / "embedder.keras"
            save_model(self.classifier.embedder, file)
            save_model(self.classifier, draft / CLASSIFIER)
            card = self._card(file, str(model), base)
            write_card(draft / CARD, card.changed(name=Path(directory).resolve().name))
            write_json(draft / REPORT, record)

    def _card(self, file: Path, model: str, base: Card | None) -> Card:
        embedder, training = self.classifier.embedder, self.parts.training
        people = len(set(training.labels.tolist()))
        others = self.parts.others
        images = f"{len(training):,} images of {people:,} people"
        if others is not None:
            images += f" against {len(others):,} images of {others.num_classes:,} other people"
        head = type(self.classifier.head).__name__
        if self.trained:
            what = "its layers" if self.trained == "layers" else "a linear map of the embedding"
            made = f"fine-tuned from {model} on {images}, with {head}: {what}."
            return describe(
                embedder,
                file,
                f"An embedder {made}",
                base=base,
                lineage=(f"Embedder {made}",),
                thresholds=self.thresholds,
            )
        line = f"Embedder of {model}, unchanged: fine-tuning on {images} gained too little."
        if base is None:
            return describe(embedder, file, line, lineage=(line,), thresholds=self.thresholds)
        return keras_card(base, file).changed(
            description=line,
            lineage=(*base.lineage, line),
            thresholds=self.thresholds,
            golden=None,
        )

    def __rich__(self) -> Table:
        table = Table("", "Before", "After", "Difference, in points")
        for row in self.rows():
            table.add_row(*row)
        return table


def _plain(measure: Any) -> dict[str, Any]:
    return dataclasses.asdict(measure) | {"gain": measure.gain}
