"""The Markdown of a result file, and the README with it between its markers."""

from collections.abc import Mapping, Sequence
from typing import Any

from curvpub.frontier import results
from curvpub.frontier.equal_exposure import SIGNS
from curvpub.frontier.settings import MODEL_KINDS

START, END = "<!-- frontier: python docs/frontier.py -->", "<!-- end of frontier -->"
_MARKS = (
    "* = by the half of the test records that selects, no other point is as accurate and less "
    "exposed; the accuracies shown are those on the other half. Of each entry the strength is "
    "shown that a user would take by the half that selects. Accuracy is that of the attacker's own "
    "classifier, trained on the release and normalised as the attacker normalises, by the whole "
    "pool; a model that is released instead of records is asked itself."
)
_PARTS = "The method against itself without its parts (entries that are no competitors):"
_USERS = (
    "Models that users train, knowing the release alone: accuracy on the half of the test records "
    "that is reported, %, and expected calibration error, means over releases:"
)
Row = Mapping[str, Any]


def markdown(rows: Sequence[Row]) -> str:
    """Selected points by seed, the method at equal accuracy and exposure, and users' models.

    What was not compared or not measured has no table.
    """
    found = []
    for seed in sorted({r["seed"] for r in results.points(rows)}):
        points = [p for p in results.points(rows, seed) if p["selected"]]
        found.append(_selected([*points], rows, seed))
        equal = [r for r in rows if r["record"] == "equal_accuracy" and r["seed"] == seed]
        if equal:
            found.append(_equal(equal))
        parts = [r for r in rows if r["record"] == "equal_accuracy_parts" and r["seed"] == seed]
        if parts:
            found.append(f"{_PARTS}\n\n{_equal(parts, other='without a part')}")
        alike = [r for r in rows if r["record"] == "equal_exposure" and r["seed"] == seed]
        alike = [r for r in alike if r["figure"] in SIGNS]  # earlier files rank by others, too
        if alike:
            found.append(_alike(alike))
        judged = [p for p in points if p["quality"] and _users_models(p)]
        if judged:
            found.append(_users(judged))
    return "\n\n".join(found)


def short(rows: Sequence[Row]) -> str:
    """The method beside the least exposed competitor, at each accuracy that either has."""
    found = []
    for seed in sorted({r["seed"] for r in results.points(rows)}):
        points = results.points(rows, seed)
        equal = [r for r in rows if r["record"] == "equal_accuracy" and r["seed"] == seed]
        found.append(_short(points, equal))
    return "\n\n".join(found)


