"""Figures of a frontier, each a pure function from result lines to PNG bytes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curvpub.frontier import results
from curvpub.release.figures import new_figure, plain, to_png

_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#999999", "#B8A900", "#7F4F24")
_METHOD = ("#0072B2", "#003F66", "#4C9BD0", "#7A5CC8", "#222222")
_MARKERS = "osDv^P<>X*"
_QUALITY = {
    "frechet": "Frechet distance (lower is better)",
    "density": "density",
    "coverage": "coverage",
    "recall": "recall",
}
_LEAST = 1e-3  # excess AUC below this is drawn here: intervals are wider than it
Row = Mapping[str, Any]


def draw_all(rows: Sequence[Row]) -> dict[str, bytes]:
    """All figures of the first seed by name; those without data are left out."""
    seeds = [r["seed"] for r in results.points(rows)]
    if not seeds:
        return {}
    points = results.points(rows, seeds[0])
    reference = [r for r in rows if r["record"] == "reference" and r["seed"] == seeds[0]]
    found = {"utility": utility_chart(points)}
    if any(p["quality"] for p in points):
        found["quality"] = quality_chart(points, reference[0]["quality"] if reference else None)
    if any(p["deciles"] for p in points):
        found["deciles"] = decile_chart(points)
    return found


def utility_chart(points: Sequence[Row]) -> bytes:
    """Accuracy against the worst attack's AUC and TPR, with intervals; the Pareto set is ringed.

    Which points are in it is decided by accuracy on the half of the test records that selects,
    while that on the other half is drawn: a ringed point may lie below another one.

    Raises:
      ValueError: there are no points.
    """
    if not points:
        raise ValueError("points=[]: there is nothing to draw")
    figures = [f for f in ("auc", "tpr") if any(f in p["worst"] for p in points)]
    figure, panels = new_figure(5.2 * len(figures) + 2.6, 4.8, 1, len(figures))
    styles = _styles(points)
    for axes, name in zip(panels, figures, strict=True):
        for entry, style in styles.items():
            mine = [p for p in points if p["entry"] == entry and name in p["worst"]]
            x, low, high = (np.array([_exposed(p, name, e) for p in mine]) for e in _ENDS)
            y = np.array([p["accuracy"] for p in mine]).T * 100
            axes.errorbar(
                x, y[0], xerr=[x - low, high - x], yerr=[y[0] - y[1], y[2] - y[0]], label=entry,
                elinewidth=0.8, capsize=0, **style,
            )  # fmt: skip
        best = [p for p in points if name in p["pareto"]]
        axes.scatter(
            [_exposed(p, name, "value") for p in best], [100 * p["accuracy"][0] for p in best],
            s=130, facecolors="none", edgecolors="black", linewidths=1.1, zorder=5,
            label="none better by the\nselecting half",
        )  # fmt: skip
        _exposure_axis(axes, name, points)
        axes.set_ylabel("accuracy of a model trained on the release, %")
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
    _legend(figure, panels[0])
    return _captioned(figure, points)


def quality_chart(points: Sequence[Row], reference: Row | None) -> bytes:
    """Fidelity and diversity against the worst attack's AUC; dotted: real against real records.

    Bars are the AUC's intervals across, and one standard deviation over releases upright.
    """
    styles, every = _styles(points), points
    points = [p for p in points if p["quality"]]
    styles = {e: s for e, s in styles.items() if e in {p["entry"] for p in points}}
    figure, panels = new_figure(12.4, 8.0, 2, 2)
    for axes, (name, title) in zip(panels, _QUALITY.items(), strict=True):
        for entry, style in styles.items():
            mine = [p for p in points if p["entry"] == entry]
            x, low, high = (np.array([_exposed(p, "auc", e) for p in mine]) for e in _ENDS)
            y = np.array([p["quality"]["mean"][name] for p in mine])
            spread = np.array([p["quality"]["deviation"][name] or 0.0 for p in mine])
            axes.errorbar(
                x, y, xerr=[x - low, high - x], yerr=spread, label=entry, elinewidth=0.8, **style
            )
        if reference:
            axes.axhline(reference[name], color="black", linestyle=":", linewidth=1)
        if name == "frechet" and min(p["quality"]["mean"][name] for p in points) > 0:
            axes.set_yscale("log")
        _exposure_axis(axes, "auc", points)
        axes.set_ylabel(title)
        axes.grid(color="#e5e5e5", linewidth=0.6)
    _legend(figure, panels[0])
    return _captioned(figure, every)


def decile_chart(points: Sequence[Row]) -> bytes:
    """Mean exposure by decile of exposure in the raw data, of each entry's selected point."""
    styles, every = _styles(points), points
    points = [p for p in points if p["deciles"] and p["selected"]]
    names = {"confidence": "a classifier", "generator_loss": "the attacker's own generator"}
    shown = [n for n in names if any(n in p["deciles"] for p in points)]
    figure, panels = new_figure(5.0 * len(shown) + 2.6, 4.4, 1, len(shown))
    for axes, name in zip(panels, shown, strict=True):
        for point in points:
            if name in point["deciles"]:
                values = point["deciles"][name]
                places = np.arange(1, len(values) + 1)
                axes.plot(places, values, label=point["entry"], **styles[point["entry"]])
        axes.axhline(0.0, color="black", linestyle=":", linewidth=1)
        axes.set_xticks(range(1, 11))
        axes.set_xlabel("decile of exposure in the raw data (10 = most exposed)")
        axes.set_ylabel(f"mean exposure to {names[name]},\nin standard deviations")
        axes.grid(color="#e5e5e5", linewidth=0.6)
    _legend(figure, panels[0])
    return _captioned(figure, every)


