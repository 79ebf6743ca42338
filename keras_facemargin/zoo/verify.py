"""Proof that an embedder on this machine is the one that its card describes."""

import dataclasses
import os
from pathlib import Path

from keras_facemargin.zoo.card import Card
from keras_facemargin.zoo.load import find_weights, load_embedder


@dataclasses.dataclass(frozen=True)
class Verified:
    """An embedder that agrees with its card.

    Attributes:
        card: its card.
        file: its weights' file, whose size and SHA-256 are the card's.
        cosine: between the golden embedding on the card and the embedder's; None if the card has
            none.
    """

    card: Card
    file: Path
    cosine: float | None


def verify_embedder(model: str | os.PathLike[str]) -> Verified:
    """Compares an embedder with its card: size, digest, figures and golden embedding.

    Args:
        model: as `load_embedder`.

    Returns:
        A `Verified`.

    Raises:
        FileNotFoundError, FetchError: as `load_embedder`.
        ValueError: the file, a figure or the golden embedding differs.

    Example:

    >>> verify_embedder("spherenet_distilled").card.name
    'spherenet_distilled'
    """
    card, file = find_weights(model)
    embedder = load_embedder(model)
    if card.golden is None:
        return Verified(card, file, None)
    from keras_facemargin.zoo.parity import cosine, embed_crop, golden_crop, prove

    prove(embedder, card, file)
    found = embed_crop(embedder, golden_crop(card.golden.crop, card.crop))
    return Verified(card, file, cosine(found, card.golden.embedding))
