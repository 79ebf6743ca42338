"""Scale and limits of the quality of crops, measured for an embedder on clean faces."""

import typing
from collections.abc import Sequence
from typing import Any

from keras_facemargin.zoo.parts import DEFAULT_FAR, FaceQuality

if typing.TYPE_CHECKING:
    import numpy.typing as npt

    from keras_facemargin.images.image import ImageFile

# Share of the clean crops whose utility is below the limit.
_POOR = 0.02
_PEOPLE = 600


def measure_quality(
    embedder: Any,
    images: "Sequence[ImageFile]",
    labels: "npt.ArrayLike",
    *,
    data: str,
    far: float = DEFAULT_FAR,
    people: int = _PEOPLE,
    progress: bool = True,
) -> FaceQuality | None:
    """Measures the scale of utility and the limits below which an embedder's answer is refused.

    Two crops of each person are embedded clean and under each kind of `DAMAGE`. The limit of
    utility is that of the 2 % worst clean crops. The limit of sharpness is the lowest at which no
    kind of damage accepts more strangers than clean crops do (`sharpness_limit`), the rise of the
    threshold below it the smallest at which none accepts more than 1.5 times as many
    (`threshold_rise`).

    Args:
        embedder: as `keras_facemargin.evaluate.embed`.
        images: aligned crops of people whom the embedder was not trained on.
        labels: the person on each.
        data: description of the faces, for the card.
        far: false accept rate of the threshold.
        people: people to draw of those with two images.
        progress: whether to draw progress bars on standard error.

    Returns:
        A `FaceQuality`; None if the people with two images have fewer than ``1 / far`` impostor
        pairs.

    Raises:
        ValueError, OSError: as `keras_facemargin.evaluate.embed`.
    """
    import numpy as np

    from keras_facemargin.evaluate.degraded import (
        DAMAGE,
        clean_threshold,
        count_pairs,
        draw_people,
        judge_faces,
        read_sides,
        refused_share,
        sharpness_limit,
        threshold_rise,
    )
    from keras_facemargin.quality import norm_weight

    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    with_two = min(int(np.count_nonzero(counts > 1)), people)
    if with_two * (with_two - 1) * far < 1:
        return None
    sides = draw_people(images, np.asarray(labels).tolist(), people)
    crops = read_sides(embedder, sides)
    clean = judge_faces(embedder, crops, progress=progress)
    assert clean.norms is not None and clean.agreements is not None  # with mirror images
    weight = norm_weight(clean.norms, clean.agreements)
    raw = weight * np.log(clean.norms) + clean.agreements
    threshold = clean_threshold(clean, far)
    bad = {kind: judge_faces(embedder, crops, kind, progress=progress) for kind in DAMAGE}
    limit = sharpness_limit(bad, threshold, far=far)
    draft = FaceQuality(
        data=data,
        people=len(sides[0]),
        crops=2 * len(sides[0]),
        norm_weight=weight,
        raw_utilities=tuple(np.quantile(raw, np.linspace(0, 1, 101)).tolist()),
        utility=_POOR,
        sharpness=limit,
        threshold_rise=threshold_rise(bad, threshold, limit, far=far),
        far=far,
        refused=0.0,
        far_times={},
    )
    found = {kind: count_pairs(each, each, kind, threshold, draft) for kind, each in bad.items()}
    times = {
        kind: (
            each.fmr / far,
            typing.cast(int, each.answered_false_accepts) / each.impostors / far,
        )
        for kind, each in found.items()
    }
    return draft.model_copy(update={"refused": refused_share(clean, draft), "far_times": times})
