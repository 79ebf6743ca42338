"""Maps embeddings of one embedder into another's space, and states what that costs.

The photos of a gallery are gone, its crops were not kept, and the embedder changes. A linear map,
fitted on a few thousand other faces that both embedders embed, saves the enrolment:

    W = argmin Σ |x W - y|² + λ |W|²,   x, y: the old and the new embedding of a face, of length 1

Ridge regression is used and not the orthogonal Procrustes map: in `docs/gallery.md` both accept
about as many people at a threshold of their own, but only ridge regression keeps the new embedder's
threshold. A map costs accuracy, so that `price` measures it, on people that it was not fitted on.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers, read_npz
from keras_facemargin.files import atomic_write

# λ as a share of the mean of the diagonal of X'X. From 1e-4 to 0.3 the TAR differs by 0.002.
_RIDGE = 0.01

# Faces for each number of an old embedding.
_FACES = 4

# A migration works if it accepts at most so many times the strangers of its target, and at most
# this share fewer genuine pairs than the weaker of the two embedders.
_MOST_FAR = 3.0
_MOST_LOSS = 0.02

_FACES_OF_PRICE = 4_000  # 8 million pairs, float32


@dataclasses.dataclass(frozen=True)
class Price:
    """What a migration costs, measured on people that it was not fitted on.

    All rates are at a false accept rate of `target`, each embedder at its threshold on these faces;
    a mapped and a new embedding are compared at the new embedder's threshold.

    Attributes:
        target: false accept rate of the thresholds.
        old_tar, new_tar: true accept rates of the two embedders.
        mapped_tar, mapped_far: of mapped with new embeddings.
        people, genuine_pairs, impostor_pairs: their numbers.
    """

    target: float
    old_tar: float
    new_tar: float
    mapped_tar: float
    mapped_far: float
    people: int
    genuine_pairs: int
    impostor_pairs: int

    @property
    def works(self) -> bool:
        """Whether the map is worth having.

        At most 3 times as many strangers are accepted as intended, and at most 2 points of the
        genuine pairs fewer than by the weaker of the two embedders.
        """
        return (
            self.mapped_far <= _MOST_FAR * self.target
            and self.mapped_tar >= min(self.old_tar, self.new_tar) - _MOST_LOSS
        )

    def __str__(self) -> str:
        return (
            f"TAR {self.mapped_tar:.3f} at FAR {self.mapped_far:.2g}, mapped with new embeddings; "
            f"the old embedder has {self.old_tar:.3f} and the new one {self.new_tar:.3f} at FAR "
            f"{self.target:.2g} ({self.people:,} other people, {self.genuine_pairs:,} genuine and "
            f"{self.impostor_pairs:,} impostor pairs)"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Migration:
    """A map from one embedder's embeddings to another's.

    Attributes:
        matrix: float32 ``(D_old, D_new)``.
        old_id, new_id: ids of the embedders, as `Embedder.id_of`.
        price: a `Price`; None until it is measured.
    """

    matrix: npt.NDArray[np.float32]
    old_id: str
    new_id: str
    price: Price | None = None

    def apply(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Maps embeddings ``(N, D_old)`` to float32 ``(N, D_new)``.

        Raises:
            ValueError: the embeddings have another width.
        """
        from keras_facemargin.evaluate.cosine import unit_rows  # late: galleries open without it

        rows = embedding_rows(embeddings)
        if rows.shape[1] != len(self.matrix):
            raise ValueError(
                f"The migration takes embeddings (N, {len(self.matrix)}). "
                f"Received: shape {rows.shape}."
            )
        return (unit_rows(rows, "embeddings") @ self.matrix).astype(np.float32)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the map to a .npz file, in one step."""
        price = None if self.price is None else dataclasses.asdict(self.price)
        with atomic_write(file, "wb") as stream:
            np.savez(
                stream,
                matrix=self.matrix,
                old_id=np.array(self.old_id),
                new_id=np.array(self.new_id),
                price=np.array(json.dumps(price)),
            )

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> "Migration":
        """Reads a map that `save` wrote.

        Raises:
            ValueError: the file is damaged or of another kind.
            OSError: it cannot be opened.
        """
        arrays = read_npz(file)
        try:
            matrix = embedding_rows(arrays["matrix"]).astype(np.float32)
            price = json.loads(str(arrays["price"]))
            return cls(
                matrix,
                str(arrays["old_id"]),
                str(arrays["new_id"]),
                None if price is None else Price(**price),
            )
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{file}: must be a migration, as `Migration.save` writes. Received: a file with "
                f"{', '.join(arrays) or 'nothing'}."
            ) from None


def fit_migration(old: npt.ArrayLike, new: npt.ArrayLike, *, old_id: str, new_id: str) -> Migration:
    """Fits a map from one embedder's space to another's.

    Args:
        old, new: ``(N, D_old)`` and ``(N, D_new)``, embeddings of the same N faces, of many people;
            N is at least 4 D_old. They need no labels.
        old_id, new_id: ids of the embedders.

    Returns:
        A `Migration` without a price. Mapped embeddings have about the length of new ones.

    Raises:
        ValueError: the numbers of faces differ or are too small; an embedding is zero or not
            finite.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> old, turn = rng.normal(size=(100, 8)), np.linalg.qr(rng.normal(size=(8, 8)))[0]
    >>> migration = fit_migration(old, old @ turn, old_id="a", new_id="b")
    >>> mapped, wanted = migration.apply(old[:1]), old[:1] @ turn
    >>> cosine = (mapped @ wanted.T).item() / np.linalg.norm(mapped) / np.linalg.norm(wanted)
    >>> bool(cosine > 0.999)
    True
    """
    from keras_facemargin.evaluate.cosine import unit_rows

    old, new = embedding_rows(old, "old"), embedding_rows(new, "new")
    least = _FACES * old.shape[1]
    if len(old) != len(new) or len(old) < least:
        raise ValueError(
            f"A migration is fitted on the same faces of both embedders, at least {least:,}. "
            f"Received: {len(old):,} and {len(new):,} embeddings."
        )
    x, y = unit_rows(old, "old"), unit_rows(new, "new")
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
    length = float(np.linalg.norm(new.astype(np.float64), axis=1).mean())
    matrix = np.linalg.solve(gram, x.T @ y) * length
    return Migration(matrix.astype(np.float32), old_id, new_id)


def price(
    migration: Migration,
    old: npt.ArrayLike,
    new: npt.ArrayLike,
    *,
    people: npt.ArrayLike,
    far: float = 1e-3,
) -> Migration:
    """Measures a migration on faces of people that it was not fitted on.

    Args:
        migration: a `Migration`.
        old, new: ``(N, D_old)`` and ``(N, D_new)``, embeddings of the same N faces. Of more than
            4,000 the first 4,000 are taken.
        people: ``(N,)``, the person of each face.
        far: false accept rate of the thresholds.

    Returns:
        The `Migration` with its price.

    Raises:
        ValueError: there are fewer than 1 / `far` impostor pairs, or no genuine one.
    """
    from keras_facemargin.evaluate.cosine import unit_rows
    from keras_facemargin.evaluate.verification import threshold_at_far

    (labels,) = identifiers(people=people)
    old, new = embedding_rows(old, "old"), embedding_rows(new, "new")
    if not len(old) == len(new) == len(labels):
        raise ValueError(
            "`old`, `new` and `people` must hold the same faces. Received: "
            f"{len(old):,}, {len(new):,} and {len(labels):,}."
        )
    old, new, labels = (each[:_FACES_OF_PRICE] for each in (old, new, labels))
    one, other = np.triu_indices(len(labels), 1)
    same = labels[one] == labels[other]
    genuine = int(np.count_nonzero(same))
    if not genuine:
        raise ValueError(
            "The price of a migration needs people with two faces. Received: "
            f"{len(labels):,} faces of {len(np.unique(labels)):,} people."
        )
    old_units, new_units = unit_rows(old, "old"), unit_rows(new, "new")
    mapped = unit_rows(migration.apply(old), "mapped")

    def scores(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return (a.astype(np.float32) @ b.T.astype(np.float32))[one, other]

    def at(values: npt.NDArray[np.float32], threshold: float) -> tuple[float, float]:
        accepted = values >= threshold
        return float(accepted[same].mean()), float(accepted[~same].mean())

    of_old, of_new = scores(old_units, old_units), scores(new_units, new_units)
    old_tar, _ = at(of_old, threshold_at_far(of_old[~same], far))
    threshold = threshold_at_far(of_new[~same], far)
    new_tar, _ = at(of_new, threshold)
    # Both orders: the old embedding may be of either face.
    mapped_tar, mapped_far = np.mean(
        [at(scores(mapped, new_units), threshold), at(scores(new_units, mapped), threshold)], axis=0
    )
    return dataclasses.replace(
        migration,
        price=Price(
            far,
            old_tar,
            new_tar,
            float(mapped_tar),
            float(mapped_far),
            len(np.unique(labels)),
            genuine,
            len(same) - genuine,
        ),
    )
