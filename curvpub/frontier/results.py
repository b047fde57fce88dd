"""The result file: one JSON line a point, a comparison or a reference; aggregates only."""

import itertools
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy

from curvpub.runtime import devices, files

RECORDS = (
    "run", "reference", "point", "equal_accuracy", "equal_accuracy_parts", "equal_exposure",
    "paired",
)  # fmt: skip
"""What a line can be: its field `record`. `equal_accuracy_parts` is `equal_accuracy` against the
method without its parts, references but for the raw data, in the place of competitors."""
POINT_FIELDS = (
    "record", "data", "seed", "entry", "kind", "role", "strength", "sweep", "changes", "options",
    "effort", "amount", "shadows", "pool", "test", "members", "published", "accuracy",
    "validation_accuracy", "fpr", "attacks", "worst", "most_exposed", "null", "deciles",
    "quality", "pareto", "selected", "seconds", "machine",
)  # fmt: skip
"""Fields of a point's line. `amount` is the kind's own number (rho of the method, say), which
`strength` is too where nothing else is swept. `pareto` names the figures, of `auc` and `tpr`, in
whose plane of validation accuracy and exposure no other point beats it."""


def machine() -> dict[str, Any]:
    """Hardware and versions of the process that writes the line."""
    return {
        "devices": devices.describe(devices.data_mesh()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def write(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes all lines atomically; a figure that is not finite is an error."""
    lines = [json.dumps(row, sort_keys=True, allow_nan=False) for row in rows]
    files.write_bytes(path, "\n".join(lines) + "\n")


def set_aside(path: pathlib.Path, run: Mapping[str, Any]) -> pathlib.Path | None:
    """Renames a result file that a run with other settings wrote, before another takes its place.

    Args:
      path: the result file, which need not be there.
      run: the first line of the results that are to be written there.

    Returns:
      Its new path; None where there is none, or where its settings are the same.
    """
    if not path.exists():
        return None
    try:
        first = next(iter(read(path)), {})
    except ValueError:  # none of ours: all the more to be kept
        first = {}
    if all(first.get(k) == json.loads(json.dumps(run[k])) for k in ("configuration", "shared")):
        return None
    names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    return path.rename(kept)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads a result file.

    Raises:
      ValueError: a line is none of ours.
    """
    rows = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number} is not JSON") from error
        if not isinstance(row, dict) or row.get("record") not in RECORDS:
            raise ValueError(f"{path}: line {number} is none of {', '.join(RECORDS)}")
        rows.append(row)
    return rows


def points(rows: Iterable[Mapping[str, Any]], seed: int | None = None) -> list[dict[str, Any]]:
    """The points among the lines, of one seed or of all."""
    return [dict(r) for r in rows if r["record"] == "point" and (seed is None or r["seed"] == seed)]


def provenance(points: Sequence[Mapping[str, Any]]) -> str:
    """Data, seed, shadows, machines and time of points, in one line.

    The time is the sum over points of their shadows' releases and attacks; trainings, which points
    share, are not in it, and calls that ran side by side count each.

    Raises:
      ValueError: there are no points.
    """
    if not points:
        raise ValueError("points=[]: there is nothing to tell")
    seeds = ", ".join(sorted({str(p["seed"]) for p in points}))
    machines = sorted({_brief(p["machine"]) for p in points})
    hours = sum(p["shadows"] * p["seconds"]["release_and_attack"] for p in points) / 3600
    return (
        f"{points[0]['data']}, seed {seeds}; {points[0]['shadows']} shadows of "
        f"{points[0]['members']:,} of {points[0]['pool']:,} records; {'; '.join(machines)}; "
        f"{hours:.2g} hours of releases and attacks"
    )


def _brief(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    return f"{machine['devices']}, {machine['cores']} cores, jax {machine['jax']}"
