"""Plots of results, as matplotlib figures.

Without pyplot: nothing is shown and no global state changes. Call ``figure.savefig(path)`` or
pass the figure to `keras_facemargin.report.Report`.
"""

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale.histogram import ScoreHistogram
from keras_facemargin.evaluate.degraded import Degraded
from keras_facemargin.evaluate.discard import AREA_TO, ErrorVersusDiscard
from keras_facemargin.evaluate.uncertainty.groups import Group
from keras_facemargin.evaluate.uncertainty.resampling import Bootstrap, interval
from keras_facemargin.evaluate.uncertainty.search_draws import DistractorDraws, SearchDraws
from keras_facemargin.evaluate.verification.curve import Roc, checked_pairs
from keras_facemargin.evaluate.verification.likelihood import (
    empirical_cross_entropy,
    isotonic_ratios,
)
from keras_facemargin.evaluate.verification.pairs import Pairs
from keras_facemargin.images.image import read_thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Curves = Mapping[str, Roc | Sequence[Roc]]
Bands = Mapping[str, Bootstrap] | Mapping[str, SearchDraws]
Kinds = tuple[str, str]


class Staircase(NamedTuple):
    """At most 1,000 exact points of a curve, or of the mean of several."""

    genuines: int
    far: npt.NDArray[Any]
    tar: npt.NDArray[Any]  # the mean
    each: npt.NDArray[Any]  # a row for each curve


# Okabe and Ito's colours, which colour-blind readers can distinguish.
GENUINE, IMPOSTOR = "#0072b2", "#d55e00"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, GREY = "#222222", "#8a8a8a"
SCORE_BINS = 80
KINDS = "genuine pairs", "impostor pairs"
ACCEPTS = "False accept rate (FAR)", "impostor pair"
ALARMS = "False positive identification rate (FPIR)", "non-mated probe"

# A protocol may list a pair once in each of its splits.
TIMES_LISTED = 20

SHADE: Mapping[str, Any] = types.MappingProxyType({"alpha": 0.15, "linewidth": 0})


def plot_roc(curves: Curves, *, bands: Bands | None = None) -> "Figure":
    """ROC curves over a logarithmic FAR axis, drawn only where there are pairs to support them.

    Each curve is a staircase: at every FAR the largest TAR of `tar_at_far`. It starts with a dot at
    ``1 / impostors``; nothing is measured to the left of it.

    Args:
        curves: dict of name -> `Roc`, or a list of them, of splits: their mean is drawn, and each
            of several thin. A curve of the hardest pairs (`Roc.with_all`) is drawn as far as it is
            known.
        bands: dict of name -> `Bootstrap`, or draws of searches: the middle 95 % of the TARs at
            each FAR, shaded.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if `curves` is empty.
    """
    labels = {}
    for name, each in curves.items():
        each = _several(each)
        labels[name] = name
        if all(_whole(curve) for curve in each):
            area, equal = (np.mean([f(c) for c in each]) for f in (Roc.area, Roc.equal_error_rate))
            labels[name] += f"   AUC {area:.4f}   EER {equal:.2%}"
    return _rates_figure(curves, bands, labels, ("True accept rate (TAR)", *ACCEPTS))


def plot_open_set(curves: Curves, *, bands: Bands | None = None) -> "Figure":
    """TPIR over a logarithmic FPIR axis, drawn only where non-mated probes support it.

    Args:
        curves: dict of name -> `Identification.open_set`, or a list of them, of splits or
            galleries: their mean is drawn, and each of several thin.
        bands: dict of name -> `SearchDraws`.

    Returns, raises: as `plot_roc`.
    """
    words = "True positive identification rate (TPIR)", *ALARMS
    return _rates_figure(curves, bands, dict(zip(curves, curves, strict=True)), words)


