"""What a formally private procedure promises, and what the promise rests on."""

import dataclasses
import math

import numpy as np

_LEAST_WIDTH = 2.0**-16  # of half the bounds' width, in units of their magnitude

COUNT_PUBLIC = (
    "add or remove one record, where a removed record is one that contributes nothing: the number "
    "of records is public"
)
COUNT_PRIVATE = "add or remove one record, of a number of records that is itself private"

_ALWAYS_PUBLIC = (
    "the schema (shape, names of columns, categories and classes, which columns hold whole "
    "numbers), which a source may have read off the records",
    "all settings",
)
_ASSUMED = (
    "the settings, bounds and cut points among them, were chosen without the private records; with "
    "settings that were tried on them it does not hold, since epsilon does not count that",
    "the key is uniformly random, secret, and used once, as of curvpub.dp.secret_key(); with one "
    "of jax.random.key(seed), 32 bits, nothing is promised: it is found by trying them all, by "
    "what a release shows, such as the order of its rows",
    "single-precision arithmetic stands for real numbers, a pseudo-random generator for noise: its "
    "keys have 64 bits at most, so the guarantee is computational, against whoever cannot try all",
)


Mechanisms = tuple[tuple[str, float], ...]
"""Gaussian mechanisms on all records, in words and with their noise in units of sensitivity."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """How much privacy a publisher may spend, and what it may take as public; hashable.

    Attributes:
      epsilon: of the whole publication.
      delta: of the whole publication.
      public_count: a public number that stands for the number of records in sampling rates,
        divisors and sizes of releases. At 0 the number of records is public itself; `neighbours`
        says what either means.
      bounds: for each numeric column of a table, in order, the public `(low, high)` that its values
        are clipped to; none for images, whose bounds are [0, 1].
      statistics_share: share of the budget, in squared noise multipliers (squared mu of Gaussian
        DP), that one-off statistics take: normalisation of numeric columns, counts of labels. Each
        takes so much, where there is one.
    """

    epsilon: float
    delta: float
    public_count: int = 0
    bounds: tuple[tuple[float, float], ...] = ()
    statistics_share: float = 0.05

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not 0.0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon={self.epsilon!r} must be positive and finite")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta={self.delta!r} must lie between 0 and 1")
        if isinstance(self.public_count, bool) or not isinstance(self.public_count, int):
            raise ValueError(f"public_count={self.public_count!r} must be a whole number")
        if self.public_count < 0:
            raise ValueError(f"public_count={self.public_count!r} must be at least 0")
        if not 0.0 < self.statistics_share < 0.5:
            raise ValueError(
                f"statistics_share={self.statistics_share!r} must lie between 0 and 0.5"
            )
        check_bounds(self.bounds)

    def count(self, records: int) -> int:
        """The number that stands for the number of records.

        Raises:
          ValueError: delta is so large that publishing a record as it is would be within it.
        """
        count = self.public_count or records
        if count < 1:
            raise ValueError(f"{count} records are too few")
        if self.delta * count >= 1.0:
            raise ValueError(
                f"delta={self.delta!r} must be less than 1 / {count}, one over the number of "
                "records: a guarantee with more allows to publish some record in full"
            )
        return count

    @property
    def neighbours(self) -> str:
        """The neighbouring relation, in words."""
        return COUNT_PRIVATE if self.public_count else COUNT_PUBLIC


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPGuarantee:
    """A statement of (epsilon, delta)-differential privacy; `dataclasses.asdict` goes on a card.

    Attributes:
      epsilon: of everything that was released together.
      delta: of the same.
      neighbours: which data sets the guarantee compares.
      mechanisms: what touched private records, with its noise in units of its sensitivity.
      sampling_rate: probability that a record is in a batch; 1 where nothing is sampled.
      steps: noisy gradient steps; 0 where there are none.
      noise_multiplier: noise of a step, or of the main mechanism, in units of its sensitivity.
      accountant: how mechanisms were composed.
      public: what the guarantee takes as known to everyone.
      assumptions: what else it rests on.
    """

    epsilon: float
    delta: float
    neighbours: str
    mechanisms: tuple[str, ...]
    sampling_rate: float
    steps: int
    noise_multiplier: float
    accountant: str
    public: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = _ASSUMED


def public_facts(budget: Budget, count: int) -> tuple[str, ...]:
    """What a guarantee under this budget takes as public, in words."""
    known = "public stand-in for the number" if budget.public_count else "number"
    facts = [*_ALWAYS_PUBLIC, f"the {known} of records, {count}"]
    if budget.bounds:
        facts.append(f"bounds of the numeric columns, {budget.bounds}")
    return tuple(facts)


def check_bounds(bounds: tuple[tuple[float, float], ...]) -> None:
    """Raises ValueError where a pair is no finite interval, or none that float32 resolves.

    Records are float32: bounds that it rounds to one have width zero, and what is divided by that
    is finite or not by the presence of one record. Values are rounded to 2^-24 of their magnitude,
    so half a width of 2^-16 of it leaves them at least 256 steps on either side of the middle.
    """
    for place, pair in enumerate(bounds):
        if len(pair) != 2 or not -math.inf < pair[0] < pair[1] < math.inf:
            raise ValueError(f"bounds[{place}]={pair!r} must be finite, (low, high), low < high")
        with np.errstate(over="ignore"):
            low, high = np.asarray(pair, np.float32)
            half = np.float32(0.5) * (high - low)
        least = max(_LEAST_WIDTH * max(abs(low), abs(high)), np.finfo(np.float32).tiny)
        if not least <= half < math.inf:
            raise ValueError(
                f"bounds[{place}]={pair!r} are too close for float32, or too wide: shift or scale "
                "the column"
            )
