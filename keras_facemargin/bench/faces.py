"""The faces of a bench: a folder of people, and the official pairs among them."""

import dataclasses
import os
from collections.abc import Mapping
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
        paths: the N image files.
        people: the person of each, ``(N,)``.
        crop: the `Crop` of the files.
        pairs: the official `Pairs`, with folds, or None.
        groups: name of a grouping -> the group of each image, ``(N,)``.
    """

    paths: list[Path]
    people: list[str]
    crop: Crop
    pairs: Pairs | None
    groups: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def read(
        cls,
        images: str | os.PathLike[str],
        pairs: str | os.PathLike[str] | None = None,
        groups: str | os.PathLike[str] | None = None,
    ) -> "BenchFaces":
        """Lists the images and reads the files about them.

        Args:
            images: folder of aligned crops, a folder for each person.
            pairs: LFW's list of pairs with folds, or None. A listed image that the folder does not
                have counts as a failure to enrol.
            groups: CSV file, as `read_groups_of_images` takes it, or None.

        Raises:
            ValueError: if there are too few faces, if the list has no folds, or if a file breaks
                its format.
            OSError: if a file or all listed images are missing.
        """
        files, bad = list_files(os.fspath(images))
        report_bad_files(os.fspath(images), bad, "skip")
        paths = [Path(path) for person in files.values() for path in person]
        people = [name for name, person in files.items() for _ in person]
        if sum(map(bool, files.values())) < 2 or len(paths) == len({*people}):
            raise ValueError(
                "A bench needs at least two people, and two images of one of them. Received: "
                f"{len(paths):,} images of {len({*people}):,} people in {images}."
            )
        listed = None if pairs is None else read_pairs(pairs, images, on_missing="reject")
        if listed is not None and listed.folds is None:
            raise ValueError(
                f"The list of pairs must have folds, as LFW's pairs.txt has. Received: {pairs}, a "
                "list for development."
            )
        return cls(
            paths=paths,
            people=people,
            crop=Crop.of(read_photo(paths[0]).shape[:2]),
            pairs=listed,
            groups={} if groups is None else read_groups_of_images(groups, paths, people),
        )

    @property
    def example(self) -> npt.NDArray[np.uint8]:
        """The first image."""
        return read_face(self.paths[0], self.crop)

    def score(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Scores of the official pairs: -1 for a failure to enrol.

        Args:
            embeddings: ``(N, D)``, of `paths`.
        """
        pairs = self.pairs
        assert pairs is not None and pairs.first is not None and pairs.second is not None
        row = {path: index for index, path in enumerate(self.paths)}
        seen = np.flatnonzero(~pairs.failed_to_enrol).tolist()
        first, second = (
            embeddings[[row[side[index]] for index in seen]] for side in (pairs.first, pairs.second)
        )
        scores = np.full(len(pairs), -1.0)
        scores[seen] = cosine_scores(first, second)
        return scores
