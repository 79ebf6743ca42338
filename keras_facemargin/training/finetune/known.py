"""People of an earlier fine-tuning: they keep their prototypes."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.files import read_text
from keras_facemargin.saving import open_model

CLASSIFIER, REPORT = "classifier.keras", "report.json"
_LEAD = 0.1  # by how much another person's prototype must be nearer, to contradict a label


@dataclasses.dataclass(frozen=True)
class Known:
    """The classes of an earlier classifier.

    Attributes:
        folder: where it is.
        identities: list of the people, in the order of the prototypes.
        prototypes: float (C, D), or (C, K, D) with sub-centres.
    """

    folder: Path
    identities: list[Any]
    prototypes: npt.NDArray[Any]


def find_known(folder: str | os.PathLike[str]) -> Known | None:
    """The people that an embedder was fine-tuned on; None if the folder is not from `finetune`.

    Args:
        folder: a model, as `load_embedder` takes it.

    Raises:
        ValueError, OSError: as `read_known`.
    """
    place = Path(folder)
    if not ((place / CLASSIFIER).is_file() and (place / REPORT).is_file()):
        return None
    return read_known(place)


def read_known(folder: str | os.PathLike[str]) -> Known:
    """Reads the people and prototypes in a folder that `FineTuned.save` wrote.

    Args:
        folder: the folder.

    Raises:
        ValueError: a file is damaged, or the two files disagree.
        OSError: a file cannot be read.
    """
    place = Path(folder)
    rule = f"{place} must be a folder that `finetune` wrote."
    try:
        identities = json.loads(read_text(place / REPORT, "a report"))["identities"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{rule} Received: a {REPORT} that does not list `identities`. Fine-tune from its "
            "embedder.keras instead: all people are new then."
        ) from None
    try:
        head = open_model(place / CLASSIFIER).head
        prototypes = np.array(head.prototypes)[: head.num_classes]
    except OSError:
        raise
    except Exception as error:  # Keras raises a different type for each way to be broken
        raise ValueError(
            f"{rule} Received: a {CLASSIFIER} that cannot be opened: {error}"
        ) from error
    if not isinstance(identities, list) or len(identities) != len(prototypes):
        raise ValueError(
            f"{rule} Received: {len(prototypes)} prototypes in {CLASSIFIER} and "
            f"{len(identities)} people in {REPORT}. The files are of two runs: remove {CLASSIFIER} "
            "to start with new people."
        )
    return Known(place, identities, prototypes)


def refuse_contradictions(
    known: Known, identities: list[Any], means: npt.NDArray[Any], *, source: str
) -> None:
    """Refuses a known name whose images now show another person.

    Args:
        known: the earlier people.
        identities: all people, the known ones first.
        means: (N, D) unit mean embeddings of the people that have images, in the order of
            `identities`; rows of zeros for the others.
        source: where the images are.

    Raises:
        ValueError: the images of a known person are clearly nearer to another known person.
    """
    rows = known.prototypes
    rows = rows[:, 0] if rows.ndim == 3 else rows
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines = means[: len(rows)] @ rows.T
    own = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    nearest = cosines.argmax(axis=1)
    lead = np.where(means[: len(rows)].any(axis=1), cosines.max(axis=1) - own, -np.inf)
    worst = int(lead.argmax())
    if lead[worst] > _LEAD:
        raise ValueError(
            f"A known person must keep the name. Received: {identities[worst]!r} in {source}, "
            f"whose images have cosine {own[worst]:.2f} to {identities[worst]!r} of "
            f"{known.folder} and {cosines[worst, nearest[worst]]:.2f} to "
            f"{identities[nearest[worst]]!r}. Correct the folder, or fine-tune from "
            f"{known.folder / 'embedder.keras'}: all people are new then."
        )
