"""What is measured of each trained embedder: people that it compares, not those it trained on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import (
    Pairs,
    angular_fisher_score,
    embed,
    identify,
    read_pairs,
    roc,
    verify,
    verify_all_pairs,
)
from keras_facemargin.evaluate.protocols import View1, read_view_1
from keras_facemargin.evaluate.verification.pairs import EmbeddedPairs
from keras_facemargin.images import Crop, read_face
from keras_facemargin.images.degrade import degrade
from keras_facemargin.zoo import load_embedder

FARS = (1e-2, 1e-3, 1e-4, 1e-5)
FPIR = 0.01
SCORED = 2000  # training crops of the Angular Fisher Score
BLURRED = 1000  # crops of LFW, for the norms
COLUMNS = ("view1", "view2", *(f"tar_{far:.0e}" for far in FARS), "tpir", "fisher", "fisher_lfw")
COLUMNS += ("norm_blurred",)


class Tests(NamedTuple):
    """The crops and lists of LFW, and the training crops.

    `view1` is for choices. The other columns are read where nothing is chosen any more.
    """

    lfw: FaceFolder
    view_1: View1
    view_2: Pairs
    faces: FaceFolder

    @classmethod
    def read(cls, lists, lfw, faces):
        return cls(
            FaceFolder(lfw),
            read_view_1(lists, lfw, on_missing="reject"),
            read_pairs(lists / "pairs.txt", lfw, on_missing="reject"),
            FaceFolder(faces),
        )


def measure(file, tests):
    """The columns of a .keras embedder, as text; embeddings of LFW are mirrored."""
    embedder = load_embedder(file)
    return measures_of(embedder, embed(embedder, tests.lfw.paths, progress=False), tests)


def measures_of(embedder, embeddings, tests):
    """The columns of an embedder with its embeddings of LFW, as text.

    One that learned nothing gives too many pairs one score for a rate of all pairs. It has its
    accuracy on the listed pairs only.
    """
    rows = {Path(path): row for row, path in enumerate(tests.lfw.paths)}
    view_2 = verify(
        scores_of(tests.view_2, embeddings, rows), tests.view_2.same, tests.view_2.folds
    )
    accuracies = accuracy_view_1(tests.view_1, embeddings, rows), view_2.accuracy.mean
    try:
        every = verify_all_pairs(embeddings, tests.lfw.labels, fars=FARS, progress=False)
    except ValueError as error:
        print(f"{embedder.name} has no rates. {error}")
        named = zip(COLUMNS, accuracies, strict=False)
        return dict.fromkeys(COLUMNS, "") | {name: f"{value:.4f}" for name, value in named}
    chosen = np.linspace(0, len(tests.faces.paths) - 1, SCORED).astype(int)
    trained = embed(embedder, [tests.faces.paths[row] for row in chosen], progress=False)
    values = (
        *accuracies,
        *(rate.tar for rate in every.tar_at_far),
        open_set_rate(embeddings, tests.lfw.labels),
        angular_fisher_score(trained, tests.faces.labels[chosen]),
        angular_fisher_score(embeddings, tests.lfw.labels),
        norm_of_blurred(embedder, tests.lfw.paths),
    )
    return {
        name: "" if value is None else f"{value:.4f}"  # too few pairs for a low rate
        for name, value in zip(COLUMNS, values, strict=True)
    }


def scores_of(pairs, embeddings, rows):
    """The cosine of each pair, -1 where an image is missing."""
    first, second = np.array([[rows.get(Path(path), -1) for path in side] for side in pairs.images])
    seen = (first >= 0) & (second >= 0)
    return EmbeddedPairs([*rows], embeddings, seen, (first[seen], second[seen])).scores()


def accuracy_view_1(view, embeddings, rows):
    """Over all development pairs, each of the two lists at the threshold of the other.

    The official figure has the 1,000 pairs of one list, with a standard error of a point; that
    decides little between margins.
    """
    lists = [(scores_of(part, embeddings, rows), part.same) for part in (view.train, view.test)]
    right = [
        (scores >= roc(*other).most_accurate_threshold()) == same
        for (scores, same), other in zip(lists, reversed(lists), strict=True)
    ]
    return np.concatenate(right).mean()


def open_set_rate(embeddings, labels):
    """TPIR at FPIR 1 %, rank 1: the first image of each person with several is the gallery, their
    other images are mated probes, and people with one image are the non-mated probes."""
    first = np.unique(labels, return_index=True)[1]
    several = np.bincount(labels)[labels] > 1
    gallery = first[several[first]]
    probes = np.setdiff1d(np.arange(len(labels)), gallery)
    found = identify(
        embeddings[gallery],
        embeddings[probes],
        gallery_labels=labels[gallery],
        probe_labels=labels[probes],
        progress=False,
    )
    return found.tpir_at_fpir(FPIR).tpir


def norm_of_blurred(embedder, paths):
    """Median over crops: the norm of the embedding of the blurred crop, as a share of the clean."""
    crop = Crop.of_embedder(embedder)
    chosen = np.linspace(0, len(paths) - 1, BLURRED).astype(int)
    clean = [read_face(paths[row], crop) for row in chosen]
    norms = [
        np.linalg.norm(embedder.predict(np.stack(crops), verbose=0), axis=1)
        for crops in (clean, [degrade(each, "blur4") for each in clean])
    ]
    return np.median(norms[1] / norms[0])
