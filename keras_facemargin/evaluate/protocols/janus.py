"""The tables of templates that the official lists of IJB-A, B and C are made of."""

import numpy as np

from keras_facemargin.evaluate.protocols.lists import bad_line, find_images, read_table
from keras_facemargin.evaluate.templates import Templates

# Pairs of a list that are looked up at a time.
PAIRS_AT_ONCE = 1_000_000


class Collector:
    """Reads tables of templates into one `Templates`.

    A line is an image of a template: TEMPLATE_ID, SUBJECT_ID, FILE (or FILENAME), SIGHTING_ID and
    more. Its medium is MEDIA_ID where that is a column; else frames of one template and sighting
    are one medium, as IJB-B's and IJB-C's own tables group them.

    Args:
        covariates: columns to keep of each template, from its first line.
    """

    def __init__(self, covariates=()):
        self.covariates = {name: [] for name in covariates}
        self.subjects, self.names, self.template, self.media = [], [], [], []
        self.numbers = {}

    def read(self, file, space) -> np.ndarray:
        """Reads a table whose template numbers are of `space`; gives its templates' rows.

        Raises:
            ValueError: if the table breaks its format, or a template shows two people.
            OSError: if it cannot be opened.
        """
        table = read_table(
            file,
            [
                ("TEMPLATE_ID",),
                ("SUBJECT_ID",),
                ("FILE", "FILENAME"),
                ("SIGHTING_ID",),
                *((name,) for name in self.covariates),
            ],
        )
        if not table:
            raise ValueError(f"{file}: must list templates. Received: a header alone.")
        media = table.get("MEDIA_ID", table["SIGHTING_ID"])
        found = {}
        columns = ("TEMPLATE_ID", "SUBJECT_ID", "FILE", "SIGHTING_ID")
        lines = zip(*(table[name] for name in columns), media, strict=True)
        for line, (template, subject, name, sighting, medium) in enumerate(lines):
            row = self.numbers.get((space, template))
            if not template.isdecimal():
                raise bad_line(file, line + 2, "TEMPLATE_ID must be a number.", template)
            if row is None:
                row = self.numbers[space, template] = len(self.subjects)
                self.subjects.append(subject)
                for column, values in self.covariates.items():
                    values.append(table[column][line])
            elif self.subjects[row] != subject:
                rule = f"template {template} must be of one person, {self.subjects[row]}."
                raise bad_line(file, line + 2, rule, f"{template},{subject}")
            found[row] = None
            stem, dot, ending = name.rpartition(".")
            self.names.append(f"{stem}_{sighting}.{ending}" if dot else f"{name}_{sighting}")
            self.template.append(row)
            self.media.append(medium)
        return np.array(list(found))

    def rows(self, space, listed, file) -> np.ndarray:
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
                line = start + int(absent[0])
                rule = "must be two templates of the tables."
                raise bad_line(file, line + 1, rule, ",".join(map(str, listed[line])))
            found[start : start + len(part)] = rows[place]
        return found

    def replace_images(self, names, numbers, media, space, file):
        """Takes the images from another list: names, template numbers and media, ``(N,)`` each.

        Raises:
            ValueError: as `rows`.
        """
        pairs = np.stack([numbers, numbers], axis=1)
        self.names, self.media = list(names), media
        self.template = self.rows(space, pairs, file)[:, 0]

    def templates(self, images_dir, file, on_missing, quality=None) -> Templates:
        """What has been read, with its images, and the quality of each where a list has it."""
        images, missing = find_images(self.names, images_dir, file, on_missing)
        return Templates(
            subjects=np.array(self.subjects),
            images=tuple(images[name] for name in self.names),
            template=np.array(self.template),
            media=np.unique(self.media, return_inverse=True)[1],
            quality=quality,
            covariates={name: np.array(values) for name, values in self.covariates.items()},
            missing=missing,
        )
