"""The tables of templates in the official lists of IJB-A, B and C."""

import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    find_images,
    is_number,
    line_of,
    note_repeats,
    read_lines,
    read_table,
    refuse_repeats,
)
from keras_facemargin.evaluate.templates import Templates

# Pairs of a list that are looked up at a time.
PAIRS_AT_ONCE = 1_000_000


class Collector:
    """Reads tables of templates into one `Templates`.

    A line is an image of a template: TEMPLATE_ID, SUBJECT_ID, FILE (or FILENAME), SIGHTING_ID and
    more. Its medium is MEDIA_ID if that is a column; else the frames of one template and sighting
    are one medium, as in the tables of IJB-B and IJB-C.

    Args:
        covariates: columns to keep of each template, from its first line.
        repeats: whether an image may be twice in a template, and a pair twice in a list. IJB-A's
            official 1:1 lists have no repeats. The other official lists could not be checked, so
            there a repeat is a warning.
    """

    def __init__(self, covariates: Sequence[str] = (), repeats: bool = True) -> None:
        self.covariates: dict[str, list[str]] = {name: [] for name in covariates}
        self.repeats = repeats
        self.subjects: list[str] = []
        self.names: list[str] = []
        self.template: list[int] = []
        self.media: list[str] = []
        self.numbers: dict[tuple[Hashable, str], int] = {}

    def read(self, file: str | os.PathLike[str], space: Hashable) -> npt.NDArray[Any]:
        """Reads a table with template numbers of `space`; returns the rows of its templates.

        Raises:
            ValueError: if the table breaks its format, or a template shows two people or, where
                none is repeated, an image twice.
            OSError: if it cannot be opened.
        """
        numbers, table = read_table(
            file,
            [
                ("TEMPLATE_ID",),
                ("SUBJECT_ID",),
                ("FILE", "FILENAME"),
                ("SIGHTING_ID",),
                *((name,) for name in self.covariates),
            ],
        )
        if not numbers:
            raise ValueError(f"{file}: must list templates. Received: only a header.")
        media = table.get("MEDIA_ID", table["SIGHTING_ID"])
        found: dict[int, None] = {}
        columns = ("TEMPLATE_ID", "SUBJECT_ID", "FILE", "SIGHTING_ID")
        lines = zip(numbers, *(table[name] for name in columns), media, strict=True)
        start = len(self.names)
        for place, (line, template, subject, name, sighting, medium) in enumerate(lines):
            row = self.numbers.get((space, template))
            if row is None:
                if not is_number(template):
                    rule = "TEMPLATE_ID must be a number, of at most 18 digits, no leading zeros."
                    raise bad_line(file, line, rule, template)
                if not subject:
                    rule = "SUBJECT_ID must not be empty."
                    raise bad_line(file, line, rule, f"{template},{subject}")
                row = self.numbers[space, template] = len(self.subjects)
                self.subjects.append(subject)
                for column, values in self.covariates.items():
                    values.append(table[column][place])
            elif self.subjects[row] != subject:
                rule = f"template {template} must be of one person, {self.subjects[row]}."
                raise bad_line(file, line, rule, f"{template},{subject}")
            found[row] = None
            stem, dot, ending = name.rpartition(".")
            self.names.append(f"{stem}_{sighting}.{ending}" if dot else f"{name}_{sighting}")
            self.template.append(row)
            self.media.append(medium)
        images = list(zip(self.template[start:], self.names[start:], strict=True))
        if self.repeats:
            note_repeats(file, images, "images of templates")
        else:
            refuse_repeats(file, images, numbers=numbers, what="an image of a template")
        return np.array(list(found))

    def rows(
        self, space: Hashable, listed: npt.NDArray[Any], file: str | os.PathLike[str]
    ) -> npt.NDArray[Any]:
        """Rows of the templates of pairs of template numbers, int32 ``(P, 2)``.

        Raises:
            ValueError: if the tables do not have one of them (naming the line).
        """
        known = {int(number): row for (of, number), row in self.numbers.items() if of == space}
        numbers, rows = np.array(sorted(known.items()), np.int64).reshape(-1, 2).T
        found = np.empty(listed.shape, np.int32)
        for start in range(0, len(listed), PAIRS_AT_ONCE):
            part = listed[start : start + PAIRS_AT_ONCE]
            place = np.minimum(np.searchsorted(numbers, part), len(numbers) - 1)
            absent = np.flatnonzero((numbers[place] != part).any(axis=1))
            if len(absent):
                row = start + int(absent[0])
                rule = "must be two templates of the tables."
                raise bad_line(file, line_of(file, row), rule, ",".join(map(str, listed[row])))
            found[start : start + len(part)] = rows[place]
        return found

    def check_pairs(self, rows: npt.NDArray[Any], file: str | os.PathLike[str]) -> None:
        """Refuses, or warns of, pairs ``(P, 2)`` that a list has twice, in any order."""
        low, high = np.sort(rows, axis=1).T.astype(np.int64)
        keys = low * len(self.subjects) + high
        ascending = np.sort(keys)
        if not (ascending[1:] == ascending[:-1]).any():
            return
        if self.repeats:
            note_repeats(file, keys.tolist(), "pairs")
        else:
            numbers = [number for number, _ in read_lines(file, "a list of pairs")]
            refuse_repeats(file, keys.tolist(), numbers=numbers, what="a pair")

    def replace_images(
        self,
        names: Sequence[str],
        numbers: npt.NDArray[Any],
        media: npt.NDArray[Any],
        space: Hashable,
        file: str | os.PathLike[str],
    ) -> None:
        """Takes the images from another list: names, template numbers and media, ``(N,)`` each.

        Raises:
            ValueError: as `rows`.
        """
        pairs = np.stack([numbers, numbers], axis=1)
        self.names, self.media = list(names), media.tolist()
        self.template = self.rows(space, pairs, file)[:, 0].tolist()

    def templates(
        self,
        images_dir: str | os.PathLike[str],
        file: str | os.PathLike[str],
        on_missing: str,
        quality: npt.NDArray[Any] | None = None,
    ) -> Templates:
        """The templates with their images, and with qualities if a list has them."""
        images, missing = find_images(self.names, images_dir, file, on_missing=on_missing)
        return Templates(
            subjects=np.array(self.subjects),
            images=tuple(images[name] for name in self.names),
            template=np.array(self.template),
            media=np.unique(self.media, return_inverse=True)[1],
            quality=quality,
            covariates={name: np.array(values) for name, values in self.covariates.items()},
            missing=missing,
        )