_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_ENDS = ("value", "low", "high")


def _exposed(point: Row, figure: str, end: str) -> float:
    """What is drawn of the worst attack: AUC above guessing, or TPR."""
    value = point["worst"][figure][end]
    return max(value - 0.5, _LEAST) if figure == "auc" else max(value, 0.2 * point["fpr"])


def _exposure_axis(axes: Any, figure: str, points: Sequence[Row]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(_TICKS, [f"{t:g}" for t in _TICKS])
    axes.set_xticks([], minor=True)
    seen = [_exposed(p, figure, e) for p in points for e in _ENDS]
    axes.set_xlim(0.8 * min(seen), 1.25 * max(seen))
    if figure == "auc":
        axes.set_xlabel("worst attack's AUC above guessing (AUC - 0.5), log axis")
    else:
        rate = points[0]["fpr"]
        axes.axvline(rate, color="black", linestyle=":", linewidth=1)
        axes.set_xlabel(f"worst attack's TPR at {rate:.2g} FPR, log axis (dotted = guessing)")


def _styles(points: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of every entry; the method is blue, thick and solid."""
    roles = {p["entry"]: p["role"] for p in points}
    found: dict[str, dict[str, Any]] = {}
    method = others = 0
    for entry, role in roles.items():
        if role == "method":
            color, width, line = _METHOD[method % len(_METHOD)], 2.2, "-"
            marker = _MARKERS[method % len(_MARKERS)]
            method += 1
        else:
            color, width, line = _COLORS[others % len(_COLORS)], 1.2, "--"
            marker = _MARKERS[(others + others // len(_COLORS) + 1) % len(_MARKERS)]
            others += 1
        found[entry] = {
            "color": color, "marker": marker, "linestyle": line, "linewidth": width,
            "markersize": 6.5 if role == "method" else 5,
        }  # fmt: skip
    return found


def _captioned(figure: Any, points: Sequence[Row]) -> bytes:
    """The picture as PNG; above it what its points are of: data, seed, machine, time."""
    letters = int(_LETTERS * figure.get_size_inches()[0])
    lines = textwrap.wrap(plain(results.provenance(points), limit=400), letters)
    figure.suptitle("\n".join(lines), fontsize=8, color="#555555")
    return to_png(figure)


_LINE, _COLUMN = 0.21, 1.9  # of a legend, in inches
_LETTERS = 14  # of a caption in an inch


def _legend(figure: Any, axes: Any) -> None:
    """Beside the panels, in as many columns as its lines need; the figure grows by all but one."""
    handles, labels = axes.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    shown = ["\n".join(plain(line, limit=28) for line in lines.split("\n")) for lines in labels]
    # Longer labels may all be in one column.
    more = sum(text.count("\n") for text in shown)
    columns = -(-len(shown) // (int(height / _LINE) - more))
    figure.set_size_inches(width + (columns - 1) * _COLUMN, height)
    figure.legend(
        handles, shown, loc="outside right center", frameon=False, fontsize=9, ncols=columns,
    )  # fmt: skip
