"""Pictures of what was counted, as matplotlib figures that belong to the caller.

No pyplot: nothing is shown, no global state is touched; call ``figure.savefig(path)`` or hand the
figure to `keras_facemargin.report.Report`.
"""

import types

import numpy as np

from keras_facemargin.data.image import read_face
from keras_facemargin.evaluate.bootstrap import interval
from keras_facemargin.evaluate.roc import Roc, roc

# Okabe and Ito's colours, told apart by colour-blind eyes.
GENUINE, IMPOSTOR = "#0072b2", "#d55e00"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, GREY = "#222222", "#8a8a8a"
SCORE_BINS = 80
SHADE = types.MappingProxyType({"alpha": 0.15, "linewidth": 0})


def plot_roc(models, bands=None):
    """ROC curves over a logarithmic FAR axis, drawn only where there are pairs to support them.

    Each curve is a staircase: at every FAR the largest TAR that does not exceed it, as
    `tar_at_far`. It begins with a dot at ``1 / impostors``; to the left nothing was measured.

    Args:
        models: dict of name -> ``(scores, same)`` as `verify` takes them, or a `Roc`.
        bands: dict of name -> `Bootstrap`: the middle 95 % of the TARs at each FAR, shaded.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if `models` is empty, or as `roc`.
    """
    curves = _staircases(models)
    figure = _figure(7.0, 4.6)
    axes = figure.subplots()
    for number, (name, (curve, far, tar)) in enumerate(curves.items()):
        color = CURVES[number % len(CURVES)]
        label = f"{name}   AUC {curve.area():.4f}   EER {curve.equal_error_rate():.2%}"
        axes.step(far, tar, where="post", color=color, linewidth=1.8, label=label)
        axes.plot(far[:1], tar[:1], "o", color=color, markersize=4.5, clip_on=False)
        if bands:
            axes.fill_between(
                *_band(bands[name]), step="post", color=color, alpha=0.15, linewidth=0
            )
    # Room below the lowest point, in whole steps of 5 %.
    lowest = min(tar[0] for _, _, tar in curves.values())
    bottom = max(0.0, np.floor((lowest - 0.02) * 20) / 20)
    axes.set(ylim=(bottom, 1 + (1 - bottom) * 0.03), ylabel="True accept rate (TAR)")
    _dress(axes)
    _far_axis(axes, curves)
    axes.legend(loc="lower right", frameon=True, framealpha=0.95, edgecolor="none", fontsize=9)
    return figure


def plot_det(models, bands=None):
    """DET curves: FNMR over FMR (FAR), both logarithmic, so that small errors can be told apart.

    It is `plot_roc` turned over, with the same arguments, errors and support. An FNMR of 0 has no
    place on the axis: the curve ends where fewer than one genuine pair is rejected.
    """
    curves = _staircases(models)
    figure = _figure(7.0, 4.6)
    axes = figure.subplots()
    for number, (name, (_, far, tar)) in enumerate(curves.items()):
        color = CURVES[number % len(CURVES)]
        misses = np.where(tar < 1, 1 - tar, np.nan)
        axes.step(far, misses, where="post", color=color, linewidth=1.8, label=name)
        axes.plot(far[:1], misses[:1], "o", color=color, markersize=4.5, clip_on=False)
        if bands:
            band_far, low, high = _band(bands[name])
            axes.fill_between(band_far, 1 - high, 1 - low, step="post", color=color, **SHADE)
    fewest = 1 / max(curve.genuines for curve, _, _ in curves.values())
    axes.set(ylim=(fewest / 1.5, 1), ylabel="False non-match rate (FNMR)")
    axes.set_yscale("log")  # with its limits set: there may be no error to take them from
    _dress(axes)
    _far_axis(axes, curves)
    axes.set_xlabel("False match rate (FMR, FAR)")
    axes.legend(loc="upper right", frameon=True, framealpha=0.95, edgecolor="none", fontsize=9)
    return figure


