"""Fine-tuning an embedder on a folder of people, tested on held-out people."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.table import Table

from keras_facemargin.callbacks import StepBar
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import Pairs, Verification, all_pairs, embed, verify
from keras_facemargin.files import write_json
from keras_facemargin.heads import (
    AdaCos,
    AdaFace,
    ArcFace,
    CircleLoss,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    L2Softmax,
    MVSoftmax,
    NormFace,
    SphereFace2,
    SubCenterArcFace,
    SVSoftmax,
    UniFace,
)
from keras_facemargin.images import Crop
from keras_facemargin.saving import save_model
from keras_facemargin.training.validation import sample_images
from keras_facemargin.zoo import CARD, Thresholds, calibrate, describe, find_card, write_card

# Margins are the papers'; scales suit hundreds of people, not the papers' tens of thousands.
HEADS: dict[str, Callable[[int], Any]] = {
    "cosface": functools.partial(CosFace, margin=0.35, scale=30.0),
    "arcface": functools.partial(ArcFace, margin=0.5, scale=30.0),
    "normface": functools.partial(NormFace, scale=30.0),
    "l2softmax": L2Softmax,
    "svsoftmax": functools.partial(SVSoftmax, variant="am"),
    "mvsoftmax": MVSoftmax,
    "combined": functools.partial(CombinedMargin, scale=30.0),
    "adacos": AdaCos,
    "curricularface": functools.partial(CurricularFace, scale=30.0),
    "adaface": functools.partial(AdaFace, scale=30.0),
    "elasticface": functools.partial(ElasticFace, scale=30.0),
    "subcenter": functools.partial(SubCenterArcFace, scale=30.0),
    "sphereface2": SphereFace2,
    "circle": CircleLoss,
    "uniface": functools.partial(UniFace, scale=30.0),
}
FAR = 1e-3  # of `FineTuned.thresholds`, if the held-out pairs support it
# The files that `FineTuned.save` writes.
SAVED_FILES = ("embedder.keras", CARD, "classifier.keras", "report.json")
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.25, 60  # of the identities


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """Result of fine-tuning.

    Attributes:
        classifier: the trained `MarginClassifier`; its `embedder` is the result. It is not
            compiled: the learning rate has decayed to zero, so further training needs a new one.
        history: lists by epoch: "loss", "accuracy" and, on held-out images of the training
            identities, "val_loss", "val_accuracy".
        training: `FaceFolder` of the training identities.
        held_out: `FaceFolder` of the identities that only test.
        pairs: all pairs of the held-out images (of a sample, if there are more than 2,000).
        before, after: `Verification` on these pairs before and after training.
        thresholds: `keras_facemargin.zoo.Thresholds` that accept one in a thousand of the held-out
            impostor pairs or, of fewer than a thousand, one pair: for the embedding of an image
            alone and for embeddings with the mirror image's appended.
    """

    classifier: MarginClassifier
    history: dict[str, list[float]]
    training: FaceFolder
    held_out: FaceFolder
    pairs: Pairs
    before: Verification
    after: Verification
    thresholds: Thresholds

    @property
    def remarks(self) -> list[str]:
        """Sentences to show with the table: a higher error, a threshold from few pairs."""
        remarks = []
        if self.after.eer > self.before.eer:
            remarks.append(
                "Fine-tuning made verification of the held-out people worse: EER "
                f"{self.before.eer:.2%} before, {self.after.eer:.2%} after. Keep the old embedder, "
                "or train on more people, for fewer epochs, or at a lower learning rate."
            )
        chosen = self.thresholds.find(mirrored=True)
        if chosen.far > FAR:
            remarks.append(
                f"The threshold is for FAR {chosen.far:.2g}, the smallest that "
                f"{chosen.impostor_pairs:,} impostor pairs of {self.held_out.num_classes} held-out "
                f"people support; FAR {FAR:g} needs {math.ceil(1 / FAR):,}. `facemargin "
                "calibrate` finds a threshold on more people."
            )
        return remarks

    def rows(self) -> list[tuple[str, str, str]]:
        """(measure, before, after) as text, for a table."""
        rows = zip(self.before.rows(), self.after.rows(), strict=True)
        return [(measure, before, after) for (measure, before), (_, after) in rows]

    def save(self, directory: str | os.PathLike[str], model: str | os.PathLike[str]) -> None:
        """Writes `embedder.keras` (to use), `classifier.keras` (to train further) and two records.

        `card.json` describes the embedder and holds its thresholds: `load_embedder` and every
        command take the folder as a model. `report.json` holds the history and the measures.

        Args:
            directory: the folder, created if missing; it replaces files of these names.
            model: name or path of the original embedder. The new card repeats the licence and the
                lineage of its card, if it has one.

        Raises:
            OSError: a file cannot be written.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        embedder, file = self.classifier.embedder, directory / "embedder.keras"
        head = type(self.classifier.head).__name__
        card, base = directory / CARD, find_card(model)
        card.unlink(missing_ok=True)  # an older card does not describe the new file
        save_model(embedder, file)
        save_model(self.classifier, directory / "classifier.keras")
        made = (
            f"fine-tuned from {model} on {len(self.training):,} images of "
            f"{self.training.num_classes:,} people, with {head}."
        )
        write_card(
            card,
            describe(
                embedder,
                file,
                f"An embedder {made}",
                base=base,
                lineage=(f"Embedder {made}",),
                thresholds=self.thresholds,
            ),
        )
        record = {
            "model": str(model),
            "head": head,
            "identities": self.training.identities,
            "held_out_identities": self.held_out.identities,
            "history": self.history,
            "thresholds": self.thresholds.model_dump(mode="json"),
            "remarks": self.remarks,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }
        write_json(directory / "report.json", record)

    def __rich__(self) -> Table:
        table = Table("Held-out people", "Before", "After")
        for row in self.rows():
            table.add_row(*row)
        return table


