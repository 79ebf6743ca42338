"""What is trained for each paper: recipes of `zoo/recipes` with changes.

A study has the settings that lie on a paper's own axis, and its baselines. Studies share settings:
each is trained once for a seed, whatever studies it is in.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "zoo" / "recipes"
RESULTS = ROOT / "zoo" / "results" / "reproduce.csv"
SEEDS = (0, 1, 2)


class Setting(NamedTuple):
    """A recipe, `PAPER/NAME`, and changes as `facemargin train --set` takes them."""

    recipe: str
    changes: tuple[str, ...] = ()


class Study(NamedTuple):
    """Baselines are lines in the figure, settings with numbers points over their first change.

    In a study that chooses, each setting trains with the first seed, and View 1 chooses one setting
    of each recipe. Only these train with the other seeds, and the table shows only these.
    """

    baselines: tuple[Setting, ...]
    settings: tuple[Setting, ...]
    chooses: bool = False

    @property
    def all_settings(self) -> list[Setting]:
        return [*self.baselines, *self.settings]


def _sweep(recipe, key, values, *more):
    return [Setting(recipe, (f"{key}={value}", *more)) for value in values]


_L2 = "l2_softmax/l2_softmax"
_SPHERE = "sphereface/sphereface"
_COSINE = "cosface/cosface"
_ARC = "heads/arcface"
_SV_AM = "sv_softmax/sv_am_softmax"
_SOFTMAX = Setting("l2_softmax/softmax")
# lambda is 0 in every step
_AT_ONCE = ("head.base=0.0", "head.minimum=0.0")
_HARDNESS = ("head.hardness", (1.1, 1.2, 1.3))  # 1.0 is the loss without support vectors

STUDIES = {
    # Below the bound of alpha, 10.8 for 5,600 people at p = 0.9, training should fail.
    "l2_softmax": Study(
        (_SOFTMAX,),
        (
            *_sweep(_L2, "head.alpha", (4.0, 8.0, 12.0, 16.0, 32.0, 64.0)),
            Setting(_L2, ("head.trainable_alpha=true",)),
        ),
    ),
    # The depths are convolutions before the last layer: 4, 6, 12, 20.
    "sphereface": Study(
        (_SOFTMAX,),
        (
            *_sweep(_SPHERE, "head.margin", (1, 2, 3, 4)),
            *_sweep(_SPHERE, "head.margin", (2, 4), *_AT_ONCE),
            *_sweep(_SPHERE, "embedder.arguments.depths", ("[0,0,0,0]", "[0,1,2,1]", "[1,2,4,1]")),
        ),
    ),
    # The bound of the scale is 10.8 for 5,600 people at P = 0.9. SphereFace's m = 1 normalises the
    # prototypes, and not the features.
    "cosface": Study(
        (Setting(_SPHERE, ("head.margin=1",)),),
        (
            *_sweep(_COSINE, "head.margin", (0.0, 0.1, 0.2, 0.35, 0.45)),
            *_sweep(_COSINE, "head.scale", (8.0, 16.0, 64.0)),
        ),
    ),
    # The loss is that of L2-softmax, 50 is the paper's alpha.
    "crystal": Study(
        (_SOFTMAX,),
        (
            *_sweep(_L2, "head.alpha", (16.0, 32.0, 64.0)),
            Setting("crystal/crystal", ("head.alpha=50.0",)),
        ),
    ),
    "sv_softmax": Study(
        (
            Setting(_COSINE, ("head.margin=0.0",)),
            Setting(_COSINE, ("head.margin=0.35",)),
            Setting(_ARC, ("head.margin=0.5",)),
        ),
        (
            *_sweep("sv_softmax/sv_softmax", *_HARDNESS),
            *_sweep(_SV_AM, *_HARDNESS),
            *_sweep("sv_softmax/sv_arc_softmax", *_HARDNESS),
        ),
    ),
    # Each head with three margins, or what it has instead.
    "heads": Study(
        (),
        (
            _SOFTMAX,
            *(Setting(f"heads/{name}") for name in ("normface", "adacos", "magface")),
            *_sweep(_L2, "head.alpha", (12.0, 16.0, 32.0)),
            *_sweep("heads/circle_loss", "head.margin", (0.15, 0.25, 0.35)),
            *_sweep("heads/large_margin_softmax", "head.margin", (2, 3, 4)),
            *_sweep(_SPHERE, "head.margin", (2, 3, 4)),
            *_sweep("heads/sphereface_r", "head.margin", (1.2, 1.4, 1.7)),
            *_sweep("heads/sphereface2", "head.margin", (0.2, 0.3, 0.4)),
            *_sweep("heads/combined_margin", "head.m2", (0.1, 0.2, 0.3)),
            *_sweep(_COSINE, "head.margin", (0.1, 0.2, 0.35)),
            *_sweep("heads/ldam", "head.margin.by_class_size", (0.2, 0.35, 0.5)),
            *_sweep(_SV_AM, "head.margin", (0.1, 0.2)),
            Setting(_SV_AM, ("head.hardness=1.2",)),  # its margin is 0.35
            *(
                Setting(recipe, (f"head.margin={margin}",))
                for recipe in (_ARC, "heads/subcenter_arcface", "heads/curricularface")
                for margin in (0.2, 0.3, 0.5)
            ),
            *(
                Setting(f"heads/{name}", (f"head.margin={margin}",))
                for name in ("elasticface", "adaface", "mv_softmax", "uniface")
                for margin in (0.1, 0.2, 0.35)
            ),
        ),
        chooses=True,
    ),
}


def chosen(rows, settings):
    """Of each recipe the setting with the best View 1 in the rows of the first seed.

    A recipe without a row for each of its settings is left out: another process may train it.
    """
    view_1 = {
        Setting(row["recipe"], tuple(row["changes"].split())): float(row["view1"])
        for row in rows
        if row["seed"] == str(SEEDS[0])
    }
    of_recipe: dict[str, list[Setting]] = {}
    for setting in settings:
        of_recipe.setdefault(setting.recipe, []).append(setting)
    return [
        max(own, key=view_1.__getitem__)
        for own in of_recipe.values()
        if all(setting in view_1 for setting in own)
    ]
