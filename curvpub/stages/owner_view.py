"""The owner's view: figures of single records. Private throughout."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from curvpub.audit.uncertainty import (
    RecordIntervals,
    exposure_change_intervals,
    exposure_intervals,
)
from curvpub.stages.audit import Observed
from curvpub.workspace import Run

_MOST_EXPOSED = 40  # records shown one by one
_COLUMNS = {"curvature": "exposure", "perturbation": "perturbation", "left_out": "left_out"}


def exposures(
    run: Run, observed: Mapping[str, Observed], member: np.ndarray
) -> tuple[dict[str, RecordIntervals], RecordIntervals]:
    """Every pool record's exposure in each game, and its change from raw to published.

    Args:
      run: the run.
      observed: the signals of the games `raw` and `published`.
      member: membership of both, bool `[K, N]`.
    """
    confidence = run.config.audit.confidence
    signals = {name: o.shadows["confidence"] for name, o in observed.items()}
    found = {
        name: exposure_intervals(signal, member, confidence=confidence)
        for name, signal in signals.items()
    }
    change = exposure_change_intervals(
        signals["raw"], signals["published"], member, confidence=confidence
    )
    return found, change


def owners_view(
    run: Run, info: dict[str, np.ndarray], exposure: Mapping[str, RecordIntervals]
) -> dict[str, Any]:
    """The per-record view, for the private page alone; `source` is where the owner finds a record.

    Args:
      run: the run.
      info: private facts about the publication.
      exposure: of every pool record, `raw`, `published`, and the `change` between them.
    """
    pool, index = run.dataset.pool, np.flatnonzero(run.member)
    columns = {"index": index, "label": pool.y[index]}
    columns["source"] = np.asarray(run.sources(index))
    for name, found in exposure.items():
        columns[f"exposure_{name}"] = found.value[index]
        columns[f"exposure_{name}_low"] = found.low[index]
        columns[f"exposure_{name}_high"] = found.high[index]
    columns |= {k: info[v] for k, v in _COLUMNS.items()}
    order = np.argsort(-columns["exposure_raw"])
    rows = [{k: v[i].item() for k, v in columns.items()} for i in order]
    correlation = stats.spearmanr(columns["curvature"], columns["exposure_raw"])
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return {
        "records": rows[:_MOST_EXPOSED],
        "x": pool.x[index[order[:_MOST_EXPOSED]]],
        "scatter": {k: columns[k] for k in ("curvature", "exposure_raw", "exposure_published")},
        "spearman": float(np.asarray(correlation)[0]),
        "csv": "records.csv",
        "table": table.getvalue(),
    }