def finetune(
    embedder: keras.Model,
    faces: Any,
    head: str | Callable[[int], Any] = "cosface",
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 3e-4,
    seed: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Fine-tunes an embedder on new people and tests it on held-out people.

    `seed` holds out a quarter of the identities (at most 60). They only test: the figures are those
    of people who are *not* in the training. The prototypes start at each identity's mean embedding,
    so that the first steps do little damage to the embedder. Batch normalisation keeps its
    statistics, because a few hundred faces give worse ones.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); trained in place.
        faces: a `FaceFolder` or `FaceRecords` with at least eight identities.
        head: a key of `HEADS`, or a function from the number of training identities to a
            `MarginHead`.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: initial learning rate for Adam; decays to zero on a cosine schedule.
        seed: seed of the split, the shuffling and the augmentation.
        progress: whether to show progress on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: there are fewer than eight identities; all training or all held-out identities
            have one image each; the images have another size than the embedder's; an unknown head.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.before.eer, result.after.eer  # doctest: +SKIP
    """
    make_head = head if callable(head) else HEADS.get(head)
    if make_head is None:
        raise ValueError(
            f"`head` must be one of {', '.join(sorted(HEADS))} or a function of the number of "
            f"identities. Received: head={head!r}"
        )
    people, held_out = _split(faces, seed)
    training, validation = people.split_images(1, seed=seed)
    _check_size(embedder, faces)
    paths, labels = sample_images(held_out, seed)

    def test() -> tuple[Verification, npt.NDArray[Any]]:
        embeddings = embed(embedder, paths, progress=progress)
        return verify(*all_pairs(embeddings, labels)), embeddings

    before, _ = test()
    classifier = MarginClassifier(embedder, make_head(training.num_classes))
    _imprint(classifier, training, progress)
    history = _fit(
        classifier,
        training.dataset(batch_size, training=True, seed=seed),
        validation.dataset(batch_size),
        epochs=epochs,
        steps=math.ceil(len(training) / batch_size),
        learning_rate=learning_rate,
        progress=progress,
    )
    after, embeddings = test()
    far = max(FAR, 1 / after.impostors)
    about = f"all pairs of the {len(paths):,} images of {held_out.num_classes:,} people held out"
    first, second = np.triu_indices(len(paths), 1)
    return FineTuned(
        classifier=MarginClassifier(embedder, classifier.head),  # without the optimizer
        history=history,
        training=training,
        held_out=held_out,
        pairs=Pairs(tuple(paths[first]), tuple(paths[second]), before.same),
        before=before,
        after=after,
        thresholds=calibrate(embeddings, labels, [far], data=about, progress=False),
    )


def _split(faces: Any, seed: int) -> tuple[Any, Any]:
    """Training and held-out people; each side has a person with two images."""
    if faces.num_classes < 8:
        raise ValueError(
            "Fine-tuning needs at least 8 identities: it holds out a quarter of them to test. "
            f"Received: {faces.num_classes} identities in {faces.source}"
        )
    count = min(_MOST_HELD_OUT, math.ceil(_HELD_OUT_SHARE * faces.num_classes))
    parts = faces.split(count, seed=seed)
    for part, role in zip(parts, ("training", "held-out"), strict=True):
        if len(part) == part.num_classes:
            raise ValueError(
                f"The {role} identities must include one with two or more images. Received: "
                f"{part.num_classes} identities of one image each, drawn from {faces.source}. Add "
                "images, or try another seed."
            )
    training, held_out = parts
    return training, held_out


def _check_size(embedder: keras.Model, faces: Any) -> None:
    sides = zip(embedder.input_shape[1:3], faces.crop.shape, strict=True)
    if any(side not in (None, read) for side, read in sides):
        raise ValueError(
            "`faces` must have the embedder's image size. Received: images of "
            f"{faces.crop} for an input of {embedder.input_shape[1:3]}. Open the faces with "
            f"image_size={Crop.of_embedder(embedder).size}."
        )


def _imprint(classifier: MarginClassifier, training: Any, progress: bool) -> None:
    """Sets each prototype to the identity's mean embedding (Qi et al., arXiv:1712.07136)."""
    embeddings = embed(classifier.embedder, training.paths, flip=False, progress=progress)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = np.zeros((training.num_classes, embeddings.shape[1]), "float32")
    np.add.at(means, training.labels, embeddings)
    means /= np.bincount(training.labels)[:, None]
    classifier.head.set_prototypes(means)


def _fit(
    classifier: MarginClassifier,
    training: Any,
    validation: Any,
    *,
    epochs: int,
    steps: int,
    learning_rate: float,
    progress: bool,
) -> dict[str, list[float]]:
    """Trains with frozen batch normalisation; returns the history."""
    frozen = [
        layer
        for layer in classifier.embedder._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    for layer in frozen:
        layer.trainable = False
    try:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
        classifier.compile(keras.optimizers.Adam(schedule))
        with StepBar(epochs * steps, progress) as bar:
            history: dict[str, list[float]] = classifier.fit(
                training,
                validation_data=validation,
                epochs=epochs,
                shuffle=False,
                verbose=0,
                callbacks=[bar],
            ).history
            return history
    finally:
        for layer in frozen:
            layer.trainable = True
