"""The page of a stand-alone audit, self-contained, and what the terminal shows beside the attacks.

`results` is one plain JSON-able dict, as `curvpub.standalone.auditing` makes it: `name`, `created`,
`machine`, `config`, `sizes`, `attacks`, `utility`, `roc`, `checks`, `warnings` and `timings` as
`curvpub.release.report` describes them, and

- `copies`: rows with `who`, `count` of `records`, and their `share` with `_low` and `_high`.
- `attributes`: rows as in the report, of this release.
- `singling_out`: `predicates`, the shares that isolate one record of the `private` and of the
  `nonmembers`, and `advantage` with `_low` and `_high`; or None.
- `anonymeter`: rows with `kind`, `what`, the rates `private`, `nonmembers` and `guess`, and `risk`,
  each with `_low` and `_high`.
- `limits` and `next_steps`: sentences.
"""

import base64
from collections.abc import Mapping
from typing import Any

import markupsafe

from curvpub.release import card, figures, wording


def page(results: Mapping[str, Any]) -> str:
    """The page as HTML without any outside request."""
    grade, sentences = wording.verdict(results)
    attacks = wording.in_order(results["attacks"])
    pictures = {
        "intervals": figures.interval_chart(results["attacks"]),
        "roc": figures.roc_loglog(results["roc"]),
    }
    return (
        card.environment()
        .get_template("standalone.html")
        .render(
            results=results,
            grade=grade,
            sentences=sentences,
            attacks=attacks,
            points=wording.shown_points(attacks),
            not_resolvable=wording.not_resolvable(attacks),
            pictures={name: _data_uri(content) for name, content in pictures.items()},
        )
    )


def more_tables(results: Mapping[str, Any]) -> str:
    """Copies, hidden columns, singling out, limits and next steps as plain text."""
    lines = [
        f"exact copies: {row['count']} of {row['records']} {row['who']}"
        for row in results["copies"]
    ]
    lines += [
        f"hidden column {row['column']}: guessed for {wording.share(row['members'])} of the "
        f"private records, {wording.share(row['nonmembers'])} of the non-members, advantage "
        f"{wording.change(row, 'advantage', percent=True)}"
        for row in results["attributes"]
    ]
    if results["singling_out"]:
        row = results["singling_out"]
        lines.append(
            f"singling out: {wording.share(row['private'])} of {row['predicates']} predicates "
            f"isolate a private record, {wording.share(row['nonmembers'])} a non-member, advantage "
            f"{wording.change(row, 'advantage', percent=True)}"
        )
    lines += [
        f"anonymeter, {row['kind']} ({row['what']}): "
        f"{wording.with_interval(row, 'private', percent=True)}, non-members "
        f"{wording.with_interval(row, 'nonmembers', percent=True)}"
        for row in results["anonymeter"]
    ]
    for title, sentences in (
        ("What this cannot know", results["limits"]),
        ("What to do next", results["next_steps"]),
    ):
        lines += ["", f"{title}:", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _data_uri(content: bytes) -> str:
    # Markup: base64 needs no escaping, and escaping megabytes takes its time.
    return markupsafe.Markup("data:image/png;base64," + base64.b64encode(content).decode())