def plot_groups(rates):
    """FMR and FNMR of every group at one threshold, with their intervals.

    Args:
        rates: what `rates_by_group` gives.

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
    both[0].invert_yaxis()
    return figure


def plot_scores(scores, same, threshold=None):
    """Histograms of genuine and impostor scores, each as shares of its own kind.

    Args:
        scores, same: as `verify`.
        threshold: where pairs are accepted; a line is drawn there and both error rates named.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: as `roc`.
    """
    roc(scores, same)
    scores, same = np.asarray(scores, dtype="float64"), np.asarray(same, dtype=bool)
    genuine, impostor = scores[same], scores[~same]
    edges = np.linspace(scores.min(), scores.max(), SCORE_BINS + 1)
    counts = (np.histogram(values, edges)[0] for values in (genuine, impostor))
    figure, axes = _scores_figure(edges, *counts)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.set_title(
            f"threshold {threshold:.4f}:   FAR {np.mean(impostor >= threshold):.2%},   "
            f"FNMR {np.mean(genuine < threshold):.2%}",
            fontsize=9.5,
            color=INK,
        )
    return figure


def plot_score_histogram(histogram):
    """`plot_scores` of pairs that are counted and not kept.

    Args:
        histogram: a `ScoreHistogram`, drawn in wider bins.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is missing.
    """
    return _scores_figure(*histogram.rebinned(SCORE_BINS))[0]


def _scores_figure(edges, genuine, impostor):
    """Counts in bins as shares of their kind, and the axes that they are drawn on."""
    figure = _figure(7.0, 3.8)
    axes = figure.subplots()
    for counts, color, name in ((impostor, IMPOSTOR, "impostor"), (genuine, GENUINE, "genuine")):
        shares, style = counts / counts.sum(), {"baseline": 0, "color": color}
        axes.stairs(shares, edges, fill=True, alpha=0.28, **style)
        axes.stairs(shares, edges, linewidth=1.4, label=f"{counts.sum():,} {name} pairs", **style)
    axes.set(xlabel="Score", ylabel="Share of pairs of the kind", ylim=(0, None))
    _dress(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure, axes


def plot_hardest_pairs(pairs, scores, count=6):
    """The genuine pairs that look least alike to the embedder, and the impostors most alike.

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
    roc(scores, pairs.same)
    ascending = np.argsort(scores, kind="stable")
    ascending = ascending[~pairs.unseen[ascending]]
    genuine = ascending[pairs.same[ascending]][:count]
    impostor = ascending[~pairs.same[ascending]][::-1][:count]
    rows = (
        (genuine, GENUINE, "Genuine pairs with the lowest scores"),
        (impostor, IMPOSTOR, "Impostor pairs with the highest scores"),
    )
    figure = _figure(1.55 * count, 2.45)
    for strip, (indices, color, title) in zip(figure.subfigures(2, 1), rows, strict=True):
        strip.suptitle(title, fontsize=10, color=color, fontweight="bold")
        for axes, index in zip(strip.subplots(1, count, squeeze=False)[0], indices, strict=False):
            faces = [read_face(pairs.first[index]), read_face(pairs.second[index])]
            axes.imshow(np.concatenate(faces, axis=1))
            axes.set_xlabel(f"{scores[index]:.3f}", fontsize=9)
    for axes in figure.get_axes():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def _figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with: pip install 'keras_facemargin[plots]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", dpi=160, facecolor="white")


def _staircases(models):
    """name -> (`Roc`, FARs, TARs): at most 1,000 points each, all of them points of the curve."""
    if not models:
        raise ValueError("`models` must hold at least one name -> (scores, same). Received: none.")
    curves = {}
    for name, counted in models.items():
        curve = counted if isinstance(counted, Roc) else roc(*counted)
        # The best TAR with that many impostors accepted.
        counts = np.unique(np.geomspace(1, curve.impostors, 1_000).round())
        tar = curve.tar[np.searchsorted(curve.false_accepts, counts, side="right") - 1]
        curves[name] = curve, counts / curve.impostors, tar.astype(float)
    return curves


def _band(draws):
    """(FARs, lower and upper TARs) of a `Bootstrap`."""
    ends = [interval(column) for column in draws.band.T]
    return draws.band_fars, np.array([e.low for e in ends]), np.array([e.high for e in ends])


def _far_axis(axes, curves):
    """A logarithmic FAR axis that shows where the impostor pairs end."""
    limit = min(far[0] for _, far, _ in curves.values())
    left = limit / 2.5
    axes.set(xscale="log", xlim=(left, 1), xlabel="False accept rate (FAR)")
    axes.axvspan(left, limit, facecolor="#f2f2f2", edgecolor="#d8d8d8", hatch="///", linewidth=0)
    axes.annotate(
        f"below 1 / {1 / limit:,.0f}: no impostor pair",
        xy=(np.sqrt(left * limit), 0.5),
        xycoords=axes.get_xaxis_transform(),
        rotation=90,
        ha="center",
        va="center",
        color="#6b6b6b",
        fontsize=8.5,
        bbox={"facecolor": "#f2f2f2", "edgecolor": "none", "pad": 2},
    )


def _dress(axes, rates=None):
    """The looks that the figures share: an axis of rates in percent, a quiet frame."""
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
