"""A gallery: the people that a probe is searched among, in one SQLite file."""

import contextlib
import dataclasses
import errno
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows
from keras_facemargin.gallery.search import nearest
from keras_facemargin.gallery.store import Store
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import decode_face, encode_face
from keras_facemargin.quality import Limits, Quality, decide, pooling_quality
from keras_facemargin.template_pooling import pool_templates

# Crystal Loss chooses λ on held-out data. Measured here by tools/benchmarks/measure_pooling.py.
QUALITY_WEIGHT = 0.3

_VERDICTS: dict[str, Literal["identified", "unknown", "cannot say"]] = {
    "same": "identified",
    "different": "unknown",
    "cannot say": "cannot say",
}

# One photo, saved again or cropped a little differently. Two photos of a person hardly reach it.
_ONE_PHOTO = 0.98

# SQLite's numbers have 64 bits.
_LARGEST_ID = 2**63 - 1

# Rows that SQLite hands over at a time.
_ROWS_AT_ONCE = 16_384


@dataclasses.dataclass(frozen=True)
class Person:
    """A person of a gallery.

    Attributes:
        name: unique in the gallery.
        images: number of images.
        crops: number of images whose crop is kept.
        sharpness: the highest of the images, as `Quality.sharpness`; None if it is not known.
    """

    name: str
    images: int
    crops: int
    sharpness: float | None


@dataclasses.dataclass(frozen=True)
class EnrolledImage:
    """An image of a gallery.

    Attributes:
        id: number that no other image of the gallery has or had.
        person: name.
        utility, sharpness: as `Quality` has them; None if they are not known.
        source: where the image comes from, as given; None without it.
        added: date and time, UTC.
        has_crop: whether the crop is kept.
    """

    id: int
    person: str
    utility: float | None
    sharpness: float | None
    source: str | None
    added: str
    has_crop: bool


@dataclasses.dataclass(frozen=True)
class Identity:
    """The answer to a probe.

    Attributes:
        verdict: "identified", "unknown" or "cannot say".
        person: name of the person; None unless the verdict is "identified".
        nearest: name of the most similar person, whatever the score; None if the gallery is empty.
        cosine: of the probe and that person's template; -1 if the gallery is empty.
        threshold: smallest cosine that identifies, for faces of that sharpness.
        reason: one sentence why the verdict is "cannot say"; else "".
    """

    verdict: Literal["identified", "unknown", "cannot say"]
    person: str | None
    nearest: str | None
    cosine: float
    threshold: float
    reason: str = ""

    def refused(self, reason: str) -> "Identity":
        """The same comparison with the verdict "cannot say".

        Args:
            reason: one sentence.
        """
        return dataclasses.replace(self, verdict="cannot say", person=None, reason=reason)


