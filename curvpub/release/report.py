"""The report: one self-contained page for the public, one for the owner, and a terminal table.

`results` is one plain JSON-able dict:

- `name`, `created`, `machine`, `mode` (`resampled` or `aligned`): text; `config`: nested dict.
- `sizes`: `pool`, `members`, `test`, `released`.
- `attacks`: rows with `publisher` (`raw`, `published`), `attack` and its `title`,
  `scope` (`game`: over all shadows; `this release`: the release itself), `auc` with `_low` and
  `_high`, and `points`: operating points, the same in every row, each with `fpr`, `nonmembers` and
  `tpr` with `_low` and `_high`, all None where so few non-members cannot show the rate; `pooled`
  where one threshold for all shadows gave it. Points of
  `this release` also have `realised_fpr` with `_low` and `_high`: what the threshold set on shadows
  gave. `ppv` with `_low` and `_high`, where present, is the predictive value at a prior of 1%.
- `changes` (may be absent): rows with `attack`, its `title`, `fpr`, and what publication changed,
  `auc` and `tpr` (or None) with `_low` and `_high`: figures on the publisher less those on raw.
- `worst_case` (may be absent or None): `records`, how many of the most exposed; rows `attacks`.
- `canaries` (may be absent or None): `count` of each kind, and rows `attacks` with scope the kind.
- `attributes` (may be absent): rows with `publisher`, `column`, `scope`, the share of right guesses
  of the hidden column for `members` and `nonmembers`, and `advantage` with `_low` and `_high`.
- `guarantee` (may be absent or None): what is promised, as `bundle.write_release` takes it.
- `matching` (may be absent): `rate` with `_low` and `_high`, the share of published records whose
  nearest private record is the one that they come from, `guess`, and `candidates`.
- `bakeoff` (may be absent; shown to the owner alone): rows with a score's `title`, `publisher`,
  `spearman` with `_low` and `_high`, `ceiling`, and `precision`: `share`, `count`, and `value` with
  `_low` and `_high`.
- `utility`: rows with `trained_on` (`raw`, `published`), `scope`, `accuracy` with `_low`, `_high`.
- `roc`: curves as `figures.roc_loglog` takes them.
- `histograms`: `exposure_before`, `exposure_after`, `curvature_before`, `curvature_after`, each
  `counts` and `edges` from `histogram.suppressed_histogram`.
- `history`: series by name, with `step`; NaN where nothing was logged.
- `checks`: rows with `name`, `value`, `low`, `high`, `ok`, `text`; `warnings`: sentences;
  `timings`: seconds by name.

Lists and histograms may be empty, and what they would show is left out.
"""

import base64
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np

from curvpub.release import card, figures, parquet, samples, wording
from curvpub.types import Records, Release, Schema

_CURVES = 12  # series of the history that are drawn
_COLUMNS = 12  # columns of a table that are shown for a record
_WIDTH = 90  # of the terminal's sentences


def public_report(
    results: Mapping[str, Any], *, schema: Schema, release: Release, test: Records | None
) -> str:
    """The page that goes into the release: aggregates, and records that are public.

    Args:
      results: see the module.
      schema: the data set's public description.
      release: what is published.
      test: test records, only where their owner says that they are public; else None.
    """
    pictures = _pictures(results, schema, release, test)
    return _render(results, schema, pictures, test is not None, owner=None)


