"""The worst case of the report: figures on the records that are most exposed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from curvpub.audit import worst_case
from curvpub.audit.attack_kinds import Signals
from curvpub.audit.attacks import usable_attacks
from curvpub.workspace import Run

SHARE = 0.05
"""Share of the pool that counts as the most exposed."""

_FEWEST = 20  # of them: aggregates of fewer records would say something about single ones
_LOOSE_FPR = 0.1  # shown last: the rate that a few records can show


def operating_points(fprs: tuple[float, ...]) -> tuple[float, ...]:
    """False-positive rates for figures on a few records: those of the report, and a loose one."""
    return (*fprs, *(loose for loose in (_LOOSE_FPR,) if loose > max(fprs)))


def most_exposed(
    run: Run, signals: Mapping[str, Signals], member: np.ndarray, fprs: tuple[float, ...]
) -> dict[str, Any] | None:
    """Every attack's figures on the records that are most exposed to it.

    Args:
      run: the run.
      signals: the shadows' signals of each publisher.
      member: membership of the game, bool `[K, N]`.
      fprs: false-positive rates of the report.

    Returns:
      `records`, how many they are, `share` of the pool, and rows `attacks`; None where the shadows
      are too few to choose by one half of them and measure on the other.
    """
    shadows, size = member.shape
    count = max(_FEWEST, round(SHARE * size))
    if shadows < worst_case.FEWEST_SHADOWS or count > size:
        return None
    rows = [
        worst_case.summarise_most_exposed(
            name, attack, own, member,
            count=count, fprs=operating_points(fprs), confidence=run.config.audit.confidence,
        )
        for name, own in signals.items()
        for attack in usable_attacks(own)
    ]  # fmt: skip
    return {
        "records": count,
        "share": count / size,
        "attacks": [dataclasses.asdict(row) for row in rows],
    }
