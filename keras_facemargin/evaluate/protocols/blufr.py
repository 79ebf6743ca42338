"""BLUFR: all of LFW in ten trials, verification of every test pair and open-set identification.

The figures are the mean minus the standard deviation over the trials of TAR at FAR 0.1% (papers
also 1e-4 and 1e-5) and of the open-set detection and identification rate, rank 1 at FAR 1%: TPIR at
FPIR 1%. The toolkit takes the k-th largest impostor score as threshold, k = round(FAR x impostors);
here the rule is the conservative one of `tar_at_far` and `identify`.

Liao, Lei, Yi, Li, "A Benchmark Study of Large-Scale Unconstrained Face Recognition", IJCB 2014.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers
from keras_facemargin.data.formats.matlab import read_mat
from keras_facemargin.evaluate.at_scale.every_pair import verify_all_pairs
from keras_facemargin.evaluate.embedding import Embedder, embed
from keras_facemargin.evaluate.identification.identification import identify
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.protocols.lists import find_images, refuse_repeats
from keras_facemargin.evaluate.splits import SplitResults

FARS = (1e-3, 1e-4, 1e-5)


@dataclasses.dataclass(frozen=True, eq=False)
class Blufr:
    """BLUFR's images and trials.

    Attributes:
        images: N files.
        labels: int ``(N,)``, the person of each.
        trials: (test, gallery, probes) of each trial, int rows of the images.
        missing: the images that do not exist; trials leave them out.
    """

    images: tuple[Path, ...]
    labels: npt.NDArray[Any]
    trials: tuple[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], ...]
    missing: frozenset[Path] = frozenset()

    @property
    def there(self) -> "Blufr":
        """The images that exist and their trials; `missing` stays."""
        there = np.array([image not in self.missing for image in self.images])
        rows = np.cumsum(there) - 1
        return dataclasses.replace(
            self,
            images=tuple(image for image in self.images if image not in self.missing),
            labels=self.labels[there],
            trials=tuple(tuple(rows[part[there[part]]] for part in parts) for parts in self.trials),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class BlufrResult(Measures):
    """Both halves of BLUFR, trial by trial.

    Attributes:
        verification: `SplitResults` of a `PairRates` for each trial.
        identification: `SplitResults` of an `Identification` for each trial; rows count the images
            that exist.
        left_out: number of missing images, which the trials leave out.
    """

    verification: SplitResults
    identification: SplitResults
    left_out: int = 0

    def headline(self) -> dict[str, float]:
        """Mean minus standard deviation over the trials of every rate that they support."""
        found = {}
        for part in (self.verification, self.identification):
            for name, values in part.measures().items():
                if not isinstance(values, str) and name.startswith(("TAR", "TPIR")):
                    found[name] = part.mean(name) - part.standard_deviation(name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "mean_minus_standard_deviation": self.headline(),
            "verification": self.verification.to_dict(),
            "identification": self.identification.to_dict(),
            "images_left_out": self.left_out,
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [(f"{name}, mean - deviation", f"{x:.2%}") for name, x in self.headline().items()]
        rows += [*self.verification.rows(), *self.identification.rows()]
        if self.left_out:
            rows.append(("Missing images, left out", f"{self.left_out:,}"))
        return rows


def read_blufr(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Blufr:
    """Reads `blufr_lfw_config.mat` in the folder `lists`.

    It holds `imageList`, the 13,233 names of LFW, `labels`, and for each of ten trials the numbers
    of its images from 1: `testIndex`, `galIndex` (1,000 images) and `probIndex`. An embedder that
    is trained on other faces does not need `trainIndex`.

    Args:
        lists: the folder with the file.
        images_dir: folder of one folder per person, as LFW's: ``NAME/NAME_0001.jpg`` (or ``.png``).
        on_missing: as `read_pairs`; but with "reject" the trials leave a missing image out.

    Returns:
        A `Blufr`.

    Raises:
        ValueError: if the file has another layout (naming the variable), or names an image twice.
        FileNotFoundError: if the file or an image is missing, the latter as `read_pairs`.
    """
    file = Path(lists) / "blufr_lfw_config.mat"
    needed = ("imageList", "labels", "testIndex", "galIndex", "probIndex")
    found = read_mat(file, needed)
    absent = [name for name in needed if name not in found]
    if absent:
        raise ValueError(
            f"{file}: must hold {', '.join(needed)}. Received: no {', '.join(absent)}."
        )
    names, labels = (np.ravel(found[name], order="F") for name in needed[:2])
    if names.shape != labels.shape:
        raise ValueError(
            f"{file}: must hold one label for each image. Received: `imageList` of shape "
            f"{names.shape}, `labels` of shape {labels.shape}."
        )
    try:
        (labels,) = identifiers(labels=labels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{file}: `labels` must be whole numbers. Received: {labels[0]!r}.")
    if not all(isinstance(name, str) and name for name in names.tolist()):
        raise ValueError(f"{file}: `imageList` must hold names. Received: {names.tolist()[:3]}.")
    refuse_repeats(
        file, names.tolist(), numbers=range(1, len(names) + 1), what="an image", place="image"
    )
    parts = [_indices(file, name, found[name], len(names)) for name in needed[2:]]
    if len({len(part) for part in parts}) != 1:
        counts = ", ".join(
            f"{len(part)} of `{name}`" for name, part in zip(needed[2:], parts, strict=True)
        )
        raise ValueError(f"{file}: must hold one number of trials for each. Received: {counts}.")
    for number, (test, *rest) in enumerate(zip(*parts, strict=True), start=1):
        if not np.array_equal(np.sort(test), np.sort(np.concatenate(rest))):
            raise ValueError(
                f"{file}, trial {number}: `testIndex` must be `galIndex` and `probIndex` together. "
                f"Received: {len(test):,} and {' + '.join(f'{len(part):,}' for part in rest)}."
            )
    listed = [f"{name.rpartition('_')[0]}/{name}" for name in names]
    images, missing = find_images(listed, images_dir, file, on_missing=on_missing)
    return Blufr(
        images=tuple(images[name] for name in listed),
        labels=labels,
        trials=tuple(zip(*parts, strict=True)),
        missing=missing,
    )


def evaluate_blufr(
    embedder: Embedder,
    blufr: Blufr,
    *,
    fars: Sequence[float] = FARS,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> BlufrResult:
    """Verifies all pairs of each trial's test images and searches its probes in its gallery.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        blufr: a `Blufr`.
        fars: of the verification.

    Returns:
        A `BlufrResult`.

    Raises:
        ValueError, OSError: as `embed`, `verify_all_pairs` and `identify`.
    """
    embeddings = embed(
        embedder, blufr.there.images, flip=flip, batch_size=batch_size, progress=progress
    )
    return measure_blufr(embeddings, blufr, fars=fars, progress=progress)


def measure_blufr(
    embeddings: npt.ArrayLike, blufr: Blufr, *, fars: Sequence[float] = FARS, progress: bool = True
) -> BlufrResult:
    """`evaluate_blufr` from embeddings.

    Args:
        embeddings: ``(N, D)``, of ``blufr.there.images``.
        blufr, fars, progress: as `evaluate_blufr`.

    Returns, raises: as `evaluate_blufr`.
    """
    embeddings = embedding_rows(embeddings)
    labels, verified, identified = blufr.there.labels, {}, {}
    if len(embeddings) != len(labels):
        raise ValueError(
            "`embeddings` must hold one row per existing image. Received: "
            f"{len(embeddings):,} rows for {len(labels):,} images."
        )
    for trial, (test, gallery, probes) in enumerate(blufr.there.trials, start=1):
        verified[trial] = verify_all_pairs(
            embeddings[test], labels[test], fars=fars, progress=progress
        )
        identified[trial] = identify(
            embeddings[gallery],
            embeddings[probes],
            gallery_labels=labels[gallery],
            probe_labels=labels[probes],
            progress=progress,
        ).in_rows(gallery, probes)
    return BlufrResult(SplitResults(verified), SplitResults(identified), len(blufr.missing))


def _indices(
    file: str | os.PathLike[str], name: str, trials: Any, count: int
) -> list[npt.NDArray[Any]]:
    found, trials = [], np.atleast_1d(trials)
    if trials.dtype == object:
        trials = trials.ravel(order="F")  # a cell each
    for number, trial in enumerate(trials, start=1):
        rows = np.ravel(trial)
        whole = rows.dtype.kind in "iuf" and (rows == np.round(rows)).all()
        if not whole or not len(rows) or rows.min() < 1 or rows.max() > count:
            raise ValueError(
                f"{file}, trial {number}: `{name}` must hold numbers of images from 1 to "
                f"{count:,}. Received: {rows.ravel()[:3].tolist()}."
            )
        if len(np.unique(rows)) < len(rows):
            raise ValueError(
                f"{file}, trial {number}: `{name}` must hold each image once. Received: "
                f"{len(rows):,} numbers of {len(np.unique(rows)):,} images."
            )
        found.append(rows.astype(int) - 1)
    return found
