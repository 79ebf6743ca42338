"""Fine-tuning from its arguments to its result."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.training.finetune.fit import fit, require_trainable
from keras_facemargin.training.finetune.judge import (
    FAR,
    Comparison,
    Judge,
    Judged,
    mean_directions,
)
from keras_facemargin.training.finetune.known import Known, refuse_contradictions
from keras_facemargin.training.finetune.parts import Parts, divide
from keras_facemargin.training.finetune.recipe import choose_recipe, head_of
from keras_facemargin.training.finetune.result import FineTuned
from keras_facemargin.zoo import calibrate


def finetune(
    embedder: keras.Model,
    faces: Any,
    head: str | Callable[[int], Any] = "cosface",
    *,
    test: Any = None,
    strangers: Any = None,
    general: Any = None,
    known: Known | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Fine-tunes an embedder on your people, judges it, and keeps the better of before and after.

    Each prototype starts at its person's mean embedding (`MarginClassifier.imprint`), so that the
    first steps do little damage to the embedder. Batch normalisation keeps its statistics: those of
    a few faces are worse. The first layers learn slower than the last ones (`layer_decay`). The
    number of images chooses epochs and rates: 2 to 5 images a person get few steps at a low rate.

    The judgement has three parts: whether images of your people that did not train are recognised,
    alone and among strangers; whether strangers are distinguished; and how far the embeddings
    moved, on a general set if there is one. The embedder after training is kept if your people gain
    more test images than the other sets together lose genuine pairs, in shares. If not, the mean of
    the weights before and after is judged, which often forgets less (Wortsman et al., "Robust
    fine-tuning of zero-shot models", CVPR 2022, arXiv:2109.01903). If neither gains, the embedder
    is as it was.

    Args:
        embedder: `keras.Model`, (B, H, W, 3) RGB 0..255 -> (B, D); trained in place.
        faces: a `FaceFolder` or `FaceRecords` of your people, with two images or more of each.
        head: a key of `HEADS`, or a function from the number of people to a `MarginHead`.
        test: other images of your people. None holds out one image in five of each, at least one.
        strangers: images of other people of the same kind. None holds out a quarter of the people,
            at most 60, of eight or more.
        general: images of other people of another kind, such as LFW, to see what is forgotten.
        known: `read_known(folder)` of an earlier fine-tuning of this embedder. Its people keep
            their prototypes; new people are added.
        epochs: passes over the training images; None chooses.
        batch_size: images per step.
        learning_rate: initial learning rate of the last layer for Adam; decays to zero on a cosine
            schedule. None chooses.
        layer_decay: learning rate of the first layer divided by that of the last one, in (0, 1];
            the rates of the layers between are a geometric series. None chooses.
        seed: seed of the split, the shuffling and the augmentation.
        progress: whether to show the recipe and progress on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: there are too few people, or one image of a person; a set has another crop than
            the embedder, a training person or a training picture; the images of a known person
            show another one; the embedder has nothing to train; an unknown head.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.kept, result.comparison.people[0].after  # doctest: +SKIP
    """
    make_head = head_of(head)
    require_trainable(embedder)
    parts = divide(
        embedder, faces, test=test, strangers=strangers, general=general, known=known, seed=seed
    )
    recipe = choose_recipe(
        parts.training,
        batch_size,
        epochs=epochs,
        learning_rate=learning_rate,
        layer_decay=layer_decay,
    )
    if progress:
        _announce(str(recipe))
    judge = Judge(parts, seed=seed, progress=progress)
    clean, notes = judge.leave_out_copies(judge.embed(embedder))
    before = judge.measure(clean, clean)
    classifier = MarginClassifier(embedder, make_head(len(parts.identities)))
    _start_head(classifier, parts, known, judge, clean, batch_size)
    start = embedder.get_weights(), classifier.head.get_weights()
    history = fit(
        classifier,
        parts.training,
        parts.test,
        recipe=recipe,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )
    _restore_absent(classifier, parts, known)
    end = embedder.get_weights(), classifier.head.get_weights()
    found: dict[str, tuple[dict[str, Any], Judged, Comparison]] = {}
    for kept, weights in (("after", end), ("half way", _means(start, end))):
        embedder.set_weights(weights[0])
        classifier.head.set_weights(weights[1])
        embeddings = judge.embed(embedder)
        after = judge.measure(embeddings, clean)
        found[kept] = embeddings, after, judge.compare(before, after)
        if found[kept][2].score > 0:
            break
    else:
        kept = "before"
        embedder.set_weights(start[0])
        classifier.head.set_weights(start[1])
    embeddings, after, comparison = found["after" if kept == "before" else kept]
    sample = judge.sets["strangers"]
    far = max(FAR, 1 / before.strangers.impostors)
    about = (
        f"all pairs of the {len(sample.paths):,} images of {len(np.unique(sample.labels)):,} "
        "strangers to the fine-tuning"
    )
    return FineTuned(
        classifier=MarginClassifier(embedder, classifier.head),  # without the optimizer
        kept=kept,
        recipe=recipe,
        history=history,
        parts=parts,
        before=before,
        after=after,
        comparison=comparison,
        strangers=sample,
        thresholds=calibrate(
            (clean if kept == "before" else embeddings)["strangers"],
            sample.labels,
            [far],
            data=about,
            progress=False,
        ),
        notes=tuple(notes),
    )


def _means(start: Sequence[Any], end: Sequence[Any]) -> list[list[Any]]:
    """The weights half way; whole numbers, such as counters, from the end."""
    return [
        [(one + two) / 2 if np.issubdtype(two.dtype, np.floating) else two for one, two in pairs]
        for pairs in map(zip, start, end)
    ]


def _announce(sentence: str) -> None:
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


def _start_head(
    classifier: MarginClassifier,
    parts: Parts,
    known: Known | None,
    judge: Judge,
    embeddings: dict[str, Any],
    batch_size: int,
) -> None:
    """Known people's prototypes first, then the mean embeddings of the new people."""
    training = parts.training
    if known is not None:
        people, means = mean_directions(
            embeddings["training"][:, : classifier.head.embedding_dim],
            judge.sets["training"].labels,
        )
        every = np.zeros((len(parts.identities), means.shape[1]))
        every[people] = means
        refuse_contradictions(known, parts.identities, every, source=training.source)
        classifier.head.set_prototypes(known.prototypes, classes=range(len(known.identities)))
        training = _new_people(training, len(known.identities))
    if len(training):
        classifier.imprint(training.dataset(batch_size))


def _new_people(training: Any, known: int) -> Any:
    """The images of people that are not among the known ones."""
    return training._take(training.labels >= known)


def _restore_absent(classifier: MarginClassifier, parts: Parts, known: Known | None) -> None:
    """Known people without an image keep their prototypes, which training only pushes away."""
    if known is None:
        return
    present = set(parts.training.labels.tolist())
    absent = [place for place in range(len(known.identities)) if place not in present]
    if absent:
        classifier.head.set_prototypes(known.prototypes[absent], classes=absent)
