"""Charts of the report, each a pure function from aggregates to PNG bytes.

Colours are from the palette of Okabe and Ito (2008), which colour-blind readers can tell apart;
line style and marker say the same again.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curvpub.release.histogram import suppressed_histogram
from curvpub.release.wording import SHORT_ATTACKS, in_order, share, shown_points

__all__ = ["curvature_histogram", "exposure_before_after", "interval_chart", "roc_loglog"]
__all__ += ["risk_scatter", "suppressed_histogram", "training_curves"]

COLORS = {"raw": "#D55E00", "published": "#0072B2"}
"""Raw is vermilion, published is blue, in every chart."""

NAMES = {"raw": "raw data", "published": "this publisher"}
_LINES = {"raw": "--", "published": "-"}
_MARKERS = {"raw": "s", "published": "o"}
_GREY = "#777777"
_DPI = 110


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of `width x height` inches and its panels, row by row, without empty frames."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, color=_GREY)
    return figure, panels


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def plain(text: object, *, limit: int = 24) -> str:
    """User text as matplotlib shows it: no mathematics, one line, not too long."""
    line = " ".join(str(text).split())
    short = line if len(line) <= limit else line[: limit - 1] + "…"
    return short.replace("$", r"\$")


def interval_chart(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """AUC, and TPR at each operating point, of every attack with intervals, raw beside published.

    Args:
      rows: `attacks` of the results: publisher, attack, scope, auc with `_low` and `_high`, and
        points. A point that no row has a figure for gets no panel.

    Raises:
      ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("rows=[]: there is no attack to draw")
    keys = list(dict.fromkeys((r["attack"], r["scope"]) for r in in_order(rows)))
    shown = shown_points(rows)
    figure, (left, *others) = new_figure(
        5.0 + 4.2 * len(shown), 1.3 + 0.52 * len(keys), 1, 1 + len(shown)
    )
    for row in rows:
        place = keys.index((row["attack"], row["scope"]))
        place += 0.14 if row["publisher"] == "published" else -0.14
        _interval(left, row, "auc", row["publisher"], place)
        for axes, index in zip(others, shown, strict=True):
            if row["points"][index]["tpr"] is not None:
                _interval(axes, row["points"][index], "tpr", row["publisher"], place)
    for axes in (left, *others):
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.grid(axis="x", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    left.set_yticks(range(len(keys)), [_attack_name(*k) for k in keys], fontsize=9)
    left.axvline(0.5, color=_GREY, linestyle=":", zorder=0)
    left.set_xlabel("AUC of the attack (0.5 = guessing)")
    left.set_xlim(min(0.45, *(float(r["auc_low"]) - 0.02 for r in rows)), 1.02)
    for axes, index in zip(others, shown, strict=True):
        fpr = float(rows[0]["points"][index]["fpr"])
        axes.set_yticks(range(len(keys)), [""] * len(keys))
        axes.axvline(fpr, color=_GREY, linestyle=":", zorder=0)
        axes.set_xscale("log")
        axes.set_xlim(fpr / 5, 1.15)
        axes.set_xlabel(f"TPR at {share(fpr)} FPR, log axis (dotted = guessing)")
    _legend(figure, {r["publisher"] for r in rows})
    return to_png(figure)


def roc_loglog(curves: Sequence[Mapping[str, Any]]) -> bytes:
    """ROC curves on log axes, one panel per attack.

    Args:
      curves: each `attack`, `publisher`, increasing `fpr [k]` and `tpr [k]`, and, if known, the
        interval of the latter as `low [k]` and `high [k]`. Optional `scope` opens a panel of its
        own.

    Raises:
      ValueError: there are no curves.
    """
    if not curves:
        raise ValueError("curves=[]: there is no curve to draw")
    keys = list(dict.fromkeys((c["attack"], c.get("scope", "")) for c in curves))
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    figure, panels = new_figure(3.1 * columns + 0.2, 3.1 * rows + 0.4, rows, columns)
    smallest = min(float(f) for c in curves for f in c["fpr"] if f > 0)
    floor = 10.0 ** np.floor(np.log10(max(smallest, 1e-5)))
    for key, axes in zip(keys, panels, strict=False):
        axes.plot([floor, 1], [floor, 1], color=_GREY, linestyle=":", linewidth=1)
        for curve in curves:
            if (curve["attack"], curve.get("scope", "")) == key:
                _roc(axes, curve, floor)
        axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
        axes.set_title(_attack_name(*key), fontsize=10)
        axes.set_xlabel("false positive rate", fontsize=9)
        axes.set_ylabel("true positive rate", fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    _legend(figure, {c["publisher"] for c in curves})
    return to_png(figure)


def exposure_before_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes:
    """Exposure of the records to an attack on raw data and on the release.

    Args:
      before: suppressed histogram on raw data, `counts [b]` and `edges [b + 1]`.
      after: the same on the release.
    """
    return _histograms(
        {"raw": (before, "raw data"), "published": (after, "release")},
        "exposure of a record (higher = easier to recognise as a member)",
    )


def curvature_histogram(before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes:
    """Curvature at scale at the codes of the records and of what is published.

    Args:
      before: suppressed histogram before perturbation, `counts [b]` and `edges [b + 1]`.
      after: the same of the published codes.
    """
    return _histograms(
        {"raw": (before, "before"), "published": (after, "as published")},
        "curvature at scale of the learned data manifold",
    )


def training_curves(history: Mapping[str, Sequence[float]]) -> bytes:
    """Small multiples of everything that was logged in training.

    Args:
      history: series by name, each `[t]`, with `step` among them; NaN where nothing was logged.

    Raises:
      ValueError: there is no `step` or nothing else.
    """
    names = [n for n in history if n != "step"]
    if "step" not in history or not names:
        raise ValueError(f"history={sorted(history)!r} must hold 'step' and at least one series")
    steps = np.asarray(history["step"], float)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, panels = new_figure(3.1 * columns, 2.1 * rows, rows, columns)
    for name, axes in zip(names, panels, strict=False):
        value = np.asarray(history[name], float)
        seen = np.isfinite(value)  # not every step logs everything
        axes.plot(steps[seen], value[seen], color=COLORS["published"], linewidth=1.2)
        axes.set_title(plain(name, limit=36), fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.set_ylabel("value", fontsize=9)
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return to_png(figure)


def risk_scatter(
    curvature: np.ndarray, exposure_raw: np.ndarray, exposure_published: np.ndarray, rho: float
) -> bytes:
    """Private: every member's curvature against its exposure, and exposure before against after.

    Args:
      curvature: of every member, `[n]`.
      exposure_raw: exposure on raw data, `[n]`.
      exposure_published: exposure on the release, `[n]`.
      rho: Spearman's correlation of the first two.
    """
    figure, (left, right) = new_figure(9.2, 4.2, 1, 2)
    dots = {"s": 9, "alpha": 0.45, "linewidths": 0, "color": COLORS["published"]}
    left.scatter(curvature, exposure_raw, **dots)
    left.set_xlabel("curvature at scale, seen from the record")
    left.set_ylabel("exposure on raw data")
    left.set_title(f"Does curvature predict exposure? Spearman {rho:+.2f}", fontsize=10)
    right.scatter(exposure_raw, exposure_published, **dots)
    both = np.concatenate([np.ravel(exposure_raw), np.ravel(exposure_published)])
    ends = [float(both.min()), float(both.max())]
    right.plot(ends, ends, color=_GREY, linestyle=":", linewidth=1)
    right.set_xlabel("exposure on raw data")
    right.set_ylabel("exposure on the release")
    right.set_title("Below the dotted line: less exposed than before", fontsize=10)
    for axes in (left, right):
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
    return to_png(figure)


def _interval(axes: Axes, row: Mapping[str, Any], name: str, publisher: str, height: float) -> None:
    floor = float(row["fpr"]) / 5 if name == "tpr" else -np.inf
    value, low, high = (max(float(row[name + end]), floor) for end in ("", "_low", "_high"))
    color = COLORS.get(publisher, "black")
    axes.plot([low, high], [height, height], color=color, linewidth=2.4, solid_capstyle="butt")
    axes.plot(value, height, color=color, marker=_MARKERS.get(publisher, "^"), markersize=6)


def _roc(axes: Axes, curve: Mapping[str, Any], floor: float) -> None:
    publisher = curve["publisher"]
    color = COLORS.get(publisher, "black")
    fpr = np.maximum(np.asarray(curve["fpr"], float), floor / 10)
    tpr = np.maximum(np.asarray(curve["tpr"], float), floor / 10)
    axes.plot(fpr, tpr, color=color, linestyle=_LINES.get(publisher, "-."), linewidth=1.8)
    if curve.get("low") is not None and curve.get("high") is not None:
        low, high = (np.maximum(np.asarray(curve[k], float), floor / 10) for k in ("low", "high"))
        axes.fill_between(fpr, low, high, color=color, alpha=0.18, linewidth=0)


def _histograms(groups: Mapping[str, tuple[Mapping[str, Any], str]], xlabel: str) -> bytes:
    figure, (axes,) = new_figure(7.2, 3.4)
    for publisher, (cells, name) in groups.items():
        counts, edges = np.asarray(cells["counts"], float), np.asarray(cells["edges"], float)
        if not counts.size:
            continue
        # Merged cells are wider: heights are densities, so that areas compare.
        height = counts / counts.sum() / np.diff(edges)
        color = COLORS[publisher]
        axes.stairs(height, edges, color=color, alpha=0.22, fill=True)
        axes.stairs(
            height, edges, color=color, label=name, linewidth=1.8, linestyle=_LINES[publisher]
        )
    axes.set_xlabel(xlabel)
    axes.set_ylabel("density of records")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    return to_png(figure)


def _legend(figure: Figure, publishers: set[str]) -> None:
    names = [p for p in ("raw", "published") if p in publishers]
    names += sorted(publishers - set(names))
    handles = [
        figure.axes[0].plot(
            [],
            [],
            color=COLORS.get(p, "black"),
            linestyle=_LINES.get(p, "-."),
            marker=_MARKERS.get(p, "^"),
        )[0]
        for p in names
    ]
    texts = [NAMES.get(p, plain(p)) for p in names]
    figure.legend(handles, texts, loc="outside upper center", ncols=len(names), frameon=False)


def _attack_name(attack: str, scope: str) -> str:
    short = SHORT_ATTACKS.get(attack, attack)
    return plain(short, limit=40) + (f"\n({plain(scope)})" if scope else "")
