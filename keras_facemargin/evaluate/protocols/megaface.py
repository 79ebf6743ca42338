"""MegaFace: FaceScrub's images of 80 people among up to a million images of Flickr.

Rank-1 and TAR at FAR 1e-6: `search_among_distractors`. *Refined* leaves out the wrong images of
InsightFace's two lists; figures with and without it are not comparable.

Kemelmacher-Shlizerman, Seitz, Miller, Brossard, "The MegaFace Benchmark: 1 Million Faces for
Recognition at Scale", CVPR 2016; Deng, Guo, Xue, Zafeiriou, "ArcFace", 2019, for the refined lists.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.embedding import Embedder, embed
from keras_facemargin.evaluate.identification.distractors import (
    AmongDistractors,
    search_among_distractors,
)
from keras_facemargin.evaluate.protocols.lists import find_images, note_repeats, read_lines
from keras_facemargin.files import read_text

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
FARS = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclasses.dataclass(frozen=True, eq=False)
class MegaFace:
    """MegaFace's images.

    Attributes:
        probes: P files of FaceScrub.
        subjects: ``(P,)`` text, their people.
        distractors: M files.
        noisy: bool ``(P,)``, True for wrong probes of the refined list: the mean of the person's
            other embeddings replaces theirs.
        missing: the images that do not exist.
    """

    probes: tuple[Path, ...]
    subjects: npt.NDArray[Any]
    distractors: tuple[Path, ...]
    noisy: npt.NDArray[Any]
    missing: frozenset[Path] = frozenset()

    @property
    def there(self) -> tuple[list[Path], list[Path]]:
        """The probes and the distractors that are not missing."""
        probes, distractors = (
            [path for path in side if path not in self.missing]
            for side in (self.probes, self.distractors)
        )
        return probes, distractors


def read_megaface(
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    size: int = 1_000_000,
    refined: bool = False,
    on_missing: str = "refuse",
) -> MegaFace:
    """Reads MegaFace's lists.

    `facescrub_features_list.json` (or `facescrub_uncropped_features_list.json`) holds ``{"path":
    [...], "id": [...]}``, `megaface_features_list.json_1000000_1` ``{"path": [...]}``. With
    `refined`, `facescrub_noises.txt` names wrong images, ``NAME_12345.png``, and
    `megaface_noises.txt` distractors that show people of FaceScrub, ``number<TAB>path``; lines that
    begin with # are comments.

    Implementations differ: InsightFace adds noise of ±0.001 to the mean that replaces a wrong
    image, and keeps a wrong distractor as a vector far from all others; here it is left out, so
    there are fewer impostor pairs (FaceX-Zoo counts 686 of the million, and 25 probes).

    Args:
        lists: the folder with the lists.
        images_dir: folder with `facescrub_images` and `megaface_images`, where the paths start.
        size: number of distractors, one of 10 to 1,000,000.
        refined: whether to leave wrong images out.
        on_missing: as `read_pairs`; with "reject" the protocol leaves missing images out.

    Returns:
        A `MegaFace`.

    Raises:
        ValueError: if `size` is another number, or a list breaks its format.
        FileNotFoundError: if a list or an image is missing, the latter as `read_pairs`.
    """
    if size not in SIZES:
        raise ValueError(f"`size` must be one of {SIZES}. Received: size={size}.")
    lists, images_dir = Path(lists), Path(images_dir)
    file = lists / "facescrub_features_list.json"
    if not file.is_file() and (lists / "facescrub_uncropped_features_list.json").is_file():
        file = lists / "facescrub_uncropped_features_list.json"
    names, subjects = _read_json(file, "path", "id")
    distractor_file = lists / f"megaface_features_list.json_{size}_1"
    (distractors,) = _read_json(distractor_file, "path")
    noisy = np.zeros(len(names), bool)
    if refined:
        wrong = _read_noises(lists / "facescrub_noises.txt", parts=1)
        noisy = np.array([_key(name, 1) in wrong for name in names])
        wrong = _read_noises(lists / "megaface_noises.txt", parts=3)
        distractors = [name for name in distractors if _key(name, 3) not in wrong]
    note_repeats(file, names, "images")
    note_repeats(distractor_file, distractors, "images")
    probes, missing = find_images(
        names, images_dir / "facescrub_images", file, on_missing=on_missing
    )
    others, more = find_images(
        distractors, images_dir / "megaface_images", distractor_file, on_missing=on_missing
    )
    return MegaFace(
        probes=tuple(probes[name] for name in names),
        subjects=np.array(subjects),
        distractors=tuple(others[name] for name in distractors),
        noisy=noisy,
        missing=missing | more,
    )


def evaluate_megaface(
    embedder: Embedder,
    megaface: MegaFace,
    *,
    fars: Sequence[float] = FARS,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> AmongDistractors:
    """Rank-1 and TAR at FAR among the distractors.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        megaface: a `MegaFace`.
        fars: target false accept rates, each in (0, 1).

    Returns:
        An `AmongDistractors`.

    Raises:
        ValueError: if a person with a wrong image has no other; else as `embed` and
            `search_among_distractors`.
        OSError: as `embed`.
    """
    there = np.array([path not in megaface.missing for path in megaface.probes])
    probes, distractors = megaface.there
    subjects, noisy = megaface.subjects[there], megaface.noisy[there]
    rows = unit_rows(
        embed(embedder, probes, flip=flip, batch_size=batch_size, progress=progress), "probes"
    )
    for subject in np.unique(subjects[noisy]):
        own = subjects == subject
        if not (own & ~noisy).any():
            raise ValueError(
                "A person with a wrong image must have another image, which replaces it. "
                f"Received: {subject}, with wrong images only."
            )
        rows[own & noisy] = rows[own & ~noisy].mean(axis=0)
    others = embed(embedder, distractors, flip=flip, batch_size=batch_size, progress=progress)
    found = search_among_distractors(
        rows.astype(np.float32), subjects, others, fars=fars, progress=progress
    )
    return dataclasses.replace(found, left_out=len(megaface.missing))


def _read_json(file: str | os.PathLike[str], *fields: str) -> list[list[str]]:
    text = read_text(file, "JSON")
    try:
        found = json.loads(text)
        columns = [found[field] for field in fields]
        if not all(isinstance(column, list) for column in columns):
            raise ValueError("entries that are not lists")
        if len({len(column) for column in columns}) != 1 or not columns[0]:
            raise ValueError(f"{[len(column) for column in columns]} entries")
        if not all(isinstance(entry, str) for column in columns for entry in column):
            raise ValueError("entries that are not text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = " and ".join(f"`{field}`" for field in fields)
        raise ValueError(
            f"{file}: must be JSON with {wanted}, lists of text of one length. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    return columns


def _read_noises(file: str | os.PathLike[str], parts: int) -> set[tuple[str, ...]]:
    lines = read_lines(file, "InsightFace's list of wrong images")
    return {
        _key(line.split("\t")[-1].strip(), parts) for _, line in lines if not line.startswith("#")
    }


def _key(name: str, parts: int) -> tuple[str, ...]:
    """The last parts of a path, without an image suffix."""
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix.lower() in (".jpg", ".jpeg", ".png") else path
    return path.parts[-parts:]
