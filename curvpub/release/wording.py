"""How figures and attacks are put into words, alike on the card, the page and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

SHORT_ATTACKS = {
    "loss_threshold": "loss threshold",
    "modified_entropy": "modified entropy",
    "loss_calibrated": "calibrated loss",
    "lira": "LiRA online",
    "lira_offline": "LiRA offline",
    "rmia": "RMIA online",
    "rmia_offline": "RMIA offline",
    "label_only": "label only",
    "loss_curvature": "loss curvature",
    "lira_augmented": "LiRA, copies",
    "lira_ensemble": "LiRA, all models",
    "nearest": "nearest record",
    "nearest_calibrated": "nearest, calibrated",
    "axes_calibrated": "nearest on axes",
    "neighbours": "neighbours' labels",
    "density": "density ratio",
    "density_calibrated": "density, calibrated",
    "flow": "flow ratio",
    "flow_calibrated": "flow, calibrated",
    "attributes": "hidden columns",
    "pairs": "record and nearest",
    "generator": "own generator",
    "generator_calibrated": "own gen., calibr.",
    "generator_error": "own reconstruction",
    "generator_curvature": "own curvature",
    "generator_code": "nearest code",
    "generator_moved": "nearest when moved",
    "combined": "all together",
    "loss_relative": "loss, relative",
    "nearest_axes": "nearest, main axes",
    "nearest_relative": "nearest, relative",
    "neighbours_relative": "labels, relative",
    "attributes_relative": "columns, relative",
}
"""Names of the attacks for charts and the terminal; pages take each row's `title`."""


def with_interval(row: Mapping[str, Any], name: str, *, percent: bool = False) -> str:
    """A figure and its interval, as `0.612 [0.600, 0.624]` or `3.4% [2.1, 4.9]`.

    Args:
      row: holds `name`, and `name_low` and `name_high` where there is an interval.
      name: the figure.
      percent: it is a share.
    """
    value, low, high = (row.get(name + end) for end in ("", "_low", "_high"))
    if value is None:
        return "not measured"
    if percent:
        text = f"{100 * value:.1f}%"
        return (
            text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"
        )
    text = f"{value:.3f}"
    return text if low is None or high is None else f"{text} [{low:.3f}, {high:.3f}]"


