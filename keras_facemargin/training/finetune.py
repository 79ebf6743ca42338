"""Fine-tuning an embedder on a folder of people, tested on held-out people."""

import dataclasses
import functools
import math
from pathlib import Path

import keras
import numpy as np
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
HEADS = {
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
FAR = 1e-3  # what `FineTuned.thresholds` allow, if the held-out pairs can show it
# The files that `FineTuned.save` writes.
SAVED_FILES = ("embedder.keras", CARD, "classifier.keras", "report.json")
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.25, 60  # of the identities: enough pairs to judge by


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """Result of fine-tuning.

    Attributes:
        classifier: the trained `MarginClassifier`; its `embedder` is the result. It is not
            compiled: the learning rate of this training has run out, so the next one needs its own.
        history: lists by epoch: "loss", "accuracy" and, on images held out of the training
            identities, "val_loss", "val_accuracy".
        training: `FaceFolder` of the identities trained on.
        held_out: `FaceFolder` of the identities that only judge.
        pairs: all pairs of the held-out images (of a sample, if there are more than 2,000).
        before, after: `Verification` on these pairs with the embedder as it came and as it went.
        thresholds: `keras_facemargin.zoo.Thresholds` that accept one in a thousand of the held-out
            impostor pairs or, of fewer than a thousand, one pair: for the embedding of an image
            alone and for those with the mirror image's appended.
    """

    classifier: MarginClassifier
    history: dict
    training: FaceFolder
    held_out: FaceFolder
    pairs: Pairs
    before: Verification
    after: Verification
    thresholds: Thresholds

    @property
    def remarks(self) -> list[str]:
        """Sentences beside the table: a higher error, a threshold from few pairs."""
        remarks = []
        if self.after.eer > self.before.eer:
            remarks.append(
                "The fine-tuned embedder tells the held-out people apart worse than the one it "
                f"came from: EER {self.before.eer:.2%} before, {self.after.eer:.2%} after. Keep "
                "the old one, or train on more people, for fewer epochs, or at a lower learning "
                "rate."
            )
        chosen = self.thresholds.find(mirrored=True)
        if chosen.far > FAR:
            remarks.append(
                f"The threshold is for FAR {chosen.far:.2g}, the smallest that the "
                f"{chosen.impostor_pairs:,} impostor pairs of {self.held_out.num_classes} held-out "
                f"people can show; FAR {FAR:g} needs {math.ceil(1 / FAR):,}. `facemargin "
                "calibrate` finds one on more people."
            )
        return remarks

    def rows(self) -> list[tuple[str, str, str]]:
        """(measure, before, after) as text, for a table."""
        rows = zip(self.before.rows(), self.after.rows(), strict=True)
        return [(measure, before, after) for (measure, before), (_, after) in rows]

    def save(self, directory, model):
        """Writes `embedder.keras` (to use), `classifier.keras` (to train on) and their records.

        `card.json` describes the embedder and holds its thresholds, so that the folder is a model
        that `load_embedder` and every command takes; `report.json` says how it went.

        Args:
            directory: folder, made if missing; files of these names in it are replaced.
            model: name or path that the embedder came from: its licence and lineage, if it has a
                card, stand on the new one.

        Raises:
            OSError: a file cannot be written.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        embedder, file = self.classifier.embedder, directory / "embedder.keras"
        head = type(self.classifier.head).__name__
        card, base = directory / CARD, find_card(model)
        card.unlink(missing_ok=True)  # an older one does not describe what comes now
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

    def __rich__(self):
        table = Table("Held-out people", "Before", "After")
        for row in self.rows():
            table.add_row(*row)
        return table


def finetune(
    embedder,
    faces,
    head="cosface",
    epochs=10,
    batch_size=32,
    learning_rate=3e-4,
    seed=0,
    progress=True,
) -> FineTuned:
    """Fine-tunes an embedder on new people and measures it on people held out.

    A quarter of the identities (at most 60) is held out by `seed` and only judges: what counts is
    whether *strangers* are told apart better. The prototypes start at each identity's mean
    embedding, so that the first steps do not tear the embedder apart, and batch normalisation keeps
    its statistics, which a few hundred faces would only blur.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); trained in place.
        faces: a `FaceFolder` or `FaceRecords` with at least eight identities.
        head: one of `HEADS`, or a function of the number of training identities to a `MarginHead`.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: Adam's first one; it falls to zero along a cosine.
        seed: of the split, the shuffling and the augmentation.
        progress: whether to draw progress on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: fewer than eight identities; nobody with two images among those trained on or
            those held out; images of another size than the embedder's; an unknown head.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.before.eer, result.after.eer  # doctest: +SKIP
    """
    make_head = HEADS.get(head, head)
    if not callable(make_head):
        raise ValueError(
            f"`head` must be one of {', '.join(sorted(HEADS))} or a function of the number of "
            f"identities. Received: {head!r}"
        )
    people, held_out = _split(faces, seed)
    training, validation = people.split_images(1, seed=seed)
    _check_size(embedder, faces)
    paths, labels = sample_images(held_out, seed)

    def judge():
        embeddings = embed(embedder, paths, progress=progress)
        return verify(*all_pairs(embeddings, labels)), embeddings

    before, _ = judge()
    classifier = MarginClassifier(embedder, make_head(training.num_classes))
    _imprint(classifier, training, progress)
    history = _fit(
        classifier, training, validation, epochs, batch_size, learning_rate, seed, progress
    )
    after, embeddings = judge()
    far = max(FAR, 1 / after.impostors)
    about = f"all pairs of the {len(paths):,} images of {held_out.num_classes:,} people held out"
    first, second = np.triu_indices(len(paths), 1)
    return FineTuned(
        classifier=MarginClassifier(embedder, classifier.head),  # without the optimizer, used up
        history=history,
        training=training,
        held_out=held_out,
        pairs=Pairs(tuple(paths[first]), tuple(paths[second]), before.same),
        before=before,
        after=after,
        thresholds=calibrate(embeddings, labels, [far], data=about, progress=False),
    )


def _split(faces, seed):
    """(people to train on, people to judge by), both with pairs of images of one person."""
    if faces.num_classes < 8:
        raise ValueError(
            "Fine-tuning holds a quarter of the identities out to judge by, so there must be at "
            f"least 8. Received: {faces.num_classes} identities in {faces.source}"
        )
    count = min(_MOST_HELD_OUT, math.ceil(_HELD_OUT_SHARE * faces.num_classes))
    parts = faces.split(count, seed=seed)
    for part, role in zip(parts, ("trained on", "held out"), strict=True):
        if len(part) == part.num_classes:
            raise ValueError(
                f"Among the identities {role} somebody must have two images or more, to compare "
                f"one with the other. Received: {part.num_classes} identities of one image each, "
                f"drawn from {faces.source}. Add images, or try another seed."
            )
    return parts


def _check_size(embedder, faces):
    sides = zip(embedder.input_shape[1:3], faces.crop.shape, strict=True)
    if any(side not in (None, read) for side, read in sides):
        raise ValueError(
            "`faces` must be read at the size that the embedder takes. Received: images of "
            f"{faces.crop} for an input of {embedder.input_shape[1:3]}. Open the faces with "
            f"image_size={Crop.of_embedder(embedder).size}."
        )


def _imprint(classifier, training, progress):
    """Puts each prototype where the identity's mean embedding is (Qi et al., arXiv:1712.07136)."""
    embeddings = embed(classifier.embedder, training.paths, flip=False, progress=progress)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = np.zeros((training.num_classes, embeddings.shape[1]), "float32")
    np.add.at(means, training.labels, embeddings)
    means /= np.bincount(training.labels)[:, None]
    classifier.head.set_prototypes(means)


def _fit(classifier, training, validation, epochs, batch_size, learning_rate, seed, progress):
    """Trains with the batch normalisation as it is; returns the history."""
    frozen = [
        layer
        for layer in classifier.embedder._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    steps = epochs * math.ceil(len(training) / batch_size)
    for layer in frozen:
        layer.trainable = False
    try:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        classifier.compile(keras.optimizers.Adam(schedule))
        with StepBar(steps, progress) as bar:
            return classifier.fit(
                training.dataset(batch_size, training=True, seed=seed),
                validation_data=validation.dataset(batch_size),
                epochs=epochs,
                shuffle=False,
                verbose=0,
                callbacks=[bar],
            ).history
    finally:
        for layer in frozen:
            layer.trainable = True