def plot_cmc(
    curves: Mapping[str, npt.NDArray[Any]],
    *,
    bands: Mapping[str, SearchDraws] | Mapping[str, DistractorDraws] | None = None,
) -> "Figure":
    """Cumulative match characteristics: the share of mated probes found at each rank or before.

    Args:
        curves: dict of name -> the rates of rank 1, 2, ..., ``(R,)``.
        bands: dict of name -> `SearchDraws`, of as many ranks.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if `curves` is empty.
    """
    _check_curves(curves)
    figure = _figure(7.0, 3.8)
    axes = figure.subplots()
    for number, (name, rates) in enumerate(curves.items()):
        color, ranks = CURVES[number % len(CURVES)], np.arange(1, len(rates) + 1)
        axes.step(ranks, rates, where="post", color=color, linewidth=1.8, label=name)
        axes.plot(1, rates[0], "o", color=color, markersize=4.5, clip_on=False)
        if bands:
            ends = [interval(column) for column in bands[name].cmc.T]
            low, high = [end.low for end in ends], [end.high for end in ends]
            axes.fill_between(ranks, low, high, step="post", color=color, **SHADE)
    axes.set(xscale="log", xlim=(1, max(map(len, curves.values()))), xlabel="Rank")
    axes.set(ylabel="Share of mated probes found", ylim=_room(min(r[0] for r in curves.values())))
    axes.xaxis.set_major_formatter("{x:g}")
    _dress(axes)
    axes.legend(loc="lower right", frameon=True, framealpha=0.95, edgecolor="none", fontsize=9)
    return figure


def plot_det(curves: Curves, *, bands: Bands | None = None) -> "Figure":
    """DET curves: FNMR over FMR (FAR), both logarithmic, to distinguish small errors.

    Arguments, errors and support are those of `plot_roc`. An FNMR of 0 is not on the axis: the
    curve ends where fewer than one genuine pair is rejected.
    """
    stairs = _staircases(curves)
    figure = _figure(7.0, 4.6)
    axes = figure.subplots()
    for number, (name, (_, far, tar, each)) in enumerate(stairs.items()):
        color = CURVES[number % len(CURVES)]
        misses, of_each = (np.where(rates < 1, 1 - rates, np.nan) for rates in (tar, each))
        axes.step(far, misses, where="post", color=color, linewidth=1.8, label=name)
        axes.plot(far[:1], misses[:1], "o", color=color, markersize=4.5, clip_on=False)
        _add_splits(axes, far, of_each, color)
        if bands:
            band_far, low, high = _band(bands[name])
            axes.fill_between(band_far, 1 - high, 1 - low, step="post", color=color, **SHADE)
    fewest = 1 / max(genuines for genuines, *_ in stairs.values())
    axes.set(ylim=(fewest / 1.5, 1), ylabel="False non-match rate (FNMR)")
    axes.set_yscale("log")  # with its limits set: there may be no error to take them from
    _dress(axes)
    _far_axis(axes, stairs, "False match rate (FMR, FAR)", "impostor pair")
    axes.legend(loc="upper right", frameon=True, framealpha=0.95, edgecolor="none", fontsize=9)
    return figure


def plot_groups(rates: Sequence[Group]) -> "Figure":
    """FMR and FNMR of every group at one threshold, with their intervals.

    Args:
        rates: the result of `rates_by_group`.

    Returns:
        A `matplotlib.figure.Figure`: a row for each group, FMR on the left and FNMR on the right;
        the dashed line is the rate of all pairs.

    Raises:
        ImportError: if matplotlib is missing.
    """
    figure = _figure(7.0, 1.1 + 0.36 * len(rates))
    both = figure.subplots(1, 2, sharey=True)
    for axes, kind, color in zip(both, ("fmr", "fnmr"), (IMPOSTOR, GENUINE), strict=True):
        for row, group in enumerate(rates):
            found = getattr(group, kind)
            if found.rate is None:
                axes.text(0, row, " no pairs", va="center", color=GREY, fontsize=9)
                continue
            ends = [found.interval.low, found.interval.high]
            axes.plot(ends, [row, row], color=color, linewidth=4, alpha=0.35)
            axes.plot(found.rate, row, "o", color=color, markersize=6)
        axes.axvline(getattr(rates[0], kind).rate, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, None), xlabel=f"{kind.upper()} at the threshold")
        axes.set_yticks(range(len(rates)), [group.name for group in rates])
        _dress(axes, axes.xaxis)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:.3g}%")
    both[0].invert_yaxis()
    return figure


