"""Pairwise losses, those of tensorflow-addons among them, as Keras 3 losses on every backend.

```
model = keras.Sequential([embedder, keras.layers.UnitNormalization()])
model.compile("adam", loss=TripletSemiHardLoss(margin=0.2))
model.fit(images, labels)
```

`distances` holds the metrics, `loss` what the losses share, and each further file a paper's loss.
Values and gradients equal those of tensorflow-addons 0.23 wherever the latter are finite, except
where a class says so under "where implementations differ".
"""

import keras

from keras_facemargin.heads.names import get_object
from keras_facemargin.losses.center import CenterLoss
from keras_facemargin.losses.contrastive import ContrastiveLoss
from keras_facemargin.losses.lifted import LiftedStructLoss
from keras_facemargin.losses.npairs import NpairsLoss, NpairsMultilabelLoss
from keras_facemargin.losses.triplet import TripletHardLoss, TripletSemiHardLoss

__all__ = [
    "CenterLoss",
    "ContrastiveLoss",
    "LiftedStructLoss",
    "NpairsLoss",
    "NpairsMultilabelLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "get",
    "list",
]

_CLASSES = {name: globals()[name] for name in __all__ if name[0].isupper()}


def get(identifier, **arguments):
    """A loss of this room by its name, as `keras.losses.get` finds one of Keras'.

    Args:
        identifier: a loss's name in any common spelling ("TripletHardLoss", "triplet_hard_loss"),
            its serialized config (a dict with "class_name" and "config"), a class, or a loss, which
            is returned unchanged.
        **arguments: of the constructor; they override a config's.

    Returns:
        A `keras.losses.Loss`, or a `CenterLoss`.

    Raises:
        ValueError: no loss has that name (the error lists the nearest names); an argument
            is out of range.

    Example:

    >>> get("triplet_semi_hard_loss", margin=0.2).margin
    0.2
    """
    return get_object("loss", identifier, (keras.losses.Loss, CenterLoss), _CLASSES, arguments)


def list():
    """Names of all losses, sorted.

    Example:

    >>> list()[:2]
    ['CenterLoss', 'ContrastiveLoss']
    """
    return sorted(_CLASSES)
