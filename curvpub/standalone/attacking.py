"""Attacks on a release that need neither its publisher nor shadows.

Non-members have two uses that must not meet: some stand for the population (a density, a model
trained without the release, a threshold), others are accused or not. So everything is cross-fitted:
the records are split into two folds, and what fold 0 is attacked with comes from the non-members of
fold 1, and the other way round.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from curvpub.audit import results, roc, statistics
from curvpub.audit.observers import Attacker
from curvpub.audit.world import World, make_world
from curvpub.standalone.aligning import Inputs
from curvpub.types import Array, Records, Release

_EPSILON = 1e-6  # keeps the logarithm of an exact copy's distance finite


class Attack(NamedTuple):
    """One attack.

    Attributes:
      name: key in results.
      title: what it is called on pages.
      signal: the signal that it reads.
      sign: +1 where members have more of it.
      relative: the signal less what the attacker's own sample of the population gives, which takes
        out how unusual a record is without any release.
    """

    name: str
    title: str
    signal: str
    sign: int = 1
    relative: bool = False


_MODEL = "on a model trained on it"
_LESS = "less that of a sample of the population"
_UNDONE = "registered_score"

ATTACKS = (
    Attack("loss_threshold", f"Loss threshold, {_MODEL}", "log_prob"),
    Attack("modified_entropy", f"Modified entropy, {_MODEL}", "modified_entropy", -1),
    Attack("loss_relative", f"Confidence, {_MODEL}, {_LESS}", "confidence", 1, True),
    Attack("nearest", "Nearest published record", "log_distance", -1),
    Attack("nearest_axes", "Nearest published record on principal axes", "log_axes_distance", -1),
    Attack("nearest_relative", f"Nearest published record, {_LESS}", "log_distance", -1, True),
    Attack("registration", "Nearest published image once deformations are undone", _UNDONE),
    Attack("registration_relative", f"Nearest, deformations undone, {_LESS}", _UNDONE, 1, True),
    Attack("sources", "Number of published images that come from the record", "source_score"),
    Attack("neighbours", "Label of the nearest published records", "agreement"),
    Attack("neighbours_relative", f"Label of the nearest, {_LESS}", "agreement", 1, True),
    Attack("density", "Density ratio (DOMIAS)", "density_ratio"),
    Attack("attributes", "Hidden columns guessed from the release", "attribute"),
    Attack("attributes_relative", f"Hidden columns guessed, {_LESS}", "attribute", 1, True),
)
"""Attacks on a model trained on the release, then on the release itself."""

_SIGNALS = {attack.signal for attack in ATTACKS} | {"attribute_hits"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """Signals about all records: private ones first, then non-members.

    Attributes:
      member: who is private, bool `[N]`.
      fold: 0 or 1, `[N]`, half of either side in each.
      own: what the attacker sees in the release, `[N, ...]` each.
      blind: what it sees in the other fold's non-members in the release's place, which nobody's
        membership has to do with.
      accuracy: of a model trained on the release, on the non-members of either fold.
    """

    member: np.ndarray
    fold: np.ndarray
    own: dict[str, np.ndarray]
    blind: dict[str, np.ndarray]
    accuracy: tuple[float, float]


def observe(key: Array, inputs: Inputs, attacker: Attacker) -> Observed:
    """Looks at the release, fold by fold.

    Args:
      key: randomness of folds and models.
      inputs: what is audited, an even number of records on either side.
      attacker: observers that give the signals of `ATTACKS`.

    Raises:
      FloatingPointError: a signal is not finite.
    """
    key_private, key_nonmembers, *keys = jax.random.split(key, 4)
    pool, schema = _together(inputs.private, inputs.nonmembers), inputs.schema
    member = np.arange(len(pool)) < len(inputs.private)
    fold = np.concatenate(
        [_halves(key_private, inputs.private), _halves(key_nonmembers, inputs.nonmembers)]
    )
    release = Release(x=jnp.asarray(inputs.release.x), y=jnp.asarray(inputs.release.y))
    look = jax.jit(functools.partial(_look, attacker))
    found = []
    for number in (0, 1):
        sample = _rows(pool, ~member & (fold != number))
        world = attacker.prepare(make_world(schema, _rows(pool, fold == number), sample))
        one_hot = jax.nn.one_hot(sample.y, schema.num_classes, dtype=jnp.float32)
        instead = Release(x=jnp.asarray(sample.x), y=one_hot)
        found.append(jax.tree.map(np.asarray, look(keys[number], release, instead, world)))
    own, blind = (_merge([pair[k] for pair in found], fold) for k in (0, 1))
    accuracy = tuple(float(pair[0]["accuracy"]) for pair in found)
    return Observed(
        member=member, fold=fold, own=own, blind=blind, accuracy=(accuracy[0], accuracy[1])
    )


def attack_scores(observed: Observed) -> dict[str, np.ndarray]:
    """Each attack's scores of all records, `[N]`, higher = more likely private."""
    return {a.name: _score(a, observed) for a in ATTACKS if a.signal in observed.own}


