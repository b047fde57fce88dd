"""The likelihood-ratio attack: is this record's score that of a member?

Source: Carlini et al., "Membership Inference Attacks From First Principles" (arXiv 2112.03570),
Algorithm 1 (online) and section VI-C (offline, fixed variance). Differences, on purpose: a shadow
is scored with its complementary partner left out as well (see `lira`), and with `global` variance
the IN and OUT spreads are separate and estimated from deviations within records.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from curvpub.audit.membership import check_design

Mode = Literal["online", "offline", "difference", "shift"]

# Smallest standard deviation, relative to the spread of all scores. Exact copies have none of their
# own; the floor keeps their scores finite, and lies far above float64's rounding of a mean.
_FLOOR = 1e-6
_ROUNDING = 1e-12  # of a mean, relative to it
# Share of a record's squared deviations below which what is left after subtraction is rounding.
_CANCELLED = 1e-4


def lira(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    mode: Mode = "online",
    variance: Literal["per_record", "global"] = "global",
    shift: Literal["own", "shrunk"] = "own",
) -> np.ndarray:
    """Scores every record in every shadow against the other shadows, leaving its pair out.

    To score shadow k, a record's IN and OUT distributions come from all shadows but k and its
    complementary partner. Leaving out k alone would give the answer away: a member of k then has
    one IN shadow fewer than a non-member, and its partner's score, always on the other side, would
    pull the OUT mean one way and the IN mean the other. With the pair out, every record has the
    same numbers of IN and OUT shadows whatever it is in k. Sums over all shadows are made once, and
    each pair is taken out of them.

    Args:
      scores: any signal that tends to be higher for members, `[K, N]`.
      member: membership in complementary pairs, bool `[K, N]`.
      mode: `online` is the Gaussian log-likelihood ratio of IN against OUT; `offline` uses OUT
        alone, the standardised excess over non-members; `difference` is that excess as it stands,
        the difficulty calibration of Watson et al. (arXiv 2111.08440); `shift` is the excess over
        the middle of the IN and the OUT mean, to which the ratio comes down where membership shifts
        all records alike. In complementary pairs that is the mean of all other shadows, whoever was
        in them. It is the best with few shadows and a small shift, where the noise of a record's
        own shift would outweigh the shift.
      variance: `per_record`, or `global`: one IN and one OUT variance pooled over records, which
        is better below some 64 shadows.
      shift: `own` takes each record's IN and OUT means as they are; `shrunk` draws their difference
        toward its mean over records by as much as it is noise (`online` only). Few shadows leave
        most of it noise: on digits with 16 shadows this adds 0.007 to 0.012 to the AUC.

    Returns:
      `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: shapes do not match, too few shadows, scores that are not finite.
    """
    scores = check_scores(scores, member)
    _check_mode(mode, variance, member.shape[0] - 2, shift)
    if mode == "shift":
        moved = scores - scores[:1]  # exactly zero where shadows do not differ
        pair = np.repeat(moved[0::2] + moved[1::2], 2, axis=0)
        return moved - (moved.sum(axis=0) - pair) / (len(scores) - 2)
    sides = (_side(scores, member), _side(scores, ~member))
    spread = _spread_without_pair(scores)
    result = np.empty_like(scores)
    for k in range(0, scores.shape[0], 2):
        # Of the two shadows of a pair, one holds the record and the other does not.
        one, two = scores[k], scores[k + 1]
        moments = (
            _without(sides[0], np.where(member[k], one, two)),
            _without(sides[1], np.where(member[k], two, one)),
        )
        _recompute(moments, sides, scores, member, k)
        inside, outside = _shrunk(*moments) if shift == "shrunk" else moments
        for row in (k, k + 1):
            result[row] = _score(
                scores[row], inside, outside, mode, variance, float(spread[k // 2])
            )
    return result


def lira_target(
    target: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    mode: Mode = "online",
    variance: Literal["per_record", "global"] = "global",
    shift: Literal["own", "shrunk"] = "own",
) -> np.ndarray:
    """Scores a further run, such as the actual release, against all shadows.

    Args:
      target: the run's signal, `[N]`, or those of several runs, `[J, N]`.
      scores: the shadows' signals, `[K, N]`.
      member: the shadows' membership, bool `[K, N]`.
      mode: see `lira`.
      variance: see `lira`.
      shift: see `lira`.

    Returns:
      In the shape of `target`, higher = more likely a member.

    Raises:
      ValueError: as in `lira`.
    """
    scores = check_scores(scores, member)
    _check_mode(mode, variance, member.shape[0], shift)
    target = np.asarray(target, np.float64)
    fits = target.ndim in (1, 2) and target.shape[-1:] == scores.shape[1:]
    if not fits or not np.isfinite(target).all():
        raise ValueError(
            f"target must be finite and of shape {scores.shape[1:]}, got shape {target.shape}"
        )
    if mode == "shift":
        return target - scores[0] - (scores - scores[:1]).mean(axis=0)
    inside, outside = _side(scores, member), _side(scores, ~member)
    if shift == "shrunk":
        inside, outside = _shrunk(inside, outside)
    return _score(target, inside, outside, mode, variance, float(np.std(scores)))


def exposure(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Each record's separation between shadows that hold it and shadows that do not, `[N]`.

    `(mean IN - mean OUT) / s` with s pooled over records and sides: LiRA's d' of the record. With
    few shadows its noise has standard deviation about `2 / sqrt(K)`.

    Raises:
      ValueError: as in `lira`.
    """
    inside, outside, pooled = _sides(scores, member)
    return (inside.mean - outside.mean) / pooled


def exposure_spread(scores: np.ndarray, member: np.ndarray) -> float:
    """The pooled standard deviation s that `exposure` is measured in.

    Raises:
      ValueError: as in `lira`.
    """
    return _sides(scores, member)[2]


def check_scores(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Scores as float64, checked against their membership matrix.

    Raises:
      ValueError: shapes differ, the design is not in pairs, or scores are not finite.
    """
    check_design(member)
    scores = np.asarray(scores, np.float64)
    if scores.shape != member.shape:
        raise ValueError(f"scores have shape {scores.shape}, member {member.shape}")
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise ValueError(f"{broken} of {scores.size} scores are not finite")
    return scores


def _check_mode(mode: str, variance: str, usable: int, shift: str = "own") -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode={mode!r} must be one of {', '.join(get_args(Mode))}")
    if variance not in ("per_record", "global"):
        raise ValueError(f"variance={variance!r} must be 'per_record' or 'global'")
    if shift not in ("own", "shrunk") or (shift == "shrunk" and mode != "online"):
        raise ValueError(f"shift={shift!r} must be 'own', or 'shrunk' with mode='online'")
    if usable < 4:  # a variance needs two IN and two OUT shadows
        raise ValueError(
            f"{usable} shadows are left to compare with; at least 4 are needed: raise audit.shadows"
        )


class _Side(NamedTuple):
    """Each record's scores in the shadows that hold it, or in those that do not."""

    count: np.ndarray  # [N]
    mean: np.ndarray  # [N]
    squares: np.ndarray  # [N] squared deviations from the mean, summed


def _side(scores: np.ndarray, side: np.ndarray) -> _Side:
    count = side.sum(axis=0)
    mean = np.where(side, scores, 0.0).sum(axis=0) / count
    squares = np.where(side, np.square(scores - mean), 0.0).sum(axis=0)
    return _Side(count, mean, squares)


def _sides(scores: np.ndarray, member: np.ndarray) -> tuple[_Side, _Side, float]:
    """Both sides of every record, and their pooled standard deviation."""
    scores = check_scores(scores, member)
    _check_mode("online", "global", member.shape[0])
    inside, outside = _side(scores, member), _side(scores, ~member)
    stds = [_std(side, "global", float(np.std(scores)))[0] for side in (inside, outside)]
    return inside, outside, float(np.sqrt(0.5 * (np.square(stds[0]) + np.square(stds[1]))))


def _without(side: _Side, score: np.ndarray) -> _Side:
    """The side without one score of each record, `[N]` (Welford's update, backwards)."""
    rest = side.count - 1
    far = score - side.mean
    squares = side.squares - np.square(far) * (side.count / rest)
    return _Side(rest, side.mean - far / rest, np.maximum(squares, 0.0))


def _recompute(
    moments: Sequence[_Side], sides: Sequence[_Side], scores: np.ndarray, member: np.ndarray, k: int
) -> None:
    """Sums anew, in place, where shadows k and k + 1 held nearly all of a record's squares."""
    rest = np.delete(np.arange(len(scores)), [k, k + 1])
    for index, holds in enumerate((member, ~member)):
        lost = np.flatnonzero(moments[index].squares < _CANCELLED * sides[index].squares)
        if len(lost):
            anew = _side(scores[np.ix_(rest, lost)], holds[np.ix_(rest, lost)])
            moments[index].mean[lost] = anew.mean
            moments[index].squares[lost] = anew.squares


def _shrunk(inside: _Side, outside: _Side) -> tuple[_Side, _Side]:
    """Both sides with their means moved, alike, so that the records' shifts are shrunk.

    Shifts `d ~ N(mu, t^2)` over records, seen with the noise `e^2` of two means, have the posterior
    mean `mu + t^2 / (t^2 + e^2) (d - mu)`. All are estimated from the same shadows: mu and
    `t^2 + e^2` by the moments of the shifts seen, `e^2` by the spread within records (empirical
    Bayes; Efron and Morris, 1973). Members score higher, which is known before: mu is taken
    without its sign. Where nothing leaks the sign is a coin that all records share, so that the
    area of a pair of shadows hung on that of the others, and intervals were too narrow.
    """
    seen = inside.mean - outside.mean
    noise = 0.0
    for side in (inside, outside):
        noise += side.squares.sum() / (side.count - 1).sum() * np.mean(1.0 / side.count)
    total = max(float(np.var(seen)), float(noise), 1e-300)
    kept = 1.0 - noise / total
    move = 0.5 * (seen - (abs(seen.mean()) + kept * (seen - seen.mean())))
    return inside._replace(mean=inside.mean - move), outside._replace(mean=outside.mean + move)


def _spread_without_pair(scores: np.ndarray) -> np.ndarray:
    """Standard deviation of all scores but a pair's, for each pair, `[K / 2]`."""
    centred = scores - scores.mean()
    sums = centred.reshape(len(scores) // 2, -1)
    count = centred.size - sums.shape[1]
    mean = (centred.sum() - sums.sum(axis=1)) / count
    square = (np.square(centred).sum() - np.square(sums).sum(axis=1)) / count
    return np.sqrt(np.maximum(square - np.square(mean), 0.0))


def _std(side: _Side, variance: str, spread: float) -> np.ndarray:
    """Standard deviation of each record, `[N]`, at least a trifle of the spread of all scores."""
    if variance == "global":
        freedom = int((side.count - 1).sum())
        std = np.full(len(side.mean), np.sqrt(side.squares.sum() / freedom))
    else:
        std = np.sqrt(side.squares / (side.count - 1))
    return np.maximum(std, max(_FLOOR * spread, 1e-12))


def _excess(target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """`target - mean`; zero where it is a rounding, so that records that never change tie."""
    found = target - mean
    return np.where(np.abs(found) <= _ROUNDING * np.abs(mean), 0.0, found)


def _score(
    target: np.ndarray, inside: _Side, outside: _Side, mode: str, variance: str, spread: float
) -> np.ndarray:
    if mode == "difference":
        return _excess(target, outside.mean)
    std_out = _std(outside, variance, spread)
    far_out = (target - outside.mean) / std_out
    if mode == "offline":
        return far_out
    std_in = _std(inside, variance, spread)
    far_in = (target - inside.mean) / std_in
    return 0.5 * (np.square(far_out) - np.square(far_in)) + np.log(std_out) - np.log(std_in)
