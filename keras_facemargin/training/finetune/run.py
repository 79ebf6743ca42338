"""Fine-tuning from its arguments to its result."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.training.finetune.fit import fit
from keras_facemargin.training.finetune.heads import head_of
from keras_facemargin.training.finetune.judge import (
    FAR,
    Comparison,
    Judge,
    Judged,
    mapped,
    mean_directions,
)
from keras_facemargin.training.finetune.known import Known, refuse_contradictions
from keras_facemargin.training.finetune.layers import fit_layers, require_trainable
from keras_facemargin.training.finetune.learned import Learned, Trained
from keras_facemargin.training.finetune.parts import Parts, divide
from keras_facemargin.training.finetune.result import FineTuned
from keras_facemargin.zoo import calibrate

# A new embedder has a new id, so galleries must be made again: that needs a gain of a point.
LEAST_GAIN = 0.01
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from the identity to the map that was learned
LAYER_SHARES = (1.0, 0.5)  # of the way from the layers' weights to the trained ones

_Rows = npt.NDArray[Any]


def finetune(
    embedder: keras.Model,
    faces: Any,
    head: str | Callable[[int], Any] = "cosface",
    *,
    test: Any = None,
    strangers: Any = None,
    general: Any = None,
    known: Known | None = None,
    layers: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Fine-tunes an embedder on your people, judges it, and keeps the better of before and after.

    A linear map W of the embeddings is learned; the layers of the embedder, batch normalisation
    included, stay as they are unless `layers` is set. So each image is embedded once, and a few
    images cannot damage what millions of faces taught. A margin head separates your people from
    each other and from other people, and a second term keeps each embedding e where it was:

        loss = head(e W) + 30 (1 - cos(e, e W)) / d

    where d is the mean of 1 - cos between two people.

    W starts at the identity, and the prototypes at the mean embeddings (Qi et al., "Low-Shot
    Learning with Imprinted Weights", arXiv:1712.07136). After training W_s = (1 - s) I + s W is
    judged for s = 1, 0.75, 0.5, 0.25, and the best is kept (weights between before and after often
    forget less: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903).

    With `layers` a copy of the embedder trains too, from its own weights and the same prototypes,
    on the same people and with the same head, but without the second term. Steps are in proportion
    to the weights and slower to the first layer (`DepthLamb`); batch normalisation keeps its
    statistics; 2 to 5 images a person get fewer steps at a lower rate. The trained weights and the
    mean of the weights before and after are judged beside the maps. It takes minutes, and gains
    more where images are of another kind than those that the embedder knows.

    The judgement has three parts: whether images of your people that did not train are recognised,
    alone and among strangers; whether strangers are distinguished; and how far the embeddings
    moved, on a general set if there is one. The best share is kept if your people gain more test
    images than the other sets together lose genuine pairs, by a percentage point or more. If not,
    the embedder is as it was.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D). It is not changed; the result
            has its layers, and W as a further one or, with `layers`, other weights.
        faces: a `FaceFolder` or `FaceRecords` of your people, with two images or more of each.
        head: a key of `HEADS`, or a function from the number of people to a `MarginHead`.
        test: other images of your people. None holds out one image in five of each, at least one.
        strangers: images of other people of the same kind. None holds out a quarter of the people,
            at most 60, of eight or more. Of 16 strangers or more half train, as people who are not
            yours, and the other half test.
        general: images of other people of another kind, such as LFW, to see what is forgotten.
        known: `read_known(folder)` of an earlier fine-tuning of this embedder. Its people keep
            their prototypes; new people are added.
        layers: whether to train the layers too, for many images or images of another kind.
        seed: seed of the split, the order of the images and their augmentation.
        progress: whether to show what trains, and progress, on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: there are too few people, or one image of a person; a set has another crop than
            the embedder, a training person or a training picture; the images of a known person
            show another one; with `layers`, the embedder has none to train; an unknown head.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.trained, result.share, result.verdict  # doctest: +SKIP
    """
    make_head = head_of(head)
    if layers:
        require_trainable(embedder)
    parts = divide(
        embedder, faces, test=test, strangers=strangers, general=general, known=known, seed=seed
    )
    if progress:
        _announce(parts, layers)
    judge = Judge(parts, seed=seed, progress=progress)
    clean, notes = judge.leave_out_copies(judge.embed(embedder))
    before = judge.measure(clean, clean)
    rows, labels = _to_train_on(judge, clean, embedder.output_shape[1])
    prototypes = _starting_prototypes(rows, labels, parts, known)
    learned = fit(embedder, make_head(len(prototypes)), prototypes, rows, labels, seed=seed)
    maps = [
        _judge(judge, before, mapped(clean, learned.map_at(share)), learned, share)
        for share in SHARES
    ]
    best = max(maps, key=lambda each: each.comparison.score)
    if layers:
        network = fit_layers(
            embedder, make_head(len(prototypes)), prototypes, judge, seed=seed, progress=progress
        )
        networks = [
            _judge(judge, before, judge.embed(network.embedder_at(share)), network, share)
            for share in LAYER_SHARES
        ]
        best = max(best, *networks, key=_by_all_gains)
    after, share = best.judged, best.share
    trained: Trained | None = best.learned.trained
    if best.comparison.score < LEAST_GAIN:
        trained, share = None, 0.0
    else:
        embedder = best.learned.embedder_at(share)
    classifier = MarginClassifier(embedder, make_head(len(parts.identities)))
    classifier.head.set_prototypes(_prototypes(best.learned, share, parts, known))
    sample = judge.sets["strangers"]
    far = max(FAR, 1 / before.strangers.impostors)
    about = (
        f"all pairs of the {len(sample.paths):,} images of {len(np.unique(sample.labels)):,} "
        "strangers to the fine-tuning"
    )
    return FineTuned(
        classifier=classifier,
        trained=trained,
        share=share,
        history=best.learned.history,
        parts=parts,
        before=before,
        after=after,
        comparison=judge.compare(before, after, intervals=True),
        strangers=sample,
        thresholds=calibrate(
            (after if share else before).embeddings["strangers"],
            sample.labels,
            [far],
            data=about,
            progress=False,
        ),
        notes=tuple(notes),
        judge=judge,
    )


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A share of what was learned, and its judgement."""

    learned: Learned
    share: float
    judged: Judged
    comparison: Comparison


def _judge(
    judge: Judge,
    before: Judged,
    embeddings: dict[str, _Rows],
    learned: Learned,
    share: float,
) -> _Candidate:
    judged = judge.measure(embeddings, dict(before.embeddings))
    return _Candidate(learned, share, judged, judge.compare(before, judged, intervals=False))


def _by_all_gains(candidate: _Candidate) -> tuple[float, float]:
    """Of those that gain enough, the one whose sets gain most together.

    By your people alone, one test image more would decide against many pairs of strangers.
    """
    comparison = candidate.comparison
    return min(comparison.score, LEAST_GAIN), comparison.gain


def _announce(parts: Parts, layers: bool) -> None:
    sentence = (
        f"A linear map of the embedding is learned on {_count(parts.training)}"
        + ("." if parts.others is None else f", against {_count(parts.others)}.")
        + (
            " Then the layers train on the same images."
            if layers
            else " The layers of the embedder stay as they are."
        )
    )
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


def _count(part: Any) -> str:
    return f"{len(part):,} images of {len(set(part.labels.tolist())):,} people"


def _to_train_on(
    judge: Judge, embeddings: Mapping[str, _Rows], width: int
) -> tuple[_Rows, npt.NDArray[Any]]:
    """Embeddings of my people and of the others, of an image and of its mirror image."""
    classes = judge.classes()
    rows = np.concatenate([embeddings[name].reshape(-1, width) for name in classes])
    labels = np.concatenate(list(classes.values()))
    return rows, np.repeat(labels, 2).astype("int32")


def _starting_prototypes(
    rows: _Rows, labels: npt.NDArray[Any], parts: Parts, known: Known | None
) -> _Rows:
    """Mean embeddings (`MarginClassifier.imprint`), but those of known people are known."""
    people, means = mean_directions(rows, labels)
    count = max(len(parts.identities), int(labels.max()) + 1)  # known people may have no image
    every = np.zeros((count, rows.shape[1]), "float32")
    every[people] = means
    if known is None:
        return every
    refuse_contradictions(known, parts.identities, every, source=parts.training.source)
    if known.prototypes.ndim == 3:  # with sub-centres
        every = np.repeat(every[:, None], known.prototypes.shape[1], axis=1)
    every[: len(known.identities)] = known.prototypes
    return every


def _prototypes(learned: Learned, share: float, parts: Parts, known: Known | None) -> _Rows:
    """Those of my people. Known people without an image follow the map; layers leave them."""
    prototypes = np.array(learned.prototypes_at(share)[: len(parts.identities)])
    if known is not None:
        present = set(parts.training.labels.tolist())
        absent = [place for place in range(len(known.identities)) if place not in present]
        prototypes[absent] = learned.carry(known.prototypes[absent], share)
    return prototypes