def blind_scores(observed: Observed) -> dict[str, np.ndarray]:
    """The same of attackers that never saw the release, only a sample of the population.

    Whatever they find is no leak of the release, but a difference between the private records and
    the non-members (Das, Zhang and Tramer, arXiv 2406.16201).
    """
    instead = dataclasses.replace(observed, own=observed.blind)
    return {
        a.name: _score(a, instead)
        for a in ATTACKS
        if a.signal in observed.blind and not a.relative and a.signal != "density_ratio"
    }


def places(score: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each score's place in the order of its fold, `[N]` in (0, 1]; equal scores share the mean.

    Records compete with their own fold, which was attacked in the same way. Both folds hold the
    same shares of members, so a place means the same in both, where a score need not.
    """
    result = np.empty(len(score))
    for number in (0, 1):
        inside = fold == number
        result[inside] = stats.rankdata(score[inside]) / inside.sum()
    return result


def summarise(
    attack: Attack,
    score: np.ndarray,
    member: np.ndarray,
    fold: np.ndarray,
    *,
    fprs: Sequence[float],
    confidence: float,
    seed: int,
) -> results.AttackResult:
    """An attack's figures; a fold's threshold is set on the non-members of the other.

    Thresholds are places (see `places`). Equal scores are put in a random order for them: a share
    of a large tie is accused rather than all or none of it, so the rate asked for can be kept.

    Args:
      attack: which one.
      score: its scores, `[N]`.
      member: who is private, bool `[N]`.
      fold: 0 or 1, `[N]`.
      fprs: false-positive rates that the thresholds aim at.
      seed: seed of the order of equal scores.
      confidence: coverage of the intervals: DeLong for the AUC, Clopper-Pearson for the rates.

    Raises:
      ValueError: settings are out of range.
    """
    statistics.check_settings(fprs=fprs, confidence=confidence)
    area = statistics.delong(places(score, fold), member, confidence=confidence)
    # Doubled ranks leave room for half a step, which parts equal scores and no others.
    shuffle = np.random.default_rng([seed, 5]).random(len(score))
    place = places(2.0 * stats.rankdata(score, method="dense") + shuffle, fold)
    outside = min(int((~member & (fold == number)).sum()) for number in (0, 1))
    points = []
    for fpr in fprs:
        hit = None
        if statistics.resolvable(fpr, outside):
            limits = [roc.threshold_at_fpr(place[~member & (fold != f)], fpr) for f in (0, 1)]
            hit = place > np.asarray(limits)[fold]
        points.append(
            results.release_point(fpr, hit, member, nonmembers=outside, confidence=confidence)
        )
    return results.AttackResult(
        publisher="published",
        attack=attack.name,
        title=attack.title,
        scope="this release",
        auc=area.value,
        auc_low=area.low,
        auc_high=area.high,
        points=tuple(points),
    )


def _look(
    attacker: Attacker,
    key: Array,
    release: Release,
    instead: Release,
    world: World,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Signals of the release, and of the attacker's own sample in its place."""
    pair = []
    for key_one, records in zip(jax.random.split(key), (release, instead), strict=True):
        found = attacker.observe(key_one, records, world)
        for name in ("distance", "axes_distance"):
            found[f"log_{name}"] = jnp.log(found[name] + _EPSILON)
        pair.append(found)
    return pair[0], pair[1]


def _score(attack: Attack, observed: Observed) -> np.ndarray:
    signal = np.asarray(observed.own[attack.signal], np.float64)
    if attack.relative:
        signal = signal - np.asarray(observed.blind[attack.signal], np.float64)
    return attack.sign * signal


def _together(one: Records, two: Records) -> Records:
    return Records(x=np.concatenate([one.x, two.x]), y=np.concatenate([one.y, two.y]))


def _rows(records: Records, inside: np.ndarray) -> Records:
    return Records(x=records.x[inside], y=records.y[inside])


def _halves(key: Array, records: Records) -> np.ndarray:
    """A random half gets 0, the rest 1, `[n]`."""
    return np.asarray(jax.random.permutation(key, len(records))) % 2


def _merge(parts: Sequence[dict[str, np.ndarray]], fold: np.ndarray) -> dict[str, np.ndarray]:
    """Signals about records from both folds, back in the records' order."""
    result = {}
    for name in [name for name in parts[0] if name in _SIGNALS]:
        result[name] = np.empty((len(fold), *parts[0][name].shape[1:]), parts[0][name].dtype)
        for number, part in enumerate(parts):
            result[name][fold == number] = part[name]
        if not np.isfinite(result[name]).all():
            raise FloatingPointError(f"the signal {name!r} is not finite; lower --learning_rate")
    return result
