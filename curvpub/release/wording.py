"""How figures and attacks are put into words, alike on the card, the page and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from curvpub.release import grades

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
    "tangent": "nearest, deformed",
    "registration": "nearest, registered",
    "sources": "traced to sources",
    "attributes": "hidden columns",
    "pairs": "record and nearest",
    "generator": "own generator",
    "generator_calibrated": "own gen., calibr.",
    "generator_copies": "own gen., deformed",
    "generator_error": "own reconstruction",
    "generator_curvature": "own curvature",
    "generator_code": "nearest code",
    "generator_moved": "nearest when moved",
    "combined": "all together",
    "loss_relative": "loss, relative",
    "nearest_axes": "nearest, main axes",
    "nearest_relative": "nearest, relative",
    "registration_relative": "registered, relative",
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


def missing(config: Mapping[str, Any]) -> str:
    """Who has no part in a release; empty where everybody has.

    Args:
      config: public settings of the run, as far as there are any.
    """
    part = config.get("lower", {}).get("left_out", 0.0)
    if not part:
        return ""
    return (
        f"The {share(part)} of the private records that stick out most were left out of it, to "
        "protect them: records of rare kinds, and wrong ones, are fewer than in the private data."
    )


def guarantee(stated: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """What is promised, whatever the attack: a sentence in front, and what it rests on.

    Args:
      stated: `dataclasses.asdict` of a `dp.DPGuarantee`, or None where there is none.
    """
    if stated is None:
        return (
            "No formal guarantee: the protection is empirical. There is no (epsilon, delta) "
            "guarantee, and this release is not differentially private.",
            [],
        )
    sentences = [
        f"Neighbouring data sets: {stated['neighbours']}.",
        *(f"Mechanism: {text}." for text in stated["mechanisms"]),
        f"Composed by: {stated['accountant']}.",
        *(f"Taken as public: {text}." for text in stated["public"]),
        *(f"Assumed: {text}." for text in stated["assumptions"]),
        "Nothing else looked at private records on the way to the published ones. Figures of an "
        "audit are not covered: they come from private records without noise.",
    ]
    return (
        f"Formal guarantee: the published records are ({stated['epsilon']:g}, "
        f"{stated['delta']:g})-differentially private.",
        sentences,
    )


def verdict(results: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What the audit found, in plain words.

    The grade is the worst of what was found on all records, on the most exposed ones, on planted
    canaries, and by tracing published records back; see `curvpub.release.grades`.

    Args:
      results: as described in `curvpub.release.report` or `curvpub.release.standalone`.

    Returns:
      A grade (`good`, `fair`, `poor`, `bad`, or `none` without an attack) and sentences.
    """
    published, _ = grades.on_publisher(results, "published")
    if not published:
        return "none", ["No attack has been run on this release: nothing is known about it."]
    everyone, *others = grades.judgements(results)
    worst = max((everyone, *others), key=lambda j: grades.GRADES.index(j.grade))
    sentences = [worst.sentence]
    if worst is not everyone:
        sentences.append(f"Over all records: {everyone.sentence[0].lower()}{everyone.sentence[1:]}")
    sentences.append(f"After publication, {_best(published)}")
    raw, _ = grades.on_publisher(results, "raw")
    if raw:
        sentences.append(f"On the raw data, {_best(raw)}")
    sentences += worst_case(results)
    sentences.append(
        "Guessing gives an AUC of 0.5 and finds as many members as it accuses non-members."
    )
    sentences.append(_usefulness(results["utility"]))
    return worst.grade, [s for s in sentences if s]


def worst_case(results: Mapping[str, Any]) -> list[str]:
    """Sentences on exposed records, canaries and re-identification, where there are figures."""
    sentences = []
    found, planted = results.get("worst_case"), grades.on_canaries(results)
    rows = grades.on_most_exposed(results)
    if found and rows:
        sentences.append(
            f"On the {found['records']} records that are most exposed to it, {_best(rows)}"
        )
    if planted:
        sentences.append(f"On planted canaries, {_best(planted, scopes=True)}")
    matching = results.get("matching")
    if matching:
        sentences.append(
            f"{with_interval(matching, 'rate', percent=True)} of the published records are nearest "
            f"to the private record that they come from, of {matching['candidates']}; a guess is "
            f"right in {share(matching['guess'])}."
        )
    return sentences


def _best(rows: Sequence[Mapping[str, Any]], *, scopes: bool = False) -> str:
    """The strongest figures of any row; with `scopes`, also on which records they are."""

    def name(row: Mapping[str, Any]) -> str:
        on = f"; {row['scope'].replace('_', ' ')}" if scopes else ""
        return SHORT_ATTACKS.get(row["attack"], str(row["attack"])) + on

    auc = max(rows, key=lambda r: r["auc"])
    text = f"the best attack ({name(auc)}) reaches an AUC of {with_interval(auc, 'auc')}"
    found = [r for r in rows if grades.measured_points(r)]
    if not found:
        return text + "."
    tpr = max(found, key=lambda r: grades.measured_points(r)[0]["tpr"])
    point = grades.measured_points(tpr)[0]
    finder = "it" if auc is tpr else f"the best at few mistakes ({name(tpr)})"
    return (
        f"{text}; {finder} finds {with_interval(point, 'tpr', percent=True)} of the members while "
        f"accusing {share(point['fpr'])} of the non-members."
    )


def _usefulness(utility: Sequence[Mapping[str, Any]]) -> str:
    published = grades.in_game(utility, "trained_on", "published")
    raw = grades.in_game(utility, "trained_on", "raw")
    if not published:
        return ""
    text = (
        "A classifier trained on the release is right on "
        f"{with_interval(published[0], 'accuracy', percent=True)} of real test records"
    )
    if raw:
        text += f"; trained on the raw data, on {with_interval(raw[0], 'accuracy', percent=True)}"
    return text + "."
