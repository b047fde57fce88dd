"""Several signals at once: a classifier of pairs of a record and a release, fitted over shadows.

To score a shadow, the classifier is fitted to the pairs of *other* shadows, whose membership the
attacker knows, with the shadow and its complementary partner left out of everything: of the rows,
of what calibrates them, and of what scales them. On a further release it is fitted to all shadows.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from curvpub.audit.likelihood import check_scores, lira, lira_target

Variance = Literal["per_record", "global"]

_FOLDS = 16  # groups of pairs that are left out together where there are more pairs
_ROWS = 200_000  # at most about so many pairs of a record and a release are in one fit
_FIGURES = 3  # of each signal: ratio, excess, level
_CHANCE = 4.0  # what a fit finds by chance, at most, in units of its columns
_LINEAR = 10.0  # nats within which a likelihood ratio counts as it stands; beyond, by its logarithm


def fused(
    signals: Mapping[str, np.ndarray], member: np.ndarray, *, variance: Variance = "global"
) -> np.ndarray:
    """Scores every record in every shadow by classifiers that know the other shadows' membership.

    A logistic regression on three figures of each signal: its likelihood ratio (`lira`), its excess
    over the record's mean in the other shadows, members' and non-members' alike, and its level.

    Args:
      signals: each tends to be higher for members, `[K, N]`; at least one.
      member: membership in complementary pairs, bool `[K, N]`.
      variance: see `lira`.

    Returns:
      `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: no signals, shapes that do not match, too few shadows, or values not finite.
    """
    scores = _checked(signals, member)
    pairs = np.arange(member.shape[0]) // 2
    result = np.empty(member.shape)
    for fold in range(min(_FOLDS, member.shape[0] // 2)):
        out = pairs % _FOLDS == fold
        rest = [s[~out] for s in scores]
        result[out] = _fit_and_score([s[out] for s in scores], rest, member[~out], variance)
    return result


def fused_target(
    target: Mapping[str, np.ndarray],
    signals: Mapping[str, np.ndarray],
    member: np.ndarray,
    *,
    variance: Variance = "global",
) -> np.ndarray:
    """Scores one further run by a classifier that knows all shadows' membership.

    Args:
      target: the run's signals, `[N]` each.
      signals: the shadows' signals, `[K, N]` each.
      member: the shadows' membership, bool `[K, N]`.
      variance: see `lira`.

    Returns:
      `[N]`, higher = more likely a member.

    Raises:
      ValueError: as in `fused`.
    """
    scores = _checked(signals, member)
    rows = [np.asarray(target[name], np.float64)[None] for name in signals]
    return _fit_and_score(rows, scores, member, variance)[0]


def _checked(signals: Mapping[str, np.ndarray], member: np.ndarray) -> list[np.ndarray]:
    if not signals:
        raise ValueError("no signals were given; at least one is needed")
    return [check_scores(s, member) for s in signals.values()]


def _fit_and_score(
    target: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    member: np.ndarray,
    variance: Variance,
) -> np.ndarray:
    """Scores of other runs' rows, `[J, N]`, by a classifier of these shadows."""
    shadows, count = member.shape
    # Of very many records a part is enough; which one has nothing to do with membership. But it
    # takes many: weak signals are weighed badly by ten thousand rows, and weak is what is left.
    few = np.random.default_rng(0).permutation(count)[: max(1, _ROWS // shadows)]
    known = [f for s in scores for f in _among_themselves(s[:, few], member[:, few], variance)]
    asked = [
        f for t, s in zip(target, scores, strict=True) for f in _against(t, s, member, variance)
    ]
    weights, centre = _weights(np.stack(known, -1).reshape(-1, len(known)), member[:, few].ravel())
    return (np.stack(asked, -1) - centre) @ weights


def _weights(rows: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[F]` of the figures, and their means.

    Those of a logistic regression, drawn toward the plain sum of all signals' excess by the factor
    of James and Stein, which is one unless the regression finds several times what chance alone
    would give it. Without a leak its direction would be the chance of the other shadows, and where
    all shadows are scored by one another's chance their AUCs go up and down together: an interval
    over shadows would then be too narrow by a factor of the root of two.
    """
    scaler = StandardScaler().fit(rows)
    rows, scale = np.asarray(scaler.transform(rows)), np.asarray(scaler.scale_)
    # Newton's method: rows are many and columns few, and the latter go together. Its products are
    # small, and threads that wait for one another where cores are busy make them many times slower.
    with threadpool_limits(limits=1, user_api="blas"):
        fitted = LogisticRegression(solver="newton-cholesky").fit(rows, member).coef_[0]
    plain = np.zeros(rows.shape[1])
    plain[1::_FIGURES] = 1.0
    spread, plain_spread = (rows @ fitted).std(), (rows @ plain).std()
    # The regression's Wald statistic, with the information of a fair coin; chi^2 without a leak.
    wald = 0.25 * len(rows) * np.square(spread)
    shrunk = min(1.0, _CHANCE * rows.shape[1] / max(wald, 1e-300))
    plain *= spread / plain_spread if plain_spread else 0.0
    return ((1.0 - shrunk) * fitted + shrunk * plain) / scale, np.asarray(scaler.mean_)


def _among_themselves(
    scores: np.ndarray, member: np.ndarray, variance: Variance
) -> tuple[np.ndarray, ...]:
    """The figures of each shadow against the others, its pair left out, `[K, N]` each."""
    ratio = lira(scores, member, variance=variance)
    return _bent(ratio), lira(scores, member, mode="shift"), scores


def _against(
    target: np.ndarray, scores: np.ndarray, member: np.ndarray, variance: Variance
) -> tuple[np.ndarray, ...]:
    """The same figures of other runs, `[J, N]` each."""
    ratio = lira_target(target, scores, member, variance=variance)
    return _bent(ratio), lira_target(target, scores, member, mode="shift"), target


def _bent(ratio: np.ndarray) -> np.ndarray:
    """Likelihood ratios, those of exact copies drawn in: they are as large as rounding allows."""
    return _LINEAR * np.arcsinh(ratio / _LINEAR)