class Gallery:
    """People and their embeddings in one SQLite file.

    A person has one or more images. Their embeddings are pooled into one template by quality
    pooling (`keras_facemargin.template_pooling`, Crystal Loss, arXiv:1804.01159), and a probe is
    compared with the templates: as the protocols of `keras_facemargin.evaluate` do. The quality of
    an image is its sharpness, as a share of the pixels between the eyes of a 112x112 crop. If it is
    not known for an image, the images of that person weigh the same.

    Each change is one transaction: a process that is killed loses what it has not committed, and
    nothing else. Several processes may read and write the same file; one that has a gallery open
    sees the changes of the others. An object belongs to the thread that made it.

    The embeddings are of one embedder, `embedding_id`. Others are refused.

    Args:
        path: the file; created if it is missing or empty.
        embedding_id: of the embedder, as `Embedder.id_of` gives it.
        embedding_dim: D, numbers of an embedding, with the mirror image's if it is appended.
        model: name of the embedder, for messages.
        quality_weight: λ of quality pooling for a new gallery. 0 is the mean.
        wait: seconds to wait for another process that writes.

    Raises:
        ValueError: the file is a gallery of another embedder, another kind of file or damaged.
        BlockingIOError: another process holds its lock.
        OSError: the file cannot be opened.

    Example:

    >>> gallery = Gallery("staff.gallery", embedding_id="f" * 64, embedding_dim=2)
    >>> gallery.enrol("ann", [[1.0, 0.0], [0.8, 0.6]]), gallery.enrol("bob", [[0.0, 1.0]])
    ([1, 2], [3])
    >>> gallery.identify([[0.9, 0.2], [-1.0, 0.3]], threshold=0.5)[0].person
    'ann'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        embedding_id: str,
        embedding_dim: int,
        model: str | None = None,
        quality_weight: float = QUALITY_WEIGHT,
        wait: float = 10.0,
    ) -> None:
        if not embedding_id or embedding_dim < 1:
            raise ValueError(
                "A gallery is bound to an embedder. Received: "
                f"embedding_id={embedding_id!r}, embedding_dim={embedding_dim}. Open the embedder "
                "from a file, which has an id."
            )
        if not 0 <= quality_weight < np.inf:
            raise ValueError(
                "`quality_weight` must be a number of at least 0; 0 gives the mean. "
                f"Received: quality_weight={quality_weight}."
            )
        self._store = Store(path, create=True, wait=wait)
        self._templates: _Templates | None = None
        try:
            with self._store.writing():
                self._store.connection.execute(
                    "INSERT OR IGNORE INTO gallery VALUES (1, ?, ?, ?, ?, NULL)",
                    (embedding_id, int(embedding_dim), model, float(quality_weight)),
                )
            self.check_embedder(embedding_id, model)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, wait: float = 10.0) -> "Gallery":
        """Opens a gallery that exists, whatever its embedder.

        Args:
            path, wait: as `Gallery`.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError, OSError: as `Gallery`.

        Example:

        >>> _ = Gallery("people.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> len(Gallery.open("people.gallery"))
        0
        """
        gallery = cls.__new__(cls)
        gallery._store = Store(path, create=False, wait=wait)
        gallery._templates = None
        try:
            gallery._settings()
        except BaseException:
            gallery.close()
            raise
        return gallery

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Makes one transaction of all changes in the block: all are written, or none.

        Raises:
            OSError: as `enrol`.

        Example:

        >>> with Gallery("one.gallery", embedding_id="f" * 64, embedding_dim=2) as gallery:
        ...     with gallery.together():
        ...         _ = gallery.enrol("ann", [[1.0, 0.0]]), gallery.enrol("bob", [[0.0, 1.0]])
        """
        try:
            with self._store.writing():
                yield
        finally:
            self._templates = None

    @property
    def path(self) -> str:
        """The file."""
        return str(self._store.path)

    @property
    def embedding_id(self) -> str:
        """Id of the embedder; another process may have changed it by a rebuild."""
        return str(self._settings()[0])

    @property
    def embedding_dim(self) -> int:
        """D."""
        return int(self._settings()[1])

    @property
    def model(self) -> str | None:
        """Name of the embedder."""
        name = self._settings()[2]
        return None if name is None else str(name)

    @property
    def quality_weight(self) -> float:
        """λ of quality pooling."""
        return float(self._settings()[3])

    @property
    def migration(self) -> str | None:
        """The migration that made the embeddings of another embedder's; None without one."""
        text = self._settings()[4]
        return None if text is None else str(text)

    def __len__(self) -> int:
        """Number of people."""
        return int(self._one("SELECT count(*) FROM people"))

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self._one("SELECT count(*) FROM images"))

    def check_embedder(self, embedding_id: str | None, model: str | None = None) -> None:
        """Refuses an embedder that is not the gallery's: its cosines mean nothing here.

        Args:
            embedding_id: of the embedder.
            model: its name, for the message.

        Raises:
            ValueError: it is another one.
        """
        own = self.embedding_id
        if embedding_id != own:
            without = self._images_without_a_crop()
            rebuild = (
                f"; crops for `facemargin gallery rebuild` are missing for {without:,} of "
                f"{self.num_images:,} images"
                if without
                else ", or embed the kept crops again with `facemargin gallery rebuild`"
            )
            raise ValueError(
                f"{self.path}: holds embeddings of {self.model or 'another embedder'} (id "
                f"{own[:12]}). Received: {model or 'an embedder'} (id {str(embedding_id)[:12]}). "
                "Use the gallery's model, map the embeddings with `facemargin gallery migrate`"
                f"{rebuild}."
            )

    def enrol(
        self,
        person: str,
        embeddings: npt.ArrayLike,
        *,
        qualities: Sequence[Quality | None] | None = None,
        sources: Sequence[str | None] | None = None,
        photos: Sequence[str | None] | None = None,
        crops: Sequence[npt.NDArray[np.uint8] | None] | None = None,
        template: str | None = "arcface",
    ) -> list[int]:
        """Adds images of a person, all of them or none.

        Args:
            person: name. A name that the gallery has gets more images.
            embeddings: float ``(N, D)``, not normalised: as `Embedder` gives them.
            qualities: N, as `keras_facemargin.quality.judge` gives them; None if not known.
            sources: N notes, such as the path of the photo.
            photos: N digests of the photos. A photo of a person is added once; see `has_photo`.
            crops: N crops uint8 ``(H, W, 3)``, which are kept as JPEG. `rebuild` needs them.
            template: of the crops, as `Crop.template`.

        Returns:
            N ids of the images.

        Raises:
            ValueError: a name is empty, an embedding has another width, is zero or not finite, a
                photo of the person is already in the gallery.
            OSError: the disk is full or another process holds the lock.
        """
        name, rows = _name(person), self._checked(embeddings)
        columns = [
            _column("qualities", qualities, len(rows)),
            _column("sources", sources, len(rows)),
            _column("photos", photos, len(rows)),
            _column("crops", crops, len(rows)),
        ]
        grades = [(q.utility, q.sharpness) if q else (None, None) for q in columns[0]]
        encoded = [None if crop is None else encode_face(crop) for crop in columns[3]]
        dim = rows.shape[1]
        run, ids = self._store.connection.execute, []
        with self._store.writing():
            if dim != self.embedding_dim:  # another process has rebuilt the gallery
                raise ValueError(self._wrong_width(dim))
            run("INSERT OR IGNORE INTO people (name) VALUES (?)", (name,))
            number = run("SELECT id FROM people WHERE name = ?", (name,)).fetchone()[0]
            for row, grade, source, photo, jpeg in zip(
                rows, grades, columns[1], columns[2], encoded, strict=True
            ):
                values = (number, *grade, row.tobytes(), source, photo)
                try:
                    added = run(
                        "INSERT INTO images (person, utility, sharpness, embedding, source, photo)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        values,
                    )
                except sqlite3.IntegrityError:
                    raise ValueError(
                        f"A photo of a person is enrolled once. Received: {source or photo}, which "
                        f"{name!r} already has."
                    ) from None
                ids.append(int(added.lastrowid or 0))
                if jpeg is not None:
                    run("INSERT INTO crops VALUES (?, ?, ?)", (ids[-1], template, jpeg))
        self._templates = None
        return ids

    def has_photo(self, person: str, photo: str) -> bool:
        """Whether a person has an image of the photo with that digest."""
        return bool(
            self._one(
                "SELECT count(*) FROM images JOIN people ON people.id = person"
                " WHERE photo = ? AND name = ?",
                photo,
                _name(person),
            )
        )

    def remove_person(self, person: str) -> int:
        """Removes a person with all images.

        Args:
            person: name.

        Returns:
            The number of images that were removed.

        Raises:
            ValueError: the gallery does not have the person.
            OSError: as `enrol`.
        """
        name, run = _name(person), self._store.connection.execute
        with self._store.writing():
            number = self._number_of(name)
            images = run("DELETE FROM images WHERE person = ?", (number,)).rowcount
            run("DELETE FROM people WHERE id = ?", (number,))
        self._templates = None
        return int(images)

    def remove_image(self, image: int) -> str:
        """Removes an image; with the last one the person.

        Args:
            image: id.

        Returns:
            The person's name.

        Raises:
            ValueError: the gallery does not have the image.
            OSError: as `enrol`.
        """
        run = self._store.connection.execute
        with self._store.writing():
            found = None
            if abs(image) <= _LARGEST_ID:
                found = run(
                    "SELECT person, name FROM images JOIN people ON people.id = person"
                    " WHERE images.id = ?",
                    (int(image),),
                ).fetchone()
            if found is None:
                raise ValueError(
                    f"{self.path}: has no image of that number. Received: {image}. `facemargin "
                    "gallery list --images` prints them."
                )
            run("DELETE FROM images WHERE id = ?", (int(image),))
            run(
                "DELETE FROM people WHERE id = ? AND id NOT IN (SELECT person FROM images)",
                (found[0],),
            )
        self._templates = None
        return str(found[1])

    def people(self) -> list[Person]:
        """The people, by name."""
        rows = self._all(
            "SELECT name, count(*), count(crops.image), max(sharpness) FROM people"
            " JOIN images ON person = people.id LEFT JOIN crops ON image = images.id"
            " GROUP BY people.id ORDER BY name"
        )
        return [Person(*row) for row in rows]

    def images(self, person: str | None = None) -> list[EnrolledImage]:
        """The images of a person, or all, in the order in which they were added.

        Raises:
            ValueError: the gallery does not have the person.
        """
        if person is None:
            return self._images("TRUE")
        return self._images("person = ?", self._number_of(_name(person)))

    def _image(self, image: int) -> EnrolledImage:
        (found,) = self._images("images.id = ?", image)
        return found

    def _images(self, where: str, *values: Any) -> list[EnrolledImage]:
        rows = self._all(
            "SELECT images.id, name, utility, sharpness, source, added, crops.image IS NOT NULL"
            " FROM images JOIN people ON people.id = person LEFT JOIN crops ON image = images.id"
            f" WHERE {where} ORDER BY images.id",
            *values,
        )
        return [
            EnrolledImage(id, name, utility, sharpness, source, added, bool(kept))
            for id, name, utility, sharpness, source, added, kept in rows
        ]

    def under_two_names(
        self, images: Sequence[int], *, cosine: float = _ONE_PHOTO
    ) -> list[tuple[EnrolledImage, EnrolledImage, float]]:
        """Images that another person has too: one photo under two names.

        A search then names either person.

        Args:
            images: ids.
            cosine: the least of two embeddings of one photo.

        Returns:
            The image, the most similar one of the other people, and their cosine, for each image
            where it is at least `cosine`. A pair of two of `images` is listed once.

        Raises:
            ValueError: the gallery does not have an image, or is damaged.

        Example:

        >>> gallery = Gallery("twice.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> added = [*gallery.enrol("ann", [[1.0, 0.0]]), *gallery.enrol("bob", [[2.0, 0.0]])]
        >>> [(a.person, b.person) for a, b, _ in gallery.under_two_names(added[1:])]
        [('bob', 'ann')]
        """
        if not len(images):
            return []
        with self._store.reading():
            ids = np.array([row[0] for row in self._all("SELECT id FROM images ORDER BY id")])
            rows, people, _ = self._read_embeddings()
        missing = np.setdiff1d(np.array(images, object), ids)
        if len(missing):
            raise ValueError(f"{self.path}: has no image of that number. Received: {missing[0]}.")
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        asked = np.searchsorted(ids, np.array(images, np.int64))
        # Among so many there is an image of another person, if there is one.
        count = int(np.unique(people[np.isin(people, people[asked])], return_counts=True)[1].max())
        scores, found = nearest(units, units[asked], count + 1)
        pairs: dict[frozenset[int], tuple[int, int, float]] = {}
        for place, near, values in zip(asked, found, scores, strict=True):
            for other, score in zip(near, values, strict=True):
                if people[other] != people[place]:
                    if score >= cosine:
                        pair = int(ids[place]), int(ids[other])
                        pairs.setdefault(frozenset(pair), (*pair, float(score)))
                    break
        return [
            (self._image(one), self._image(other), score) for one, other, score in pairs.values()
        ]

    def kept_crop(self, image: int) -> bytes:
        """The kept crop of an image, as JPEG.

        Raises:
            ValueError: no crop is kept.
        """
        found = []
        if abs(image) <= _LARGEST_ID:
            found = self._all("SELECT jpeg FROM crops WHERE image = ?", int(image))
        if not found:
            raise ValueError(f"{self.path}: keeps no crop of that image. Received: {image}.")
        return bytes(found[0][0])

    def search(
        self, embeddings: npt.ArrayLike, *, count: int = 1
    ) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
        """The most similar people of each probe, whatever the score.

        Args:
            embeddings: float ``(P, D)``, of the gallery's embedder.
            count: people for each probe, at least 1.

        Returns:
            Names ``(P, K)`` and cosines ``(P, K)``, descending; K is `count`, or the number of
            people if that is less.

        Raises:
            ValueError: an embedding has another width, is zero or not finite; `count` is less
                than 1; the gallery is damaged.
            OSError: as `Gallery`.

        Example:

        >>> gallery = Gallery("two.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> _ = gallery.enrol("ann", [[1.0, 0.0]]), gallery.enrol("bob", [[0.0, 1.0]])
        >>> names, scores = gallery.search([[0.6, 0.8]], count=2)
        >>> names.tolist(), scores.round(2).tolist()
        ([['bob', 'ann']], [[0.8, 0.6]])
        """
        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: count={count}.")
        probes = self._checked(embeddings)
        found = self._current()
        units = (probes / np.linalg.norm(probes, axis=1, keepdims=True)).astype(np.float32)
        scores, rows = nearest(found.units, units, int(count))
        return found.names[rows], scores

    def identify(
        self,
        embeddings: npt.ArrayLike,
        *,
        threshold: float,
        qualities: Sequence[Quality | None] | None = None,
        limits: Limits | None = None,
    ) -> list[Identity]:
        """The person of each probe, or unknown: open-set identification.

        Args:
            embeddings: float ``(P, D)``.
            threshold: smallest cosine that identifies. The false accept rate of a threshold is that
                of one comparison; `expected_fpir` gives that of a gallery.
            qualities: of the probes. With `limits` they and the sharpness of the most similar
                person's best image decide whether the verdict is "cannot say", by the rule of
                `keras_facemargin.quality.decide`.
            limits: of the embedder, on its card.

        Returns:
            P answers.

        Raises:
            ValueError, OSError: as `search`.

        Example:

        >>> gallery = Gallery("three.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> _ = gallery.enrol("ann", [[1.0, 0.0]])
        >>> [each.verdict for each in gallery.identify([[0.9, 0.1], [0.0, 1.0]], threshold=0.5)]
        ['identified', 'unknown']
        """
        names, scores = self.search(embeddings)
        if not names.shape[1]:
            return [Identity("unknown", None, None, -1.0, threshold) for _ in names]
        given = _column("qualities", qualities, len(names))
        answers = []
        for name, score, quality in zip(names[:, 0], scores[:, 0], given, strict=True):
            enrolled = self._sharpness_of(name) if limits is not None else None
            decision = decide(score, threshold, qualities=(quality, enrolled), limits=limits)
            verdict = _VERDICTS[decision.verdict]
            person = str(name) if verdict == "identified" else None
            reason = decision.reason.replace("first face", "face").replace(
                "second face", "enrolled face"
            )
            answers.append(
                Identity(verdict, person, str(name), float(score), decision.threshold, reason)
            )
        return answers

    def cannot_rebuild(self, crop: Crop) -> str | None:
        """The reason why the kept crops do not suffice for a `rebuild`.

        Args:
            crop: of the new embedder.

        Returns:
            What is needed, and what the gallery has; None if the crops suffice.

        Example:

        >>> gallery = Gallery("no_crops.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> _ = gallery.enrol("ann", [[1.0, 0.0]])
        >>> gallery.cannot_rebuild(Crop.of(112))
        'a rebuild needs the crop of every image. Received: 1 of 1 images without one.'
        """
        without = self._images_without_a_crop()
        if without:
            return (
                f"a rebuild needs the crop of every image. Received: {without:,} of "
                f"{self.num_images:,} images without one."
            )
        templates = {row[0] for row in self._all("SELECT DISTINCT template FROM crops")}
        if templates - {crop.template}:
            found = ", ".join(sorted(str(each) for each in templates))
            return (
                "the kept crops must be aligned as the new embedder takes them, "
                f"{crop}. Received: crops of the template {found}."
            )
        return None

    def _images_without_a_crop(self) -> int:
        return self.num_images - int(self._one("SELECT count(*) FROM crops"))

    def rebuild(
        self,
        embed: Callable[[npt.NDArray[np.uint8]], npt.ArrayLike],
        *,
        crop: Crop,
        embedding_id: str,
        embedding_dim: int,
        model: str | None = None,
    ) -> int:
        """Embeds all kept crops with another embedder, and binds the gallery to it in one step.

        Args:
            embed: from crops ``(N, H, W, 3)`` to embeddings ``(N, D)``.
            crop, embedding_id, embedding_dim, model: of the embedder.

        Returns:
            The number of images.

        Raises:
            ValueError: an image has no crop or one of another template, or another process changed
                the gallery meanwhile.
            OSError: as `enrol`.
        """
        version = self._store.changes()
        reason = self.cannot_rebuild(crop)
        if reason is not None:
            raise ValueError(
                f"{self.path}: {reason} Add the photos again to a new gallery, or map the "
                "embeddings with `facemargin gallery migrate`."
            )
        ids = [row[0] for row in self._all("SELECT id FROM images ORDER BY id")]
        parts = [
            self._checked(embed(crops), embedding_dim) for crops in self._kept_crops(ids, crop)
        ]
        rows = np.concatenate(parts) if parts else np.empty((0, embedding_dim), np.float32)
        self._replace(ids, rows, version, embedding_id, model, None)
        return len(ids)

    def embeddings(self) -> tuple[list[int], npt.NDArray[np.float32]]:
        """All images' ids and embeddings ``(N, D)``, as they were enrolled."""
        with self._store.reading():
            ids = [row[0] for row in self._all("SELECT id FROM images ORDER BY id")]
            return ids, self._read_embeddings()[0]

    def copy(self, path: str | os.PathLike[str]) -> "Gallery":
        """Writes the gallery, as it is at this moment, to a new file.

        Args:
            path: of the new file.

        Returns:
            The copy, open.

        Raises:
            FileExistsError: the file exists.
            OSError: it cannot be written.

        Example:

        >>> gallery = Gallery("old.gallery", embedding_id="f" * 64, embedding_dim=2)
        >>> _ = gallery.enrol("ann", [[1.0, 0.0]])
        >>> len(gallery.copy("copy.gallery"))
        1
        """
        if os.path.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        self._store.copy(path)
        return Gallery.open(path)

    def map_embeddings(
        self,
        mapping: Callable[[npt.NDArray[np.float32]], npt.ArrayLike],
        *,
        embedding_id: str,
        embedding_dim: int,
        model: str | None = None,
        note: str,
    ) -> int:
        """Maps all embeddings into another embedder's space, in one step.

        Args:
            mapping: from ``(N, D)`` to ``(N, D2)``, such as `Migration.apply`.
            embedding_id, embedding_dim, model: of the new embedder.
            note: what was done and what it costs; `migration` gives it.

        Returns:
            The number of images.

        Raises:
            ValueError: another process changed the gallery meanwhile; else as `enrol`.
            OSError: as `enrol`.
        """
        version = self._store.changes()
        ids, rows = self.embeddings()
        mapped = np.empty((0, embedding_dim), np.float32)
        if ids:
            mapped = self._checked(mapping(rows), embedding_dim)
        self._replace(ids, mapped, version, embedding_id, model, note)
        return len(ids)

    def _replace(
        self,
        ids: list[int],
        rows: npt.NDArray[np.float32],
        version: int,
        embedding_id: str,
        model: str | None,
        note: str | None,
    ) -> None:
        with self._store.writing():
            if self._store.changes() != version:
                raise ValueError(
                    f"{self.path}: another process changed the gallery meanwhile. Received: "
                    f"{len(rows):,} embeddings of its earlier content. Run the command again."
                )
            self._store.connection.executemany(
                "UPDATE images SET embedding = ? WHERE id = ?",
                ((row.tobytes(), id) for row, id in zip(rows, ids, strict=True)),
            )
            self._store.connection.execute(
                "UPDATE gallery SET embedding_id = ?, embedding_dim = ?, model = ?, migration = ?",
                (embedding_id, rows.shape[1], model, note),
            )
        self._templates = None

    def _kept_crops(self, ids: list[int], crop: Crop) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(ids), 256):
            yield np.stack(
                [
                    decode_face(self.kept_crop(image), crop, f"{self.path}, image {image}")
                    for image in ids[start : start + 256]
                ]
            )

    def _current(self) -> "_Templates":
        """The templates, read again if another process has changed the file."""
        changes = self._store.changes()
        if self._templates is None or self._templates.changes != changes:
            self._templates = self._read_templates(changes)
        return self._templates

    def _read_templates(self, changes: int) -> "_Templates":
        with self._store.reading():
            weight = self.quality_weight
            people = self._all("SELECT id, name FROM people ORDER BY id")
            rows, numbers, sharpness = self._read_embeddings()
        names = np.array([name for _, name in people], object)
        if not len(names):
            return _Templates(changes, names, np.empty((0, rows.shape[1]), np.float32))
        ids = np.array([number for number, _ in people])
        quality = pooling_quality(sharpness)
        # Where one is missing, the images of the person weigh the same.
        quality[np.isin(numbers, numbers[np.isnan(quality)])] = 0.5
        try:
            units, found = pool_templates(rows, numbers, quality=quality, quality_weight=weight)
        except ValueError:
            raise self._damaged("an embedding that is not a finite number") from None
        if len(found) != len(ids) or not (found == ids).all():
            raise self._damaged("a person without an image")
        return _Templates(changes, names, units)

    def _read_embeddings(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The embeddings, the numbers of their people and their sharpness, NaN without one."""
        count, dim = self.num_images, self.embedding_dim
        rows = np.empty((count, dim), np.float32)
        people, sharpness = np.empty(count, np.int64), np.empty(count)
        cursor = self._store.connection.execute(
            "SELECT embedding, person, sharpness FROM images ORDER BY id"
        )
        done = 0
        while part := cursor.fetchmany(_ROWS_AT_ONCE):
            block = slice(done, done + len(part))
            people[block] = [row[1] for row in part]
            sharpness[block] = [row[2] for row in part]  # None becomes NaN
            joined = b"".join([row[0] for row in part])
            if len(joined) != 4 * dim * len(part):
                raise self._damaged("an embedding of another width")
            rows[block] = np.frombuffer(joined, "<f4").reshape(len(part), dim)
            done += len(part)
        return rows, people, sharpness

    def _sharpness_of(self, name: str) -> Quality | None:
        best = self._one(
            "SELECT max(sharpness) FROM images JOIN people ON people.id = person WHERE name = ?",
            name,
        )
        return None if best is None else Quality(None, float(best))

    def _damaged(self, found: str) -> ValueError:
        return ValueError(
            f"{self.path}: the gallery is damaged. Received: {found}. Restore it from a copy."
        )

    def _checked(
        self, embeddings: npt.ArrayLike, dim: int | None = None
    ) -> npt.NDArray[np.float32]:
        rows = embedding_rows(embeddings).astype("<f4")
        dim = self.embedding_dim if dim is None else dim
        if rows.shape[1] != dim or not len(rows):
            raise ValueError(self._wrong_width(rows.shape[1] if len(rows) else 0))
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise ValueError(
                "An embedding must be finite and of non-zero length. Received: length "
                f"{lengths[bad[0]]} in row {bad[0]}."
            )
        return rows

    def _wrong_width(self, width: int) -> str:
        return (
            f"{self.path}: holds embeddings (N, {self.embedding_dim}), N > 0, of "
            f"{self.model or 'its embedder'}. Received: "
            + (f"embeddings of {width} numbers." if width else "no embedding.")
        )

    def _settings(self) -> Any:
        found = self._all(
            "SELECT embedding_id, embedding_dim, model, quality_weight, migration FROM gallery"
        )
        if not found:
            raise self._damaged("no embedder")
        return found[0]

    def _number_of(self, name: str) -> int:
        found = self._all("SELECT id FROM people WHERE name = ?", name)
        if found:
            return int(found[0][0])
        near = get_close_matches(name, [row[0] for row in self._all("SELECT name FROM people")], 1)
        raise ValueError(
            f"{self.path}: has no person of that name. Received: {name!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )

    def _one(self, query: str, *values: Any) -> Any:
        return self._all(query, *values)[0][0]

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._store.in_one_sentence():
            return self._store.connection.execute(query, values).fetchall()


@dataclasses.dataclass(frozen=True, eq=False)
class _Templates:
    changes: int
    names: npt.NDArray[np.object_]
    units: npt.NDArray[np.float32]


def expected_fpir(far: float, people: int) -> float:
    """Expected false-positive identification rate of a gallery.

    A stranger is compared with each of N people. If the comparisons were independent, the stranger
    would be accepted by at least one with the probability

        FPIR = 1 - (1 - FAR)^N

    (ISO/IEC 19795-1). Comparisons of one probe are not quite independent: a blurred probe resembles
    many people. Whatever their dependence, FPIR <= N FAR.

    Args:
        far: false accept rate of the threshold, of one comparison.
        people: N.

    Returns:
        A rate in [0, 1].

    Example:

    >>> [round(expected_fpir(1e-3, people), 3) for people in (1, 100, 1000)]
    [0.001, 0.095, 0.632]
    """
    return float(-np.expm1(people * np.log1p(-far)))


def _name(person: str) -> str:
    """A person's name, as all systems write it; macOS decomposes accents."""
    if not isinstance(person, str) or not person.strip() or not person.isprintable():
        raise ValueError(
            f"A person's name must be a printable text, not empty. Received: {person!r}."
        )
    return unicodedata.normalize("NFC", person.strip())


def _column(name: str, values: Any, count: int) -> list[Any]:
    if values is None:
        return [None] * count
    given = list(values)
    if len(given) != count:
        raise ValueError(
            f"`{name}` must hold one value for each embedding. Received: {len(given):,} for "
            f"{count:,} embeddings."
        )
    return given
