"""Lower bounds on epsilon: how private a publisher at most is, with confidence.

An attack that tells members from non-members too well refutes a claim of (epsilon, delta)-DP. What
is left after everything refuted is a lower bound. It says nothing from above: a weak attack gives a
bound of zero for any publisher.

Two games have bounds, and the game of `curvpub.audit.game` is neither:

- Many runs, one record in or out, everything else fixed (`epsilon_lower_bound`; Jagielski et al.,
  arXiv 2006.07709; Nasr et al., arXiv 2101.04535). Runs with randomness of their own are
  independent trials: see `curvpub.audit.leave_one_out`.
- One run, many canaries, each in or out by a fair coin of its own (`one_run_epsilon`; Steinke, Nasr
  and Jagielski, arXiv 2305.08846).

The shadows' records are not independent trials: those of one shadow share its run, a record shares
itself over shadows, and halves of a fixed size are no independent coins. Counts of true and false
positives in that game put into these functions give an estimate without any confidence.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from curvpub.audit.statistics import check_settings, clopper_pearson

_COIN = 5.0  # standard deviations of fair coins from which on they were none


class OneRun(NamedTuple):
    """A lower bound on epsilon from one run.

    Attributes:
      epsilon: the bound, at least zero.
      guesses: guesses that gave it, of those asked for.
      correct: how many of them were right.
    """

    epsilon: float
    guesses: int
    correct: int


def epsilon_lower_bound(
    true_positives: int,
    members: int,
    false_positives: int,
    nonmembers: int,
    *,
    delta: float,
    confidence: float,
) -> float:
    """Lower bound on epsilon from how often runs with and without a record are accused.

    A mechanism that is (epsilon, delta)-DP has `TPR <= e^epsilon FPR + delta`, and the same of the
    complements. Both rates are taken at the ends of their exact intervals, each with half of what
    may go wrong, and the better of both inequalities holds for the same two ends.

    Formal guarantees:
      If the counted runs are independent, and the test was fixed before they were seen, the bound
      exceeds the true epsilon with probability at most `1 - confidence`. Counts of records that
      share runs, or of a threshold chosen on the same runs, have no such guarantee.

    Args:
      true_positives: runs with the record that the test accuses.
      members: runs with the record.
      false_positives: runs without the record that the test accuses.
      nonmembers: runs without the record.
      delta: the delta of the claim, in [0, 1).
      confidence: of the bound.

    Returns:
      The bound, at least zero.

    Raises:
      ValueError: counts are no proportions, or a setting is out of range.
    """
    _check_delta(delta)
    tpr, fpr = _worst_rates(
        true_positives, members, false_positives, nonmembers, confidence=confidence
    )
    ratios = [(tpr - delta) / fpr, (1.0 - fpr - delta) / (1.0 - tpr)]
    return max(0.0, *(float(np.log(r)) for r in ratios if r > 0.0), 0.0)


def gaussian_lower_bound(
    true_positives: int, members: int, false_positives: int, nonmembers: int, *, confidence: float
) -> float:
    """Lower bound on mu of a mechanism that is Gaussian DP (Dong, Roth and Su, arXiv 1905.02383).

    `mu >= Phi^-1(TPR) - Phi^-1(FPR)`. A claim of Gaussian DP says more than one of (epsilon,
    delta)-DP, so it is refuted sooner: the bound is for mechanisms that make it, such as one that
    adds Gaussian noise. `gaussian_epsilon` turns it into an epsilon.

    Args:
      true_positives: see `epsilon_lower_bound`.
      members: see `epsilon_lower_bound`.
      false_positives: see `epsilon_lower_bound`.
      nonmembers: see `epsilon_lower_bound`.
      confidence: of the bound, with the guarantee of `epsilon_lower_bound`.

    Returns:
      The bound, at least zero.

    Raises:
      ValueError: as in `epsilon_lower_bound`.
    """
    tpr, fpr = _worst_rates(
        true_positives, members, false_positives, nonmembers, confidence=confidence
    )
    return max(0.0, float(stats.norm.ppf(tpr) - stats.norm.ppf(fpr)))


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """The epsilon at which a mu-Gaussian DP mechanism is (epsilon, delta)-DP, exactly.

    `delta = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu)`: Balle and Wang
    (arXiv 1805.06530), Theorem 8, with mu the sensitivity divided by the noise.

    Args:
      mu: at least zero.
      delta: in (0, 1).

    Raises:
      ValueError: mu or delta is out of range.
    """
    if not 0.0 <= mu < np.inf:
        raise ValueError(f"mu={mu!r} must be at least 0 and finite")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta={delta!r} must lie between 0 and 1")

    def excess(epsilon: float) -> float:
        far = stats.norm.logcdf(-0.5 * mu - epsilon / mu)
        return float(stats.norm.cdf(0.5 * mu - epsilon / mu) - np.exp(epsilon + far)) - delta

    if mu == 0.0 or excess(0.0) <= 0.0:
        return 0.0
    high = 1.0
    while excess(high) > 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-10))  # type: ignore[arg-type]


def fair_coins(rng: np.random.Generator, *, num_canaries: int) -> np.ndarray:
    """Membership for `one_run_epsilon`: every canary is in or out by itself, bool `[m]`."""
    return rng.random(num_canaries) < 0.5


def one_run_epsilon(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    guesses: int | Sequence[int],
    delta: float,
    confidence: float,
    accuse: Literal["both", "members"] = "both",
    seed: int = 0,
) -> OneRun:
    """Lower bound on epsilon from one run with canaries that were each in or out by a fair coin.

    The attacker guesses where it is surest, that the records with the highest scores were in and
    that those with the lowest were out, and abstains elsewhere. Of r guesses against an
    (epsilon, delta)-DP mechanism no more are right than `W ~ Binomial(r, 1 / (1 + e^-epsilon))` up
    to delta: `P(correct >= v) <= P(W >= v) + 2 m delta max_i P(v > W >= v - i) / i` (Theorem 5.2 of
    arXiv 2305.08846). The bound is the epsilon at which what was seen has a probability of
    `1 - confidence`. For several numbers of guesses each has its share of it (Bonferroni).

    Formal guarantees:
      If every canary was in or out by an independent fair coin (`fair_coins`), nothing else that
      entered the run or the scores depends on the coins, and `guesses` was fixed before the scores
      were seen, the bound exceeds the true epsilon (of adding or removing one record) with
      probability at most `1 - confidence`. The halves of `complementary_pairs` are no such coins.

    Args:
      scores: scores of the canaries on the release, `[m]`, higher = more likely in.
      member: which of them were in, bool `[m]`.
      guesses: number of guesses, or several of which the best bound is taken.
      delta: the delta of the claim, in [0, 1).
      confidence: of the bound.
      accuse: `both` guesses as many out as in, `members` only in.
      seed: of the order of tied scores, which must not be that of membership.

    Returns:
      The best bound, and the guesses that gave it.

    Raises:
      ValueError: scores, membership or settings are unfit, or the coins were not fair.
    """
    score, member = np.asarray(scores, np.float64), np.asarray(member)
    counts = tuple(guesses) if isinstance(guesses, Sequence) else (guesses,)
    _check_one_run(score, member, counts, accuse)
    _check_delta(delta)
    check_settings(confidence=confidence)
    shuffled = np.random.default_rng(seed).permutation(len(score))
    inside = member[shuffled[np.argsort(-score[shuffled], kind="stable")]]
    found = []
    for count in counts:
        top = count if accuse == "members" else (count + 1) // 2
        correct = int(inside[:top].sum()) + int((~inside[len(inside) - (count - top) :]).sum())
        epsilon = _smallest_epsilon(
            len(score), count, correct, delta=delta, p_value=(1.0 - confidence) / len(counts)
        )
        found.append(OneRun(epsilon, count, correct))
    return max(found, key=lambda f: f.epsilon)


def one_run_p_value(
    canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float
) -> float:
    """Largest probability of so many correct guesses under (epsilon, delta)-DP.

    Args:
      canaries: m, each in or out by a fair coin.
      guesses: r of them that are guessed.
      correct: how many guesses are right.
      epsilon: at least zero.
      delta: in [0, 1).
    """
    right = special.expit(epsilon)
    p_value = float(stats.binom.sf(correct - 1, guesses, right))
    if delta > 0.0 and correct:
        below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
        p_value += 2.0 * canaries * delta * float(np.max(below / np.arange(1, correct + 1)))
    return min(p_value, 1.0)


def _smallest_epsilon(
    canaries: int, guesses: int, correct: int, *, delta: float, p_value: float
) -> float:
    """The epsilon at which the counts have this p-value; zero where none is refuted."""

    def excess(epsilon: float) -> float:
        found = one_run_p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta)
        return found - p_value

    if excess(0.0) >= 0.0:
        return 0.0
    high = 1.0
    while excess(high) < 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))  # type: ignore[arg-type]


def _worst_rates(
    true_positives: int, members: int, false_positives: int, nonmembers: int, *, confidence: float
) -> tuple[float, float]:
    """The smallest TPR and the largest FPR that the counts leave, both at once."""
    tpr = clopper_pearson(true_positives, members, confidence=confidence).low
    return tpr, clopper_pearson(false_positives, nonmembers, confidence=confidence).high


def _check_delta(delta: float) -> None:
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta={delta!r} must be at least 0 and below 1")


def _check_one_run(
    score: np.ndarray, member: np.ndarray, counts: Sequence[int], accuse: str
) -> None:
    if score.ndim != 1 or member.shape != score.shape or member.dtype != np.bool_:
        raise ValueError(
            f"scores {score.shape} and member {member.dtype} {member.shape} must be vectors of one "
            "length, member bool"
        )
    if not len(score) or not np.isfinite(score).all():
        raise ValueError(f"scores must be finite, and at least one; got {len(score)}")
    inside, canaries = int(member.sum()), len(member)
    if abs(inside - 0.5 * canaries) > _COIN * 0.5 * np.sqrt(canaries):
        raise ValueError(
            f"{inside} of {canaries} canaries are in: no fair coin gives that, and the bound needs "
            "one for each"
        )
    if not counts or min(counts) < 1 or max(counts) > canaries:
        raise ValueError(f"guesses={counts!r} must lie between 1 and the {canaries} canaries")
    if accuse not in ("both", "members"):
        raise ValueError(f"accuse={accuse!r} must be 'both' or 'members'")
