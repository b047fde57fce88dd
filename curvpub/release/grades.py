"""The grade of a release: how bad the worst of the audit's figures is, by fixed limits.

A mean over all records hides those that stick out, and membership is not all that a release can
give away. So four things are judged, each by itself, and the worst of them is the grade: attacks on
all records, on the most exposed ones, on planted canaries, and tracing published records back.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Rows = Sequence[Mapping[str, Any]]

GRADES = ("good", "fair", "poor", "bad")
"""From the best to the worst."""

AUCS = (0.55, 0.65, 0.8)
"""AUC from which on a release is fair, poor, bad."""

LIFTS = (3.0, 10.0, 30.0)
"""The same of a lift, TPR divided by FPR."""

TRACED = (0.03, 0.1, 0.3)
"""The same of a share of published records that lead to one private record, beyond guessing: what
these lifts are at an FPR of 1%."""

_ALL_RECORDS = (
    "The best attacks that were run do only slightly better than guessing.",
    "The attacks that were run do clearly better than guessing, but not well.",
    "The attacks that were run recognise many members: protection is weak.",
    "This release does not hide who is in the private data.",
)
_MOST_EXPOSED = (
    "The most exposed records are recognised only slightly better than by guessing.",
    "The most exposed records are recognised clearly better than by guessing, but not well.",
    "Many of the most exposed records are recognised: their protection is weak.",
    "This release does not hide the most exposed records.",
)
_CANARIES = (
    "Records that stick out are recognised only slightly better than by guessing.",
    "Records that stick out (planted canaries) are recognised clearly better than by guessing.",
    "Many records that stick out (planted canaries) are recognised: their protection is weak.",
    "This release does not hide people whose records stick out (planted canaries).",
)
_RE_IDENTIFIED = (
    "Hardly any published record leads back to the private one that it comes from.",
    "Some published records lead back to the private ones that they come from.",
    "Many published records lead back to the private ones that they come from.",
    "Published records can be traced back to the private ones that they come from.",
)
_SINGLED_OUT = (
    "Published values hardly single anybody out.",
    "Published values single out some people in the private data.",
    "Published values single out many people in the private data.",
    "Published values single people out in the private data.",
)


class Judgement(NamedTuple):
    """A grade and what it says."""

    grade: str
    sentence: str


def judgements(results: Mapping[str, Any]) -> list[Judgement]:
    """All judgements, that on all records first.

    Args:
      results: with attacks on a published release; as described in `curvpub.release.report` or
        `curvpub.release.standalone`.
    """
    settings = results["config"]
    confidence = settings.get("audit", settings).get("confidence", 0.95)
    found = [_on_all(*on_publisher(results, "published"))]
    for rows, words in (
        (on_most_exposed(results), _MOST_EXPOSED),
        (on_canaries(results), _CANARIES),
    ):
        if rows:
            found.append(_say(_of_few(rows, confidence), words))
    matching = results.get("matching")
    if matching:
        found.append(_say(_traced(matching["rate"], matching["guess"]), _RE_IDENTIFIED))
    return found + _without_game(results)


def on_publisher(results: Mapping[str, Any], name: str) -> tuple[Rows, Rows]:
    """A publisher's rows in the game (without one: on the release), and its other rows."""
    everything = [r for r in results["attacks"] if r["publisher"] == name]
    chosen = in_game(everything, "publisher", name)
    return chosen, [r for r in everything if r not in chosen]


def in_game(rows: Rows, name: str, value: str) -> Rows:
    """Rows of which `name` is `value`: those of the game, or others where there was none."""
    chosen = [r for r in rows if r[name] == value]
    return [r for r in chosen if r["scope"] == "game"] or chosen


def on_most_exposed(results: Mapping[str, Any]) -> Rows:
    """Rows of the published release on its most exposed records."""
    found = results.get("worst_case") or {"attacks": []}
    return [r for r in found["attacks"] if r["publisher"] == "published"]


def on_canaries(results: Mapping[str, Any]) -> Rows:
    """Rows of the published release on planted canaries; natural records are none."""
    found = results.get("canaries") or {"attacks": []}
    return [
        r for r in found["attacks"] if r["publisher"] == "published" and r["scope"] != "natural"
    ]


