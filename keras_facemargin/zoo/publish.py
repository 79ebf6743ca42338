"""Your own embedder as a folder that others open: card, weights, and a page for the hub.

The folder is a repository of the Hugging Face hub, or a folder of any web server.
"""

import json
import os
from pathlib import Path
from typing import Any

from keras_facemargin.download import FetchError, read_address
from keras_facemargin.files import atomic_write
from keras_facemargin.zoo.card import CARD, Card
from keras_facemargin.zoo.card_file import read_card, write_card
from keras_facemargin.zoo.catalogue import check_weights, find_place
from keras_facemargin.zoo.parts import FolderSource, Measured

PAGE = "README.md"

# SPDX identifiers that the hub lists; every other licence is "other" there.
_HUB_LICENSES = {
    "apache-2.0",
    "mit",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "bsd-3-clause",
    "gpl-3.0",
}


def publish_folder(folder: str | os.PathLike[str]) -> Path:
    """Prepares a folder with a card and its weights for publication.

    The weights are compared with the card; the card names its own folder as its first source and
    gets a golden embedding, with which `verify_embedder` proves a copy; and `README.md` is written
    from the card, with the fields that the hub reads.

    Args:
        folder: with `card.json` and the file that it describes, as `finetune`, `calibrate` or
            `facemargin zoo fetch` writes it.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: the card or the weights are missing.
        ValueError: the file is not a card, or the weights are not its weights; the ledger has no
            statement about the weights.
        OSError: a file cannot be written.
    """
    place = Path(folder)
    if not (place / CARD).is_file():
        raise FileNotFoundError(
            f"A published folder needs a card. Received: {place}, without {CARD}. `facemargin "
            "calibrate FACES --model FILE` writes one."
        )
    card = read_card(place / CARD)
    check_weights(card, place / CARD, place / card.weights.file)
    if not any(entry.part == "weights" for entry in card.license):
        raise ValueError(
            f"{place / CARD}: `license` must have an entry with the part 'weights' before the "
            f"folder is published. Received: {[str(entry) for entry in card.license]}. Add the "
            "licence of your weights and the person or page that states it."
        )
    beside = FolderSource(kind="folder")
    others = tuple(source for source in card.sources if source != beside)
    whole = card.changed(sources=(beside, *others))
    if card.golden is None:
        from keras_facemargin.zoo.parity import golden_of

        whole = whole.changed(golden=golden_of(place / card.weights.file, card))
    if whole != card:
        write_card(place / CARD, whole)
    card = whole
    with atomic_write(place / PAGE) as file:
        file.write(page(card))
    return place / PAGE


def read_back(folder: str | os.PathLike[str], address: str) -> tuple[str, ...]:
    """Compares a published folder with its address, byte by byte.

    Args:
        folder: as `publish_folder` left it.
        address: ``hf://OWNER/NAME[@REVISION]`` or ``https://...``.

    Returns:
        Names of the files that were compared.

    Raises:
        ValueError: a file at the address has other bytes.
        FetchError: a file cannot be read.
    """
    base = find_place(address).base_url
    if base is None:
        raise ValueError(
            f"An address must begin with hf:// or https:// and name a folder. Received: {address!r}"
        )
    place = Path(folder)
    names = (CARD, read_card(place / CARD).weights.file, PAGE)
    for name in names:
        own = (place / name).read_bytes()
        try:
            there = read_address(f"{base}/{name}", most=len(own))
        except FetchError as error:
            raise FetchError(f"{name} cannot be read back. Received: {error}") from None
        if there != own:
            raise ValueError(
                f"{name} at {address} must be the file in {place}. Received: "
                f"{len(there):,} other bytes. Upload the folder again."
            )
    return names


def page(card: Card) -> str:
    """The page of a card, Markdown with the front matter of the Hugging Face hub.

    Args:
        card: a `Card`.

    Returns:
        The text of `README.md`.
    """
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in _front(card).items()), "---"]
    lines += ["", f"# {card.name}", "", card.description, ""]
    lines += [
        "```python",
        "from keras_facemargin import load_embedder",
        "",
        'embedder = load_embedder("hf://OWNER/NAME")  # or the path of this folder',
        "```",
        "",
        f"Input: aligned face crops, {card.input.crop.height}x{card.input.crop.width}, RGB 0..255. "
        f"Output: {card.embedding_dim} numbers, not normalised. Network: {card.architecture}.",
        "",
        f"Embedding id: `{card.embedding_id}`. Embeddings with different ids must not be compared.",
    ]
    for one in card.measured:
        lines += ["", f"{one}. Measured with `{one.command}`. {one.notes}"]
    if card.groups is not None:
        about, *others = card.groups.sentences
        lines += ["", "## Errors by group", "", about, "", card.groups.table, "", *others]
    for title, items in (
        ("Named bars", card.bars),
        ("Licence", (*map(str, card.license), *card.license_conflicts)),
        ("Lineage", card.lineage),
        ("Notes", card.notes),
    ):
        if items:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in items)]
    if not card.commercial_use:
        lines += ["", "The licence ledger does not clear commercial use."]
    return "\n".join([*lines, "", f"**Caution.** {card.caution}", ""])


def _front(card: Card) -> dict[str, Any]:
    """The fields of the hub; a JSON value is a YAML value."""
    words = [entry.license for entry in card.license if entry.part == "weights"]
    spdx = words[0].lower() if len(set(words)) == 1 else ""
    front: dict[str, Any] = {"license": spdx if spdx in _HUB_LICENSES else "other"}
    if front["license"] == "other":
        front |= {"license_name": "see-the-licence-ledger", "license_link": CARD}
    front |= {
        "library_name": "keras",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["keras", "keras_facemargin", "face-recognition", "face-verification"],
    }
    if card.measured:
        front["model-index"] = [{"name": card.name, "results": list(map(_result, card.measured))}]
    return front


def _result(one: Measured) -> dict[str, Any]:
    kind = "mirrored" if one.mirrored else "single"
    return {
        "task": {"type": "face-verification", "name": "Face verification"},
        "dataset": {"type": one.protocol, "name": one.protocol.upper()},
        "metrics": [{"type": "accuracy", "value": one.accuracy, "name": f"accuracy, {kind}"}],
    }
