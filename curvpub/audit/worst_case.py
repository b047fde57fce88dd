"""The worst case: how well attacks do on the records that are most exposed to them.

An attack's mean over all records says little about the few that stick out. Source of the protocol:
Aerni, Zhang and Tramer, "Evaluations of Machine Learning Privacy Defenses are Misleading" (arXiv
2404.17399). Whoever chooses the records by the same shadows that he measures on finds exposed ones
where there are none; here the two are apart.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from curvpub.audit import pooled
from curvpub.audit.attack_kinds import Attack, Signals
from curvpub.audit.likelihood import check_scores
from curvpub.audit.membership import check_design
from curvpub.audit.results import AttackResult, game_point, game_result

FEWEST_SHADOWS = 16
"""Shadows that the protocol needs: four pairs to choose by, the fewest that every attack can be
calibrated on, and four to measure on."""


class _Rows(Mapping[str, np.ndarray]):
    """Signals of some shadows, cut out where they are asked for."""

    def __init__(self, signals: Signals, rows: np.ndarray):
        self._signals, self._rows = signals, rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self._signals[name][self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)


def choose_exposed(scores: np.ndarray, member: np.ndarray, *, count: int) -> np.ndarray:
    """The records whose scores inside are furthest above those outside.

    Scores that were calibrated on other shadows carry those shadows' memberships, so nothing but
    the shadows given here may enter them.

    Args:
      scores: an attack's scores on the shadows that choose, `[K, N]`.
      member: their membership in complementary pairs, bool `[K, N]`.
      count: records to choose.

    Returns:
      Rows of the pool, int `[count]`, the most exposed first.

    Raises:
      ValueError: scores or design are unfit, or `count` does not lie between 1 and N.
    """
    scores = check_scores(scores, member)
    _check_count(count, member.shape[1])
    difference = np.where(member, scores, -scores).sum(axis=0)
    return np.argsort(-difference, kind="stable")[:count]


def exposed_records(
    attack: Attack, signals: Signals, member: np.ndarray, *, count: int
) -> np.ndarray:
    """The most exposed records that each pair of shadows may be measured on, without bias.

    The even pairs choose for the odd ones, and the odd pairs for the even ones. The attack is
    calibrated anew on either half, so that nothing of a pair, nor of the half that it is in, enters
    the choice made for it.

    Args:
      attack: the attack to which records are exposed.
      signals: the shadows' signals, each `[K, ...]`.
      member: membership in complementary pairs, bool `[K, N]`.
      count: records to choose.

    Returns:
      Bool `[K / 2, N]`, `count` in each row.

    Raises:
      ValueError: fewer than 16 shadows, or signals, design or `count` are unfit.
    """
    check_design(member)
    if len(member) < FEWEST_SHADOWS:
        raise ValueError(
            f"{len(member)} shadows are too few to choose the most exposed records by one half and "
            f"measure on the other: at least {FEWEST_SHADOWS} are needed; raise audit.shadows"
        )
    _check_count(count, member.shape[1])
    pair = np.arange(len(member)) // 2
    chosen = np.zeros((len(member) // 2, member.shape[1]), bool)
    for half in (0, 1):
        rows = pair % 2 == half
        scores = attack.score(_Rows(signals, rows), member[rows])
        records = choose_exposed(scores, member[rows], count=count)
        chosen[1 - half :: 2, records] = True
    return chosen


def summarise_most_exposed(
    publisher: str,
    attack: Attack,
    signals: Signals,
    member: np.ndarray,
    *,
    count: int,
    fprs: Sequence[float],
    confidence: float,
) -> AttackResult:
    """An attack's figures on the records that are most exposed to it.

    Scores are calibrated on all shadows but the pair, as in the game; only the choice is made by
    one half. See `exposed_records` and `pooled.few_statistics`.

    Raises:
      ValueError: as in these.
    """
    chosen = exposed_records(attack, signals, member, count=count)
    scores = attack.score(signals, member)
    return summarise_few(
        publisher, attack.name, f"{count} most exposed", scores, member, chosen,
        fprs=fprs, confidence=confidence,
    )  # fmt: skip


def summarise_few(
    publisher: str,
    attack: str,
    scope: str,
    scores: np.ndarray,
    member: np.ndarray,
    counted: np.ndarray,
    *,
    fprs: Sequence[float],
    confidence: float,
) -> AttackResult:
    """An attack's figures in the game on some records only; see `pooled.few_statistics`.

    Args:
      publisher: `raw` or `published`.
      attack: name of the attack.
      scope: what the records are called.
      scores: attack scores `[K, N]`.
      member: membership in complementary pairs, bool `[K, N]`.
      counted: the records that count in each pair of shadows, bool `[K / 2, N]`.
      fprs: false-positive rates.
      confidence: coverage of the intervals.

    Raises:
      ValueError: as in `pooled.few_statistics`.
    """
    found = pooled.few_statistics(scores, member, counted, fprs=fprs, confidence=confidence)
    nonmembers = int(counted.sum())  # a record is outside one shadow of every pair
    points = [
        game_point(fpr, nonmembers, tpr, one_threshold=True)
        for fpr, tpr in zip(fprs, found.tpr, strict=True)
    ]
    return game_result(publisher, attack, scope, found.auc, points)


def _check_count(count: int, records: int) -> None:
    if not 1 <= count <= records:
        raise ValueError(f"count={count!r} must lie between 1 and the pool's {records} records")