def plot_cross_entropy(
    ratios: npt.ArrayLike, scores: npt.ArrayLike, same: npt.ArrayLike
) -> "Figure":
    """The empirical cross-entropy (ECE) of likelihood ratios over the prior odds.

    Args:
        ratios: natural log likelihood ratios, ``(N,)``.
        scores: the similarities behind them, ``(N,)``, for the least cross-entropy (PAV).
        same: ``(N,)``, True for genuine pairs.

    Returns:
        A `matplotlib.figure.Figure`; dotted: without the score (ratio 1).

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: as `empirical_cross_entropy`.
    """
    figure = _figure(7.0, 3.8)
    axes = figure.subplots()
    log_odds = np.linspace(-3, 3, 61)
    best = isotonic_ratios(scores, same)
    for values, label, color in (
        (ratios, "likelihood ratios", CURVES[0]),
        (best, "best map (PAV)", CURVES[1]),
    ):
        bits = empirical_cross_entropy(values, same, log_odds)
        axes.plot(log_odds, bits, color=color, linewidth=1.8, label=label)
    neutral = empirical_cross_entropy(np.zeros(len(best)), same, log_odds)
    axes.plot(log_odds, neutral, color=GREY, linestyle=":", label="without the score")
    axes.set(xlabel="log10 of the prior odds", ylabel="Cross-entropy, bits", ylim=(0, None))
    axes.legend(frameon=False)
    _dress(axes)
    axes.yaxis.set_major_formatter("{x:.3g}")
    return figure


def plot_error_versus_discard(curves: Mapping[str, ErrorVersusDiscard]) -> "Figure":
    """FNMR over the share of the genuine pairs that is discarded, the worst quality first.

    Args:
        curves: dict of name -> `ErrorVersusDiscard`; intervals over people are shaded. The dashed
            line is the FNMR without discards, which a quality score that is noise does not leave.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if `curves` is empty.
    """
    _check_curves(curves)
    figure = _figure(7.0, 3.8)
    axes = figure.subplots()
    for number, (name, found) in enumerate(curves.items()):
        color = CURVES[number % len(CURVES)]
        label = f"{name}   mean to {AREA_TO:.0%}: {found.area:.2%}"
        axes.plot(found.fractions, found.fnmr, ".-", color=color, linewidth=1.8, label=label)
        if found.fnmr_intervals:
            low, high = zip(*((each.low, each.high) for each in found.fnmr_intervals), strict=True)
            axes.fill_between(found.fractions, low, high, color=color, **SHADE)
        axes.axhline(found.fnmr[0], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlabel="Genuine pairs discarded", ylabel="FNMR of the rest", ylim=(0, None))
    _dress(axes)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    # Above the axes: no corner is free of the curves of every score, good or bad.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)
    return figure


