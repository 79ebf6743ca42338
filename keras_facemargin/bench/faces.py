"""The faces of a bench: folders of people, and the official pairs among them."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.folder import list_files
from keras_facemargin.data.problems import report_bad_files
from keras_facemargin.evaluate import Pairs, cosine_scores, read_pairs
from keras_facemargin.evaluate.uncertainty import read_groups_of_images
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import read_face, read_photo


@dataclasses.dataclass(frozen=True, eq=False)
class BenchFaces:
    """Faces on which embedders are compared.

    Attributes:
        crops: `Crop` -> the N image files that have it; the same images in each.
        people: the person of each image, ``(N,)``.
        left_out: number of images of the first folder that another folder does not have.
        pairs: the official `Pairs`, with folds, or None.
        groups: name of a grouping -> the group of each image, ``(N,)``.
    """

    crops: Mapping[Crop, list[Path]]
    people: list[str]
    left_out: int
    pairs: Pairs | None
    groups: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def read(
        cls,
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        pairs: str | os.PathLike[str] | None = None,
        groups: str | os.PathLike[str] | None = None,
    ) -> "BenchFaces":
        """Lists the images and reads the files about them.

        Args:
            images: folder of aligned crops, a folder for each person. Several such folders hold the
                same images in other crops, under the same names; an image that one of them does not
                have is left out.
            pairs: LFW's list of pairs with folds, or None. A listed image that the folders do not
                have counts as a failure to enrol.
            groups: CSV file, as `read_groups_of_images` takes it, or None.

        Raises:
            ValueError: if there are too few faces, two folders have one crop, the list has no
                folds, or a file breaks its format.
            OSError: if a file or all listed images are missing.
        """
        given = [images] if isinstance(images, str | os.PathLike) else images
        folders = [Path(each) for each in given]
        listed = [_list_images(folder) for folder in folders]
        common = [name for name in listed[0] if all(name in each for each in listed)]
        people = [person for person, _ in common]
        if len({*people}) < 2 or len(people) == len({*people}):
            where = " and ".join(map(str, folders))
            raise ValueError(
                "A bench needs at least two people, and two images of one of them. Received: "
                f"{len(people):,} images of {len({*people}):,} people in {where}."
            )
        crops: dict[Crop, list[Path]] = {}
        for folder, each in zip(folders, listed, strict=True):
            paths = [each[name] for name in common]
            crop = Crop.of(read_photo(paths[0]).shape[:2])
            if crop in crops:
                raise ValueError(
                    f"Each folder of images must have another crop. Received: {folder} with {crop}"
                    ", as another folder."
                )
            crops[crop] = paths
        paths = next(iter(crops.values()))
        return cls(
            crops=crops,
            people=people,
            left_out=len(listed[0]) - len(common),
            pairs=None if pairs is None else _read_pairs(pairs, folders[0], paths),
            groups={} if groups is None else read_groups_of_images(groups, paths, people),
        )

    @property
    def paths(self) -> list[Path]:
        """The N image files of the first crop."""
        return next(iter(self.crops.values()))

    def example(self, crop: Crop) -> npt.NDArray[np.uint8]:
        """The first image, in a crop of the faces."""
        return read_face(self.crops[crop][0], crop)

    def score(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Scores of the official pairs: -1 for a failure to enrol.

        Args:
            embeddings: ``(N, D)``, of `paths`.
        """
        seen, first, second = self._rows
        scores = np.full(len(seen), -1.0)
        scores[seen] = cosine_scores(embeddings[first], embeddings[second])
        return scores

    def sides(
        self, values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The values of the two images of the official pairs: the lowest for a failure to enrol.

        Args:
            values: ``(N,)``, of `paths`.
        """
        seen, *sides = self._rows
        found = np.full((2, len(seen)), values.min())
        for row, side in zip(found, sides, strict=True):
            row[seen] = values[side]
        return found[0], found[1]

    @functools.cached_property
    def _rows(self) -> tuple[npt.NDArray[np.bool_], list[int], list[int]]:
        """Whether both images of each official pair are there, and the rows of those that are."""
        pairs = self.pairs
        assert pairs is not None and pairs.first is not None and pairs.second is not None
        row = {path: index for index, path in enumerate(self.paths)}
        seen = ~pairs.failed_to_enrol
        first, second = (
            [row[side[index]] for index in np.flatnonzero(seen).tolist()]
            for side in (pairs.first, pairs.second)
        )
        return seen, first, second


def _list_images(folder: Path) -> dict[tuple[str, str], Path]:
    """(person, name of the file) -> file."""
    files, bad = list_files(os.fspath(folder))
    report_bad_files(os.fspath(folder), bad, "skip")
    return {
        (person, Path(path).name): Path(path) for person, paths in files.items() for path in paths
    }


def _read_pairs(file: str | os.PathLike[str], folder: Path, paths: Sequence[Path]) -> Pairs:
    """The official pairs; one fails to enrol if `paths` do not have both of its images."""
    pairs = read_pairs(file, folder, on_missing="reject")
    if pairs.folds is None:
        raise ValueError(
            f"The list of pairs must have folds, as LFW's pairs.txt has. Received: {file}, a list "
            "for development."
        )
    assert pairs.first is not None and pairs.second is not None
    there = {*paths}
    missing = [not {*both} <= there for both in zip(pairs.first, pairs.second, strict=True)]
    return dataclasses.replace(pairs, failed_to_enrol=np.array(missing))
