"""What is trained for each paper: recipes of `zoo/recipes/PAPER` with changes.

Settings that lie on a paper's own axis, and its baseline. The tables and figures name a setting by
its recipe and its changes.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "zoo" / "results" / "reproduce.csv"


class Setting(NamedTuple):
    """A recipe of the paper's folder, and changes as `facemargin train --set` takes them."""

    recipe: str
    changes: tuple[str, ...] = ()


def _sweep(recipe, key, values, *more):
    return [Setting(recipe, (f"{key}={value}", *more)) for value in values]


# lambda is 0 in every step
_AT_ONCE = ("head.base=0.0", "head.minimum=0.0")

STUDIES = {
    # Below the bound of alpha, 10.8 for 5,600 people at p = 0.9, training should fail.
    "l2_softmax": [
        Setting("softmax"),
        *_sweep("l2_softmax", "head.alpha", (4.0, 8.0, 12.0, 16.0, 32.0, 64.0)),
        Setting("l2_softmax", ("head.trainable_alpha=true",)),
    ],
    # The depths are convolutions before the last layer: 4, 6, 12, 20.
    "sphereface": [
        *_sweep("sphereface", "head.margin", (1, 2, 3, 4)),
        *_sweep("sphereface", "head.margin", (2, 4), *_AT_ONCE),
        *_sweep("sphereface", "embedder.arguments.depths", ("[0,0,0,0]", "[0,1,2,1]", "[1,2,4,1]")),
    ],
    # The bound of the scale is 10.8 for 5,600 people at P = 0.9.
    "cosface": [
        *_sweep("cosface", "head.margin", (0.0, 0.1, 0.2, 0.35, 0.45)),
        *_sweep("cosface", "head.scale", (8.0, 16.0, 64.0)),
        Setting("modified_softmax"),  # prototypes normalised, features not
    ],
    "crystal": _sweep("crystal", "head.alpha", (16.0, 40.0, 50.0)),
    "sv_softmax": [
        Setting(recipe, (f"head.hardness={hardness}",))
        for recipe in ("sv_softmax", "sv_am_softmax", "sv_arc_softmax")
        for hardness in (1.0, 1.1, 1.2, 1.3)
    ],
    # Each head with three margins (or what it has instead); View 1 chooses.
    "heads": [
        *(Setting(name) for name in ("softmax", "normface", "adacos", "magface")),
        *_sweep("l2_softmax", "head.alpha", (16.0, 24.0, 40.0)),
        *_sweep("circle_loss", "head.margin", (0.15, 0.25, 0.35)),
        *_sweep("large_margin_softmax", "head.margin", (2, 3, 4)),
        *_sweep("sphereface", "head.margin", (2, 3, 4)),
        *_sweep("sphereface_r", "head.margin", (1.2, 1.4, 1.7)),
        *_sweep("sphereface2", "head.margin", (0.2, 0.3, 0.4)),
        *_sweep("combined_margin", "head.m2", (0.1, 0.2, 0.3)),
        *(
            Setting(name, (f"head.margin={margin}",))
            for name in ("arcface", "subcenter_arcface", "curricularface")
            for margin in (0.2, 0.3, 0.5)
        ),
        *(
            Setting(name, (f"head.margin={margin}",))
            for name in ("cosface", "elasticface", "adaface", "mv_softmax", "sv_softmax", "uniface")
            for margin in (0.1, 0.2, 0.35)
        ),
    ],
}