def measured_points(row: Mapping[str, Any]) -> Rows:
    """A row's operating points that have a figure."""
    return [p for p in row["points"] if p["tpr"] is not None]


def _on_all(rows: Rows, single: Rows) -> Judgement:
    """Grades the strongest figure of any attack on all records.

    A single release says less than the game, so what was measured on it (`single`) counts by the
    low end of its interval: it can make the grade worse, where it is sure to. So do operating
    points beyond the first, which rest on few false accusations.
    """
    auc = max([r["auc"] for r in rows] + [r["auc_low"] for r in single])
    first = [p for r in rows for p in measured_points(r)[:1]]
    every = [p for r in [*rows, *single] for p in measured_points(r)]
    lifts = [p["tpr"] / max(p["fpr"], p.get("realised_fpr") or 0.0) for p in first]
    lifts += [p["tpr_low"] / _false(p) for p in every]
    above = any(r["auc_low"] > 0.5 for r in [*rows, *single])
    above = above or any(p["tpr_low"] > _false(p) for p in every)
    if not above:
        return Judgement("good", "No attack that was run does measurably better than guessing.")
    return _say(_of_attacks(auc, max(lifts, default=0.0)), _ALL_RECORDS)


def _of_few(rows: Rows, confidence: float) -> int:
    """Grades figures on few records: those that are surely above guessing count as they stand.

    Few records have wide intervals, and of many such figures the largest is large by chance. Sure
    is what lies above guessing by an interval widened for their number (Bonferroni).
    """
    normal, tail = statistics.NormalDist(), 0.5 * (1.0 - confidence)
    wider = normal.inv_cdf(tail / len(rows)) / normal.inv_cdf(tail)

    def sure(found: Mapping[str, Any], name: str, guess: float) -> bool:
        return found[name] - wider * (found[name] - found[f"{name}_low"]) > guess

    points = [p for r in rows for p in measured_points(r)]
    auc = max((r["auc"] for r in rows if sure(r, "auc", 0.5)), default=0.5)
    lifts = (p["tpr"] / p["fpr"] for p in points if sure(p, "tpr", _false(p)))
    return _of_attacks(auc, max(lifts, default=0.0))


def _without_game(results: Mapping[str, Any]) -> list[Judgement]:
    """What a stand-alone audit finds beside its attacks: copies, and people singled out."""
    found = []
    copies = {row["who"]: row for row in results.get("copies") or []}
    if copies and copies["private"]["share_low"] > copies["nonmembers"]["share_high"]:
        count = copies["private"]["count"]
        found.append(
            Judgement("bad", f"{count} private records are published exactly as they are.")
        )
    advantages = [row["risk_low"] or 0.0 for row in results.get("anonymeter") or []]
    alone = results.get("singling_out")
    if alone:
        advantages.append(alone["advantage_low"])
    if advantages:
        found.append(_say(_traced(max(advantages), 0.0), _SINGLED_OUT))
    return found


def _of_attacks(auc: float, lift: float) -> int:
    return max(_place(auc, AUCS), _place(lift, LIFTS))


def _traced(rate: float, guess: float) -> int:
    """Grades a share of hits: those beyond guessing, of what guessing leaves to be found."""
    return _place((rate - guess) / max(1.0 - guess, 1e-9), TRACED)


def _place(value: float, limits: Iterable[float]) -> int:
    return sum(value >= limit for limit in limits)


def _say(place: int, words: Sequence[str]) -> Judgement:
    return Judgement(GRADES[place], words[place])


def _false(point: Mapping[str, Any]) -> float:
    """The false positive rate that a TPR may have been bought with, or that guessing reads.

    An empirical ROC curve is read at the right end of its step, where guessing has a TPR of
    `(a + 1) / (n + 1)`, a the false positives that n non-members allow.
    """
    count = point["nonmembers"]
    guess = (int(point["fpr"] * count + 1e-9) + 1) / (count + 1)
    return max(point["fpr"], guess, point.get("realised_fpr") or 0.0)