def change(row: Mapping[str, Any], name: str, *, percent: bool = False) -> str:
    """A difference and its interval with their signs, as `-0.117 [-0.131, -0.103]`."""
    value, low, high = (row.get(name + end) for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return "not resolvable"
    if percent:
        return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def rate(point: Mapping[str, Any]) -> str:
    """The TPR of an operating point with its interval, or why there is none.

    Args:
      point: one of a row's `points`.
    """
    if point["tpr"] is None:
        return f"not resolvable with {point['nonmembers']} non-members"
    pooled = ", pooled" if point.get("pooled") else ""
    return with_interval(point, "tpr", percent=True) + pooled


def shown_points(attacks: Sequence[Mapping[str, Any]]) -> list[int]:
    """Which operating points have a figure in any row, by their place in `points`."""
    count = max((len(r["points"]) for r in attacks), default=0)
    found = ({i for i, p in enumerate(r["points"]) if p["tpr"] is not None} for r in attacks)
    some = set().union(*found)
    return [i for i in range(count) if i in some]


def not_resolvable(attacks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each operating point that no row has a figure for."""
    shown = shown_points(attacks)
    points = [p for r in attacks[:1] for i, p in enumerate(r["points"]) if i not in shown]
    return [f"TPR at {share(p['fpr'])} FPR: {rate(p)}." for p in points]


def share(value: float) -> str:
    """A share such as a false positive rate, as short as it can be: `1%`, `0.1%`."""
    return f"{100 * value:.3g}%"


def number(value: object) -> str:
    """A figure with four digits; other things as they are, and nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def in_order(attacks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of attacks as they are shown: the game first, then by attack, raw before published."""
    names = list(dict.fromkeys(r["attack"] for r in attacks))
    return sorted(
        attacks,
        key=lambda r: (r["scope"] != "game", names.index(r["attack"]), r["publisher"] != "raw"),
    )


def verdict(results: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What the audit found, in plain words.

    Rows of the game count; where there are none, those on this release.

    Args:
      results: as described in `curvpub.release.report`.

    Returns:
      A grade (`good`, `fair`, `poor`, `bad`, or `none` without an attack) and sentences.
    """
    everything = results["attacks"]
    published = _rows(everything, "publisher", "published")
    if not published:
        return "none", ["No attack has been run on this release: nothing is known about it."]
    raw = _rows(everything, "publisher", "raw")
    single = [r for r in everything if r["publisher"] == "published" and r not in published]
    grade, judgement = _judge(published, single)
    sentences = [judgement, f"After publication, {_best(published)}"]
    if raw:
        sentences.append(f"On the raw data, {_best(raw)}")
    sentences += worst_case(results)
    sentences.append(
        "Guessing gives an AUC of 0.5 and finds as many members as it accuses non-members."
    )
    sentences.append(_usefulness(results["utility"]))
    return grade, [s for s in sentences if s]


def worst_case(results: Mapping[str, Any]) -> list[str]:
    """A sentence on the most exposed records, where there are figures on them."""
    found = results.get("worst_case") or {"attacks": []}
    rows = [r for r in found["attacks"] if r["publisher"] == "published"]
    if not rows:
        return []
    return [f"On the {found['records']} records that are most exposed to it, {_best(rows)}"]


def _rows(rows: Sequence[Mapping[str, Any]], name: str, value: str) -> list[Mapping[str, Any]]:
    chosen = [r for r in rows if r[name] == value]
    return [r for r in chosen if r["scope"] == "game"] or chosen


def _judge(
    rows: Sequence[Mapping[str, Any]], single: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Grades the strongest figure of any attack, by fixed limits that the page states.

    A single release says less than the game, so what was measured on it (`single`) counts by the
    low end of its interval: it can make the grade worse, where it is sure to. So do operating
    points beyond the first, which rest on few false accusations.
    """
    auc = max([r["auc"] for r in rows] + [r["auc_low"] for r in single])
    first = [p for r in rows for p in _points(r)[:1]]
    every = [p for r in [*rows, *single] for p in _points(r)]
    lifts = [p["tpr"] / p["fpr"] for p in first] + [p["tpr_low"] / _false(p) for p in every]
    lift = max(lifts, default=0.0)
    above = any(r["auc_low"] > 0.5 for r in [*rows, *single])
    above = above or any(p["tpr_low"] > _false(p) for p in every)
    if not above:
        return "good", "No attack that was run does measurably better than guessing."
    if auc < 0.55 and lift < 3:
        return "good", "The best attacks that were run do only slightly better than guessing."
    if auc < 0.65 and lift < 10:
        return "fair", "The attacks that were run do clearly better than guessing, but not well."
    if auc < 0.8 and lift < 30:
        return "poor", "The attacks that were run recognise many members: protection is weak."
    return "bad", "This release does not hide who is in the private data."


def _points(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A row's operating points that have a figure."""
    return [p for p in row["points"] if p["tpr"] is not None]


def _false(point: Mapping[str, Any]) -> float:
    """The false positive rate that a TPR may have been bought with, or that guessing reads.

    An empirical ROC curve is read at the right end of its step, where guessing has a TPR of
    `(a + 1) / (n + 1)`, a the false positives that n non-members allow.
    """
    count = point["nonmembers"]
    guess = (int(point["fpr"] * count + 1e-9) + 1) / (count + 1)
    return max(point["fpr"], guess, point.get("realised_fpr") or 0.0)


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    auc = max(rows, key=lambda r: r["auc"])
    text = f"the best attack ({_short(auc)}) reaches an AUC of {with_interval(auc, 'auc')}"
    found = [r for r in rows if _points(r)]
    if not found:
        return text + "."
    tpr = max(found, key=lambda r: _points(r)[0]["tpr"])
    point = _points(tpr)[0]
    finder = "it" if auc["attack"] == tpr["attack"] else f"the best at few mistakes ({_short(tpr)})"
    return (
        f"{text}; {finder} finds {rate(point)} of the members while accusing "
        f"{share(point['fpr'])} of the non-members."
    )


def _usefulness(utility: Sequence[Mapping[str, Any]]) -> str:
    published = _rows(utility, "trained_on", "published")
    raw = _rows(utility, "trained_on", "raw")
    if not published:
        return ""
    text = (
        "A classifier trained on the release is right on "
        f"{with_interval(published[0], 'accuracy', percent=True)} of real test records"
    )
    if raw:
        text += f"; trained on the raw data, on {with_interval(raw[0], 'accuracy', percent=True)}"
    return text + "."


def _short(row: Mapping[str, Any]) -> str:
    return SHORT_ATTACKS.get(row["attack"], str(row["attack"]))