def plot_degraded(found: Degraded) -> "Figure":
    """Accepted pairs of two people under each kind of damage, as a multiple of the target.

    Args:
        found: a `Degraded`.

    Returns:
        A `matplotlib.figure.Figure`, with the answered pairs beside all if there are limits.

    Raises:
        ImportError: if matplotlib is missing.
    """
    columns = [each for each in found.columns if each.both]
    figure = _figure(7.0, 3.4)
    axes = figure.subplots()
    places = np.arange(len(columns))
    least = 1 / columns[0].impostors / found.far
    without = [max(each.fmr / found.far, least) for each in columns]
    width = 0.38 if found.limited else 0.6
    left = places - width / 2 if found.limited else places
    axes.bar(left, without, width, color=IMPOSTOR, label="every pair answered")
    if found.limited:
        kept = [
            max((each.answered_false_accepts or 0) / each.impostors / found.far, least)
            for each in columns
        ]
        axes.bar(places + width / 2, kept, width, color=GENUINE, label="with the quality limits")
    for times in (1, 3):
        axes.axhline(times, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(yscale="log", ylim=(least, None), ylabel="Accepted strangers / target")
    axes.set_xticks(places, [each.kind for each in columns])
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(lambda times, _: f"{times:g} x")
    axes.legend(frameon=False, fontsize=9)
    return figure


def plot_scores(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    threshold: float | None = None,
    kinds: Kinds = KINDS,
) -> "Figure":
    """Histograms of genuine and impostor scores, each as shares of its own kind.

    Args:
        scores, same: as `verify`.
        threshold: where pairs are accepted; a line is drawn there, and the title has both error
            rates.
        kinds: names of the genuine and of the impostor scores.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: as `roc`.
    """
    scores, same = checked_pairs(scores, same)
    genuine, impostor = scores[same], scores[~same]
    edges = np.linspace(scores.min(), scores.max(), SCORE_BINS + 1)
    counts = [np.histogram(values, edges)[0] for values in (genuine, impostor)]
    figure, axes = _scores_figure(edges, counts[0], counts[1], kinds)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.set_title(
            f"threshold {threshold:.4f}:   FAR {np.mean(impostor >= threshold):.2%},   "
            f"FNMR {np.mean(genuine < threshold):.2%}",
            fontsize=9.5,
            color=INK,
        )
    return figure


def plot_score_histogram(histogram: ScoreHistogram) -> "Figure":
    """`plot_scores` of a `ScoreHistogram`.

    Args:
        histogram: a `ScoreHistogram`, drawn in wider bins.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
    """
    return _scores_figure(*histogram.rebinned(SCORE_BINS))[0]


def _scores_figure(
    edges: npt.NDArray[Any],
    genuine: npt.NDArray[Any],
    impostor: npt.NDArray[Any],
    kinds: Kinds = KINDS,
) -> tuple["Figure", "Axes"]:
    """Counts in bins as shares of their kind, and the axes that they are drawn on."""
    figure = _figure(7.0, 3.8)
    axes = figure.subplots()
    for counts, color, name in ((impostor, IMPOSTOR, kinds[1]), (genuine, GENUINE, kinds[0])):
        shares, label = counts / counts.sum(), f"{counts.sum():,} {name}"
        axes.stairs(shares, edges, baseline=0, color=color, fill=True, alpha=0.28)
        axes.stairs(shares, edges, baseline=0, color=color, linewidth=1.4, label=label)
    axes.set(xlabel="Score", ylabel="Share of the kind", ylim=(0, None))
    _dress(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure, axes


def plot_hardest_pairs(pairs: Pairs, scores: npt.ArrayLike, *, count: int = 6) -> "Figure":
    """The genuine pairs with the lowest scores, and the impostor pairs with the highest.

    Args:
        pairs: a `Pairs`.
        scores: its scores, ``(N,)``, as `score_pairs` gives them.
        count: pairs of each kind.

    Returns:
        A `matplotlib.figure.Figure` with a row of genuine pairs above a row of impostor pairs.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: as `roc`, or if an image is not a face crop.
    """
    scores, same = checked_pairs(scores, pairs.same)
    images = pairs.images
    seen = ~pairs.failed_to_enrol
    genuine = _few_different(images, scores, np.flatnonzero(same & seen), count)
    impostor = _few_different(images, -scores, np.flatnonzero(~same & seen), count)
    rows = (
        (genuine, GENUINE, "Genuine pairs with the lowest scores"),
        (impostor, IMPOSTOR, "Impostor pairs with the highest scores"),
    )
    figure = _figure(1.55 * count, 2.45)
    strips: Any = figure.subfigures(2, 1)
    for strip, (indices, color, title) in zip(strips, rows, strict=True):
        strip.suptitle(title, fontsize=10, color=color, fontweight="bold")
        for axes, index in zip(strip.subplots(1, count, squeeze=False)[0], indices, strict=False):
            faces = [read_thumbnail(side[index]) for side in images]
            axes.imshow(np.concatenate(faces, axis=1))
            axes.set_xlabel(f"{scores[index]:.3f}", fontsize=9)
    for axes in figure.get_axes():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def require_matplotlib() -> None:
    """Checks before long work that plots are possible.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with: pip install 'keras_facemargin[plots]'"
        ) from error


def _figure(width: float, height: float) -> "Figure":
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=160, facecolor="white")


def _few_different(
    images: tuple[Sequence[Any], Sequence[Any]],
    scores: npt.NDArray[Any],
    rows: npt.NDArray[Any],
    count: int,
) -> list[int]:
    """The `count` rows with the lowest scores that show different images, ascending."""
    most = count * TIMES_LISTED
    if len(rows) > most:
        highest = np.partition(scores[rows], most - 1)[most - 1]
        rows = rows[scores[rows] <= highest]
    found: dict[frozenset[Any], int] = {}
    for row in rows[np.argsort(scores[rows], kind="stable")]:
        found.setdefault(frozenset(side[row] for side in images), row)
        if len(found) == count:
            break
    return list(found.values())


def _rates_figure(
    curves: Curves, bands: Bands | None, labels: Mapping[str, str], words: tuple[str, str, str]
) -> "Figure":
    """Rates over a logarithmic axis of false rates; words: for both axes, and the counted unit."""
    rate, false_rate, unit = words
    stairs = _staircases(curves)
    figure = _figure(7.0, 4.6)
    axes = figure.subplots()
    for number, (name, (_, far, tar, each)) in enumerate(stairs.items()):
        color = CURVES[number % len(CURVES)]
        axes.step(far, tar, where="post", color=color, linewidth=1.8, label=labels[name])
        axes.plot(far[:1], tar[:1], "o", color=color, markersize=4.5, clip_on=False)
        _add_splits(axes, far, each, color)
        if bands:
            axes.fill_between(*_band(bands[name]), step="post", color=color, **SHADE)
    axes.set(ylim=_room(min(each[:, 0].min() for *_, each in stairs.values())), ylabel=rate)
    _dress(axes)
    _far_axis(axes, stairs, false_rate, unit)
    axes.legend(loc="lower right", frameon=True, framealpha=0.95, edgecolor="none", fontsize=9)
    return figure


def _add_splits(axes: "Axes", far: npt.NDArray[Any], rates: npt.NDArray[Any], color: str) -> None:
    """A thin line for each of several splits."""
    if len(rates) > 1:
        axes.step(far, rates.T, where="post", color=color, linewidth=0.6, alpha=0.5, zorder=1)


def _room(lowest: float) -> tuple[float, float]:
    """Ends of an axis of rates, with room below the lowest one, in whole steps of 5 %."""
    bottom = max(0.0, np.floor((lowest - 0.02) * 20) / 20)
    return bottom, 1 + (1 - bottom) * 0.03


def _several(curve: Roc | Iterable[Roc]) -> list[Roc]:
    return [curve] if isinstance(curve, Roc) else list(curve)


def _whole(curve: Roc) -> bool:
    """Whether every point is known: not a curve of the hardest pairs only."""
    return bool(np.isfinite(curve.thresholds[-1]))


def _staircases(curves: Curves) -> dict[str, Staircase]:
    """The points of each curve to draw."""
    _check_curves(curves)
    found = {}
    for name, each in curves.items():
        each = _several(each)
        # Between its last two points a curve that is not whole is unknown.
        known = min(1.0 if _whole(c) else (c.false_accepts[-2] - 1) / c.impostors for c in each)
        fewest = min(curve.impostors for curve in each)
        counts = np.unique(np.geomspace(1, max(known * fewest, 1), 1_000).round())
        # The best TAR with that share of the impostors accepted.
        allowed = [np.floor(counts * curve.impostors / fewest + 1e-9) for curve in each]
        points = [
            np.searchsorted(curve.false_accepts, count, side="right") - 1
            for curve, count in zip(each, allowed, strict=True)
        ]
        tar = np.stack([c.tar[p].astype(float) for c, p in zip(each, points, strict=True)])
        genuines = sum(curve.genuines for curve in each)
        found[name] = Staircase(genuines, counts / fewest, tar.mean(axis=0), tar)
    return found


def _check_curves(curves: Mapping[str, Any]) -> None:
    if not curves:
        raise ValueError("`curves` must hold at least one name -> curve. Received: none.")


def _band(
    draws: Bootstrap | SearchDraws,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(FARs, lower and upper TARs) of draws, as far as all draws are known."""
    known = np.atleast_1d(np.isfinite(draws.band).all(axis=0))
    end = len(known) if known.all() else int(np.argmin(known))
    ends = [interval(column) for column in draws.band.T[:end]]
    return draws.band_fars[:end], np.array([e.low for e in ends]), np.array([e.high for e in ends])


def _far_axis(axes: "Axes", curves: Mapping[str, Staircase], words: str, unit: str) -> None:
    """A logarithmic axis of false rates that shows where support ends."""
    limit = min(far[0] for _, far, *_ in curves.values())
    left = limit / 2.5
    axes.set(xscale="log", xlim=(left, 1), xlabel=words)
    axes.axvspan(left, limit, facecolor="#f2f2f2", edgecolor="#d8d8d8", hatch="///", linewidth=0)
    axes.annotate(
        f"below 1 / {1 / limit:,.0f}: no {unit}",
        xy=(np.sqrt(left * limit), 0.5),
        xycoords=axes.get_xaxis_transform(),
        rotation=90,
        ha="center",
        va="center",
        color="#6b6b6b",
        fontsize=8.5,
        bbox={"facecolor": "#f2f2f2", "edgecolor": "none", "pad": 2},
    )


def _dress(axes: "Axes", rates: "Axis | None" = None) -> None:
    """The common style of the figures: rates in percent, a light frame."""
    from matplotlib.ticker import PercentFormatter

    rates = rates or axes.yaxis
    if rates.get_scale() == "log":  # each tick has as many digits as it needs
        rates.set_major_formatter(lambda rate, _: f"{100 * rate:g}%")
    else:
        rates.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=9)