def private_report(
    results: Mapping[str, Any],
    *,
    schema: Schema,
    release: Release,
    test: Records | None,
    owner: Mapping[str, Any],
) -> str:
    """The page for the owner of the data: the public one, and the view of single records.

    Args:
      results: see the module.
      schema: the data set's public description.
      release: what is published.
      test: test records, or None.
      owner: `records`, rows of the most exposed members with `index`, `label`, `exposure_raw`,
        `exposure_published`, `exposure_change` (each with `_low` and `_high`, or without),
        `curvature`, `perturbation`, `left_out`; `x`, the features of the same members;
        `scatter`, arrays `curvature`, `exposure_raw`, `exposure_published` of all members;
        `spearman`, of the first two; `csv`, the name of the file with all members.

    Raises:
      ValueError: `records` and `x` differ in length.
    """
    x = np.asarray(owner["x"])
    if len(x) != len(owner["records"]):
        raise ValueError(f"owner holds {len(owner['records'])} records but {len(x)} rows of x")
    pictures = _pictures(results, schema, release, test)
    scatter = owner["scatter"]
    chart = figures.risk_scatter(
        np.asarray(scatter["curvature"], float),
        np.asarray(scatter["exposure_raw"], float),
        np.asarray(scatter["exposure_published"], float),
        float(owner["spearman"]),
    )
    view = {
        "records": [_owner_row(row, x[i], schema) for i, row in enumerate(owner["records"])],
        "columns": [c.name for c in schema.columns][:_COLUMNS],
        "more_columns": max(0, len(schema.columns) - _COLUMNS),
        "scatter": _data_uri(chart),
        "spearman": float(owner["spearman"]),
        "csv": owner["csv"],
    }
    return _render(results, schema, pictures, test is not None, owner=view)


def terminal_table(results: Mapping[str, Any]) -> str:
    """The results as aligned plain text."""
    sizes = results["sizes"]
    lines = [
        f"{results['name']}: {sizes['members']} members, {sizes['released']} published records "
        f"({results['mode']})",
        "",
    ]
    if results["attacks"]:
        lines += _attack_tables(wording.in_order(results["attacks"]))
    if results["utility"]:
        rows = [
            [r["trained_on"], r["scope"], wording.with_interval(r, "accuracy", percent=True)]
            for r in results["utility"]
        ]
        lines += [*_align([["trained on", "measured on", "accuracy on real records"], *rows]), ""]
    failed = [c for c in results["checks"] if not c["ok"]]
    lines += [f"CHECK FAILED: {c['name']}: {c['text']}" for c in failed]
    lines += [f"WARNING: {w}" for w in results["warnings"]]
    for sentence in (*wording.verdict(results)[1][:1], *wording.worst_case(results)):
        lines += textwrap.wrap(sentence, _WIDTH)
    if "guarantee" in results:
        lines += textwrap.wrap(wording.guarantee(results["guarantee"])[0], _WIDTH)
    lines.append("Empirical: measured against the attacks above, which bound no other.")
    return "\n".join(lines) + "\n"


def _attack_tables(attacks: Sequence[Mapping[str, Any]]) -> list[str]:
    """AUC and the first operating point; the other points in a table of their own, for width."""
    shown = wording.shown_points(attacks)
    head = ["attack", "measured on", "publisher"]
    names = [
        [wording.SHORT_ATTACKS.get(r["attack"], r["attack"]), r["scope"], r["publisher"]]
        for r in attacks
    ]
    lines = []
    for with_auc, places in ((True, shown[:1]), (False, shown[1:])):
        if not with_auc and not places:
            continue
        columns = ["AUC"] * with_auc
        columns += [f"TPR at {wording.share(attacks[0]['points'][i]['fpr'])} FPR" for i in places]
        rows = [
            [*name, *([wording.with_interval(r, "auc")] * with_auc)]
            + [wording.rate(r["points"][i]) for i in places]
            for name, r in zip(names, attacks, strict=True)
        ]
        lines += [*_align([[*head, *columns], *rows]), ""]
    missing = wording.not_resolvable(attacks)
    return [*lines, *missing, ""] if missing else lines


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]


def _pictures(
    results: Mapping[str, Any], schema: Schema, release: Release, test: Records | None
) -> dict[str, str]:
    """Every chart that the results allow, as data URIs by name."""
    cells = {k: v for k, v in results["histograms"].items() if len(v["counts"])}
    history = results["history"]
    names = [n for n in history if n != "step"][:_CURVES]
    made: dict[str, bytes] = {}
    if schema.kind == "image":
        made["samples"] = samples.sample_grid(schema, release, test)
    else:
        made["samples"] = samples.table_marginals(schema, test, release)
    if results["attacks"]:
        made["intervals"] = figures.interval_chart(results["attacks"])
    if results["roc"]:
        made["roc"] = figures.roc_loglog(results["roc"])
    for name, draw in (
        ("exposure", figures.exposure_before_after),
        ("curvature", figures.curvature_histogram),
    ):
        if f"{name}_before" in cells and f"{name}_after" in cells:
            made[name] = draw(cells[f"{name}_before"], cells[f"{name}_after"])
    if names and len(history["step"]):
        made["history"] = figures.training_curves({n: history[n] for n in ["step", *names]})
    return {name: _data_uri(content) for name, content in made.items()}


