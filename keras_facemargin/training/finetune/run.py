"""Fine-tuning from its arguments to its result."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.training.finetune.fit import Learned, fit, with_map
from keras_facemargin.training.finetune.heads import head_of
from keras_facemargin.training.finetune.judge import FAR, Judge, Judged, mapped, mean_directions
from keras_facemargin.training.finetune.known import Known, refuse_contradictions
from keras_facemargin.training.finetune.parts import Parts, divide
from keras_facemargin.training.finetune.result import FineTuned
from keras_facemargin.zoo import calibrate

# A new embedder has a new id, so galleries must be made again: that needs a gain of a point.
LEAST_GAIN = 0.01
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from the identity to the map that was learned

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
    seed: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Fine-tunes an embedder on your people, judges it, and keeps the better of before and after.

    A linear map W of the embeddings is learned; the layers of the embedder, batch normalisation
    included, stay as they are. So each image is embedded once, and a few images cannot damage what
    millions of faces taught. A margin head separates your people from each other and from other
    people, and a second term keeps each embedding e where it was:

        loss = head(e W) + 30 (1 - cos(e, e W)) / d

    where d is the mean of 1 - cos between two people.

    W starts at the identity, and the prototypes at the mean embeddings (Qi et al., "Low-Shot
    Learning with Imprinted Weights", arXiv:1712.07136). After training W_s = (1 - s) I + s W is
    judged for s = 1, 0.75, 0.5, 0.25, and the best is kept (weights between before and after often
    forget less: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903).

    The judgement has three parts: whether images of your people that did not train are recognised,
    alone and among strangers; whether strangers are distinguished; and how far the embeddings
    moved, on a general set if there is one. The best share is kept if your people gain more test
    images than the other sets together lose genuine pairs, by a percentage point or more. If not,
    the embedder is as it was.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D). It is not changed; the result
            has its layers, and W as a further one.
        faces: a `FaceFolder` or `FaceRecords` of your people, with two images or more of each.
        head: a key of `HEADS`, or a function from the number of people to a `MarginHead`.
        test: other images of your people. None holds out one image in five of each, at least one.
        strangers: images of other people of the same kind. None holds out a quarter of the people,
            at most 60, of eight or more. Of 16 strangers or more half train, as people who are not
            yours, and the other half test.
        general: images of other people of another kind, such as LFW, to see what is forgotten.
        known: `read_known(folder)` of an earlier fine-tuning of this embedder. Its people keep
            their prototypes; new people are added.
        seed: seed of the split and the order of the images.
        progress: whether to show what trains, and progress, on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: there are too few people, or one image of a person; a set has another crop than
            the embedder, a training person or a training picture; the images of a known person
            show another one; an unknown head.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.share, result.comparison.people[0].after  # doctest: +SKIP
    """
    make_head = head_of(head)
    parts = divide(
        embedder, faces, test=test, strangers=strangers, general=general, known=known, seed=seed
    )
    if progress:
        _announce(parts)
    judge = Judge(parts, seed=seed, progress=progress)
    clean, notes = judge.leave_out_copies(judge.embed(embedder))
    before = judge.measure(clean, clean)
    rows, labels = _to_train_on(judge, clean, embedder.output_shape[1])
    learned = fit(
        make_head(int(labels.max()) + 1),
        _starting_prototypes(rows, labels, parts, known),
        rows,
        labels,
        seed=seed,
    )
    found: dict[float, tuple[float, Judged]] = {}
    for share in SHARES:
        judged = judge.measure(mapped(clean, learned.map_at(share)), clean)
        found[share] = judge.compare(before, judged, intervals=False).score, judged
    share, (score, after) = max(found.items(), key=lambda each: each[1][0])
    if score < LEAST_GAIN:
        share = 0.0
    if share:
        embedder = with_map(embedder, learned.map_at(share))
    classifier = MarginClassifier(embedder, make_head(len(parts.identities)))
    classifier.head.set_prototypes(_prototypes(learned, share, parts, known))
    sample = judge.sets["strangers"]
    far = max(FAR, 1 / before.strangers.impostors)
    about = (
        f"all pairs of the {len(sample.paths):,} images of {len(np.unique(sample.labels)):,} "
        "strangers to the fine-tuning"
    )
    return FineTuned(
        classifier=classifier,
        share=share,
        history=learned.history,
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
    )


def _announce(parts: Parts) -> None:
    sentence = (
        f"A linear map of the embedding is learned on {_count(parts.training)}"
        + ("." if parts.others is None else f", against {_count(parts.others)}.")
        + " The layers of the embedder stay as they are."
    )
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


def _count(part: Any) -> str:
    return f"{len(part):,} images of {len(set(part.labels.tolist())):,} people"


def _to_train_on(
    judge: Judge, embeddings: Mapping[str, _Rows], width: int
) -> tuple[_Rows, npt.NDArray[Any]]:
    """Embeddings of my people and of the others, of an image and of its mirror image."""
    names = [name for name in ("training", "others") if name in judge.sets]
    rows = np.concatenate([embeddings[name].reshape(-1, width) for name in names])
    labels = np.concatenate(
        [
            judge.sets["training"].labels,
            *(judge.numbers(judge.sets[name]) for name in names[1:]),
        ]
    )
    return rows, np.repeat(labels, 2).astype("int32")


def _starting_prototypes(
    rows: _Rows, labels: npt.NDArray[Any], parts: Parts, known: Known | None
) -> _Rows:
    """Mean embeddings (`MarginClassifier.imprint`), but those of known people are known."""
    people, means = mean_directions(rows, labels)
    every = np.zeros((int(labels.max()) + 1, rows.shape[1]), "float32")
    every[people] = means
    if known is None:
        return every
    refuse_contradictions(known, parts.identities, every, source=parts.training.source)
    if known.prototypes.ndim == 3:  # with sub-centres
        every = np.repeat(every[:, None], known.prototypes.shape[1], axis=1)
    every[: len(known.identities)] = known.prototypes
    return every


def _prototypes(learned: Learned, share: float, parts: Parts, known: Known | None) -> _Rows:
    """Those of my people. Known people without an image follow the map only."""
    prototypes = np.array(learned.prototypes_at(share)[: len(parts.identities)])
    if known is not None:
        present = set(parts.training.labels.tolist())
        absent = [place for place in range(len(known.identities)) if place not in present]
        prototypes[absent] = known.prototypes[absent] @ learned.map_at(share)
    return prototypes
