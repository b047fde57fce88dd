"""The data set card, `README.md` of a release, in the form that Hugging Face reads."""

import html
import json
import re
from typing import Any

import jinja2
import markupsafe

from curvpub.release import wording

_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip


def environment() -> jinja2.Environment:
    """Templates of this package; all text escapes itself for HTML, or is passed through `md`."""
    result = jinja2.Environment(
        loader=jinja2.PackageLoader("curvpub.release", "templates"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters["md"] = escape_markdown
    result.filters["yaml"] = _yaml
    result.filters["share"] = wording.share
    result.filters["number"] = wording.number
    result.globals["figure"] = wording.with_interval
    result.globals["rate"] = wording.rate
    result.globals["change"] = wording.change
    return result


def make_card(metadata: dict[str, Any]) -> str:
    """The card of a release.

    Args:
      metadata: content of `release.json`. `attacks` and `utility`, lists as in the report's
        results, are shown as tables where they are present, there or in its entry `audit`.
        Without an entry `guarantee` the card says that there is none.
    """
    released = int(metadata["sizes"]["released"])
    schema = metadata["schema"]
    figures = metadata.get("audit", {}) | metadata
    attacks = wording.in_order(figures.get("attacks", []))
    rows = {"attacks": attacks, "utility": [], "config": metadata.get("configuration", {})}
    page = environment().get_template("README.md")
    return page.render(
        meta=metadata,
        schema=schema,
        released=released,
        size=next((word for limit, word in _SIZES if released < limit), "1B<n<10B"),
        sentences=wording.verdict(figures | rows)[1],
        attacks=attacks,
        points=wording.shown_points(attacks),
        not_resolvable=wording.not_resolvable(attacks),
        utility=figures.get("utility", []),
        guarantee=wording.guarantee(metadata.get("guarantee")),
        missing=wording.missing(rows["config"]),
    )


def escape_markdown(text: object) -> markupsafe.Markup:
    """Text that Markdown (tables included) and HTML show as it is, on one line."""
    line = " ".join(str(text).split())
    return markupsafe.Markup(
        re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(line, quote=False))
    )


def _yaml(value: object) -> markupsafe.Markup:
    """A value as JSON in ASCII, which is YAML too."""
    return markupsafe.Markup(json.dumps(value, ensure_ascii=True))