def _render(
    results: Mapping[str, Any],
    schema: Schema,
    pictures: Mapping[str, str],
    shows_test: bool,
    owner: Mapping[str, Any] | None,
) -> str:
    grade, sentences = wording.verdict(results)
    attacks = wording.in_order(results["attacks"])
    return (
        card.environment()
        .get_template("report.html")
        .render(
            results=results,
            schema=schema,
            pictures=pictures,
            shows_test=shows_test,
            owner=owner,
            grade=grade,
            sentences=sentences,
            guarantee=wording.guarantee(results.get("guarantee")),
            missing=wording.missing(results["config"]),
            attacks=_attack_rows(attacks),
            points=wording.shown_points(attacks),
            changes=results.get("changes", []),
            worst=_few(results.get("worst_case")),
            canaries=_few(results.get("canaries"), beside="natural"),
            guesses=[r for r in results.get("attributes", []) if r["scope"] == "game"],
            matching=results.get("matching"),
            not_resolvable=wording.not_resolvable(attacks),
            settings=_flat(results["config"]),
            machine=_flat({"": results["machine"]}),
        )
    )


def _attack_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per attack and scope, with the row of each publisher or None."""
    keys = dict.fromkeys((r["attack"], r["scope"]) for r in rows)
    found = {(r["attack"], r["scope"], r["publisher"]): r for r in rows}
    titles = {r["attack"]: r["title"] for r in rows}
    return [
        {
            "name": titles[attack],
            "scope": scope,
            "raw": found.get((attack, scope, "raw")),
            "published": found.get((attack, scope, "published")),
        }
        for attack, scope in keys
    ]


def _few(found: Mapping[str, Any] | None, beside: str = "") -> dict[str, Any] | None:
    """Figures on a few records, with what the page's tables of them need.

    Rows of the scope `beside` are on many records, and say no rates that the others cannot.
    """
    rows = found["attacks"] if found else []
    if not rows:
        return None
    few = [r for r in rows if r["scope"] != beside]
    made = _attack_rows(rows)
    ranked = sorted((r for r in made if r["published"]), key=lambda r: r["published"]["auc"])
    best = {r["scope"]: r for r in ranked}  # the last one stays
    return {
        **(found or {}),
        "rows": made,
        "best": list(best.values())[::-1],
        "points": wording.shown_points(few),
        "fprs": [p["fpr"] for p in rows[0]["points"]],
        "not_resolvable": wording.not_resolvable(few),
    }


def _owner_row(row: Mapping[str, Any], x: np.ndarray, schema: Schema) -> dict[str, Any]:
    made: dict[str, Any] = {**row, "label": _class_name(row["label"], schema), "values": []}
    if schema.kind == "image":
        made["picture"] = _data_uri(parquet.png(parquet.to_uint8(x)))
    else:
        made["values"] = [
            c.categories[int(v)] if c.categories else f"{float(v):.5g}"
            for c, v in zip(schema.columns[:_COLUMNS], x, strict=False)
        ]
    return made


def _class_name(label: Any, schema: Schema) -> str:
    return label if isinstance(label, str) else schema.classes[int(label)]


def _data_uri(content: bytes) -> str:
    # Markup: base64 needs no escaping, and escaping megabytes takes its time.
    return markupsafe.Markup("data:image/png;base64," + base64.b64encode(content).decode())


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested dict as dotted names and texts."""
    if not isinstance(tree, Mapping):
        return [(prefix, str(tree))]
    parts = [_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in tree.items()]
    return [pair for part in parts for pair in part]
