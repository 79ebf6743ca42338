"""Error-versus-discard curves: what the quality of images is worth on these pairs."""

from collections.abc import Mapping

import numpy.typing as npt

from keras_facemargin.evaluate.discard import ErrorVersusDiscard, error_versus_discard
from keras_facemargin.evaluate.plots import plot_error_versus_discard
from keras_facemargin.evaluate.verification import Pairs, Verification
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.page import Report

# The FAR of the fixed threshold, or the next one that this many impostor pairs decide.
FARS = (1e-3, 1e-2, 1e-1)
DECIDING = 3


def discard_curves(
    qualities: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None,
    result: Verification,
    pairs: Pairs,
    resampling: Resampling,
) -> dict[str, ErrorVersusDiscard]:
    """An `ErrorVersusDiscard` for each quality; none without qualities or with too few pairs."""
    far = decided_far(result)
    if not qualities or far is None:
        return {}
    return {
        name: error_versus_discard(
            result.scores,
            result.same,
            sides,
            far=far,
            people=pairs.people,
            replicates=resampling.replicates,
            seed=resampling.seed,
        )
        for name, sides in qualities.items()
    }


def decided_far(result: Verification) -> float | None:
    """The FAR of the fixed threshold; None with too few impostor pairs."""
    return next((far for far in FARS if far * result.impostors >= DECIDING), None)


def add_discards(
    page: Report, found: Mapping[str, ErrorVersusDiscard], result: Verification
) -> None:
    """Adds the curves and their table."""
    if not found:
        return
    first, *_ = found.values()
    page.figure(
        plot_error_versus_discard(found),
        f"Error versus discard: FNMR at the fixed threshold {first.threshold:.4f}, that of FAR "
        f"{decided_far(result):g} on these pairs, after the pairs of the lowest quality are "
        "discarded. Quality of a pair: the lower one of its images. "
        "Dashed: where a quality score that is noise stays. Utility: norm of the embedding and its "
        "agreement with the mirror image. Sharpness: pixels between the eyes, which predicts false "
        "accepts of blurred faces; on sharp pictures it says little about false rejects.",
    )
    page.table(
        ("Genuine pairs discarded", *(f"FNMR by {name}" for name in found)),
        [
            [f"{share:.0%}", *(_rate(each, place) for each in found.values())]
            for place, share in enumerate(first.fractions)
        ]
        + [["mean, 0 to 20%", *(_area(each) for each in found.values())]],
        "With intervals over people, where the list names them; the threshold is the same in every "
        "draw.",
    )


def _rate(found: ErrorVersusDiscard, place: int) -> str:
    ends = f" ({found.fnmr_intervals[place]})" if found.fnmr_intervals else ""
    return f"{found.fnmr[place]:.2%}{ends}"


def _area(found: ErrorVersusDiscard) -> str:
    ends = f" ({found.area_interval})" if found.area_interval else ""
    return f"{found.area:.2%}{ends}"
