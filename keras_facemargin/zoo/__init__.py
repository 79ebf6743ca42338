"""Model cards, and the loader for pretrained embedders.

A pretrained model is a record, not code. Its folder `zoo/NAME/` holds `card.json` (how it was made,
what may be done with it, how well it does, at which thresholds) and the weights. The folder travels
inside the wheel as `keras_facemargin/zoo_cards`. `finetune` and `calibrate` write such a folder for
an embedder of your own; it opens by its path.
"""

import typing

from keras_facemargin.zoo.calibration import calibrate, fit_likelihood
from keras_facemargin.zoo.card import (
    CARD,
    CAUTION,
    Card,
    describe,
    describe_file,
    digest_of,
    keras_card,
)
from keras_facemargin.zoo.card_file import read_card, write_card
from keras_facemargin.zoo.catalogue import (
    DIRECTORY,
    card_path,
    find_card,
    list_embedders,
    load_card,
)
from keras_facemargin.zoo.face_quality import measure_quality
from keras_facemargin.zoo.load import copy_weights, find_weights, load_embedder
from keras_facemargin.zoo.parts import (
    FaceQuality,
    GroupErrors,
    Groups,
    Input,
    LicenseEntry,
    Likelihood,
    Measured,
    Published,
    Threshold,
    Thresholds,
    Training,
    Weights,
)
from keras_facemargin.zoo.publish import publish_folder, read_back
from keras_facemargin.zoo.verify import Verified, verify_embedder

if typing.TYPE_CHECKING:
    from keras_facemargin.zoo.open import (
        Embedder,
        card_place,
        open_embedder,
        runs_as_it_is,
        states_its_input,
    )

__all__ = [
    "CARD",
    "CAUTION",
    "DIRECTORY",
    "Card",
    "Embedder",
    "FaceQuality",
    "GroupErrors",
    "Groups",
    "Input",
    "LicenseEntry",
    "Likelihood",
    "Measured",
    "Published",
    "Threshold",
    "Thresholds",
    "Training",
    "Verified",
    "Weights",
    "calibrate",
    "card_path",
    "card_place",
    "copy_weights",
    "describe",
    "describe_file",
    "digest_of",
    "find_card",
    "find_weights",
    "fit_likelihood",
    "keras_card",
    "list_embedders",
    "load_card",
    "load_embedder",
    "measure_quality",
    "open_embedder",
    "publish_folder",
    "read_back",
    "read_card",
    "runs_as_it_is",
    "states_its_input",
    "verify_embedder",
    "write_card",
]

_OPENING = ("Embedder", "card_place", "open_embedder", "runs_as_it_is", "states_its_input")


def __getattr__(name: str) -> typing.Any:
    """The names of `zoo.open`, which needs NumPy; cards are listed without it."""
    if name not in _OPENING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_facemargin.zoo import open as opening

    return getattr(opening, name)
