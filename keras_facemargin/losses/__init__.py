"""Pairwise losses, those of tensorflow-addons among them, as Keras 3 losses on every backend.

```
model = keras.Sequential([embedder, keras.layers.UnitNormalization()])
model.compile("adam", loss=TripletSemiHardLoss(margin=0.2))
model.fit(images, labels)
```

`distances` holds the metrics, `loss` what the losses share, and each further file a paper's loss.
Results are tensorflow-addons' 0.23, in value and gradient, wherever those are finite, except where
a class says otherwise under "where implementations differ".
"""

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
]