def _short(points: Sequence[Row], equal: Sequence[Row]) -> str:
    first, rate = points[0], f"TPR at {points[0]['fpr']:.2g} FPR"
    head = [
        f"{first['data']}, seed {first['seed']}: accuracy (of)", "competitor: AUC", "method: AUC",
        "excess, method / competitor", f"competitor: {rate}", f"method: {rate}",
        "method / competitor",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for point in points:
        if point["kind"] == "raw":
            auc = f"{point['worst']['auc']['value']:.3f}"
            tpr = f"{point['worst']['tpr']['value']:.1%}" if "tpr" in point["worst"] else ""
            lines.append(f"| {point['accuracy'][0]:.1%} (raw records) | {auc} | | | {tpr} | | |")
    anchors = {(r["accuracy"], r["anchor"], r["anchor_strength"]) for r in equal}
    for accuracy, entry, strength in sorted(anchors, reverse=True):
        cells = [f"{accuracy:.1%} ({entry}, {strength:g})"]
        for figure, form in (("auc", "{:.3f}"), ("tpr", "{:.1%}")):
            at = (figure, entry, strength)
            mine = [r for r in equal if (r["figure"], r["anchor"], r["anchor_strength"]) == at]
            cells += _sides(mine[0], form) if mine else ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(f"\n{results.provenance(points)}.")
    return "\n".join(lines)


def _sides(row: Row, form: str) -> list[str]:
    """The competitor, the method and their ratio in one line of a comparison."""

    def side(excess: float | None, entry: str) -> str:
        if excess is None:
            return "not reached"
        return f"{form.format(excess + row['chance'])} ({entry})"

    return [
        side(row["excess"], row["competitor"]),
        side(row["method_excess"], row["method"]),
        "" if row["ratio"] is None else _bracket(row["ratio"], "{:.2f}"),
    ]


def every_point(rows: Sequence[Row]) -> str:
    """All points there are, and how long a shadow took, without any comparison."""
    points = results.points(rows)
    head = [
        f"{points[0]['data']}: entry, strength", "accuracy", "worst attack: AUC",
        f"TPR at {points[0]['fpr']:.2g} FPR", "the same, wrong members: AUC",
        "seconds a shadow: training; release and attack",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for point in points:
        worst, seconds = point["worst"], point["seconds"]
        train = "" if seconds["train"] is None else f"{seconds['train']:.2g}"
        cells = [
            f"{point['entry']}, {point['strength']:g}",
            _share(point["accuracy"]),
            _worst(worst["auc"]),
            _worst(worst["tpr"], percent=True) if "tpr" in worst else "",
            _bracket(point["null"]["auc"], "{:.3f}"),
            f"{train}; {seconds['release_and_attack']:.2g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(f"\n{results.provenance(points)}.")
    return "\n".join(lines)


def readme_with(text: str, table: str) -> str:
    """A README's text with another table between the markers.

    Raises:
      ValueError: the markers are not there.
    """
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"the text needs the lines {START} and {END} once each")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}"


def _selected(points: list[dict[str, Any]], rows: Sequence[Row], seed: int) -> str:
    first = points[0]
    rate = f"{first['fpr']:.2g}"
    head = [
        f"{first['data']}, seed {seed}: publisher, strength", "accuracy", "worst attack: AUC",
        f"TPR at {rate} FPR", "most exposed: AUC", "Frechet", "density, coverage",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    reference = [r for r in rows if r["record"] == "reference" and r["seed"] == seed]
    if reference:
        quality = reference[0]["quality"]
        lines.append(f"| real records | | | | | {_quality(quality)} |")
    for point in sorted(points, key=_exposed):
        star = " *" if "auc" in point["pareto"] else ""
        exposed, worst = point["most_exposed"], point["worst"]
        cells = [
            f"{_named(point)}{star}",
            _share(point["accuracy"]),
            _worst(worst["auc"]),
            _worst(worst["tpr"], percent=True) if "tpr" in worst else "",
            _worst(exposed["auc"]) if exposed else "",
            _quality(point["quality"]["mean"]) if point["quality"] else " | ",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    confidence = rows[0]["configuration"]["audit"]["confidence"]
    lines.append(
        f"\n{results.provenance(results.points(rows, seed))}. Brackets: {confidence:.0%} "
        f"intervals. {_MARKS}"
    )
    return "\n".join(lines)


def _equal(rows: Sequence[Row], *, other: str = "competitor") -> str:
    head = ["accuracy (of)", "figure", "method", f"best {other}", f"method / {other}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        name = "excess AUC" if row["figure"] == "auc" else "TPR"
        number = lambda v: "not reached" if v is None else f"{v:.4f}"
        ratio = "" if row["ratio"] is None else _bracket(row["ratio"], "{:.2f}")
        cells = [
            f"{row['accuracy']:.1%} ({row['anchor']}, {row['anchor_strength']:g})",
            name,
            f"{number(row['method_excess'])} ({row['method']})",
            f"{number(row['excess'])} ({row['competitor']})",
            ratio,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _alike(rows: Sequence[Row]) -> str:
    head = ["worst attack: AUC (of)", "figure (real records)", "method", "best competitor", "gap"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def taken(row: Row, side: str) -> str:
        if row[side] is None:
            return "none is so little exposed"
        return f"{row[side + '_value']:.3g} ({row[side]}, {row[side + '_strength']:g})"

    for row in rows:
        way = "higher" if row["higher_is_better"] else "lower"
        cells = [
            f"{row['exposure']:.3f} ({row['anchor']}, {row['anchor_strength']:g})",
            f"{row['figure']}, {way} is better ({row['real']:.3g})",
            taken(row, "method"),
            taken(row, "competitor"),
            "" if row["difference"] is None else _bracket(row["difference"], "{:.3g}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        "\nGap: the method's value less the competitor's, its mean and an interval by Student's t "
        "over the releases that were measured. Exposures, the real records that are compared with "
        "and the choice of the best point are taken as given."
    )
    return "\n".join(lines)


def _users(points: Sequence[Row]) -> str:
    """What users' models make of the points' releases, the least exposed first."""
    models = [m for m in MODEL_KINDS if any(m in _users_models(p) for p in points)]
    head = ["publisher, strength"] + [f"{m}: accuracy, calibration error" for m in models]
    lines = [_USERS + "\n", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for point in sorted(points, key=_exposed):
        mean, known = point["quality"]["mean"], _users_models(point)
        cells = [
            f"{100 * mean[m + '_accuracy']:.1f}, {mean[m + '_calibration']:.3f}"
            if m in known
            else ""
            for m in models
        ]
        lines.append("| " + " | ".join([_named(point), *cells]) + " |")
    return "\n".join(lines)


def _users_models(point: Row) -> list[str]:
    """Names of the models that a point's releases were judged by."""
    return [m for m in MODEL_KINDS if f"{m}_calibration" in point["quality"]["mean"]]


def _exposed(point: Row) -> float:
    return point["worst"]["auc"]["value"]


def _named(point: Row) -> str:
    """A point's entry, the method's in bold, and its strength."""
    name = f"**{point['entry']}**" if point["role"] == "method" else point["entry"]
    return f"{name}, {point['strength']:g}"


def _bracket(values: Sequence[float | None], form: str) -> str:
    value, low, high = ("∞" if v is None else form.format(v) for v in values)
    return f"{value} [{low}, {high}]"


def _share(values: Sequence[float]) -> str:
    return _bracket([100 * v for v in values], "{:.1f}")


def _worst(worst: Row, *, percent: bool = False) -> str:
    values = [worst["value"], worst["low"], worst["high"]]
    text = _share(values) if percent else _bracket(values, "{:.3f}")
    return f"{text} ({worst['attack']})"


def _quality(quality: Row) -> str:
    return f"{quality['frechet']:.3g} | {quality['density']:.2f}, {quality['coverage']:.2f}"
