"""DP-SGD: the plan of a training, made in Python, and one noisy gradient, traced.

Source: Abadi et al., "Deep Learning with Differential Privacy" (arXiv 1607.00133).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from curvpub.dp import accounting, gradients, sampling
from curvpub.dp.guarantee import Budget, DPGuarantee, Mechanisms, public_facts
from curvpub.types import Array

_CLIPS = (1e-8, 1e8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """DP-SGD's settings that are not its budget; hashable.

    Attributes:
      batch_size: expected number of records in a batch.
      clip: largest Euclidean length of one record's gradient.
      microbatch: records whose gradients are in memory at once.
    """

    batch_size: int = 256
    clip: float = 1.0
    microbatch: int = 64

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name in ("batch_size", "microbatch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        # Squares of much smaller or larger entries are 0 or infinite in float32: what is cut by a
        # length that is computed so may be longer than the clip.
        if not _CLIPS[0] <= self.clip <= _CLIPS[1]:
            raise ValueError(f"clip={self.clip!r} must be from {_CLIPS[0]:g} to {_CLIPS[1]:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SgdPlan:
    """What a training with a budget does, all of it public.

    Attributes:
      count: number of records, of the arrays.
      rate: probability of a record to be in a batch.
      places: capacity of a batch.
      expected: expected size of a batch, which sums are divided by.
      steps: number of steps.
      noise_multiplier: noise of a step in units of its sensitivity.
      statistics_noise: the same of the normalisation; infinite where there is none.
      guarantee: what all of it keeps to; None where nothing is promised.
    """

    count: int
    rate: float
    places: int
    expected: float
    steps: int
    noise_multiplier: float
    statistics_noise: float
    guarantee: DPGuarantee | None


def plan_sgd(
    budget: Budget,
    sgd: SgdConfig,
    *,
    records: int,
    steps: int,
    what: str,
    others: Mechanisms = (),
) -> SgdPlan:
    """Plans a training that spends a budget, or what other mechanisms leave of it.

    Args:
      budget: of everything, normalisation included (where `budget.bounds` names columns).
      sgd: batches and clipping.
      records: number of records, a shape.
      steps: number of steps.
      what: whose gradients, in words.
      others: further mechanisms, which the same budget pays for.

    Raises:
      ValueError: settings and number of records do not fit, or others leave nothing.
    """
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    count = budget.count(records)
    rate = sampling.sampling_rate(sgd.batch_size, count)
    delta, tau = sampling.reserve(budget.epsilon, budget.delta)
    statistics = ()
    if budget.bounds:
        share = budget.statistics_share
        statistics = (accounting.share_noise(budget.epsilon, delta, share),)
    noise = accounting.sgd_noise(
        budget.epsilon, delta, sampling_rate=rate, steps=steps,
        one_offs=statistics + tuple(multiplier for _, multiplier in others),
    )  # fmt: skip
    mechanisms = [
        f"{steps} Poisson-sampled Gaussian steps on {what}, noise {noise:.4g} x sensitivity"
    ]
    if statistics:
        mechanisms.append(
            f"clipped sums and sums of squares of {len(budget.bounds)} numeric columns, noise "
            f"{statistics[0]:.4g} x sensitivity"
        )
    mechanisms += [f"{words}, noise {multiplier:.4g} x sensitivity" for words, multiplier in others]
    return SgdPlan(
        count=records,
        rate=rate,
        places=sampling.capacity(records, rate, steps=steps, tau=tau),
        expected=rate * count,
        steps=steps,
        noise_multiplier=noise,
        statistics_noise=statistics[0] if statistics else math.inf,
        guarantee=DPGuarantee(
            epsilon=budget.epsilon,
            delta=budget.delta,
            neighbours=budget.neighbours,
            mechanisms=tuple(mechanisms),
            sampling_rate=rate,
            steps=steps,
            noise_multiplier=noise,
            accountant=accounting.PLD,
            public=public_facts(budget, count),
        ),
    )


def draw_batch(key: Array, plan: SgdPlan, rows: Any) -> tuple[Any, Array]:
    """One Poisson batch of a tree of arrays `[n, ...]`, and the weights of its places."""
    index, weight = sampling.poisson_batch(
        key, count=plan.count, rate=plan.rate, places=plan.places
    )
    return jax.tree.map(lambda a: a[index], rows), weight


def noisy_mean(
    key: Array,
    loss: Callable[[Any, Any], Array],
    params: Any,
    batch: Any,
    weight: Array,
    *,
    sgd: SgdConfig,
    expected: float,
    noise_multiplier: float,
) -> Any:
    """A batch's clipped gradient with noise, divided by the batch's expected size.

    Formal guarantees:
      A Gaussian mechanism of the batch: a record moves the sum by `sgd.clip` at most, and the noise
      is `noise_multiplier` times that. The divisor is public, unlike the batch's true size.

    Args:
      key: of the noise.
      loss: parameters and one row to a scalar; it sees no other row.
      params: what it is differentiated in.
      batch: rows, a tree of arrays `[k, ...]`.
      weight: 1 or 0 for each, `[k]`.
      sgd: clipping.
      expected: expected size of a batch.
      noise_multiplier: noise in units of the clip; 0 for none.

    Raises:
      ValueError: `noise_multiplier` is negative or not a number.
    """
    if not noise_multiplier >= 0.0:
        raise ValueError(f"noise_multiplier={noise_multiplier!r} must be 0 or more")
    total = gradients.clipped_gradient(
        loss, params, batch, weight, clip=sgd.clip, microbatch=sgd.microbatch
    )
    if noise_multiplier > 0.0:
        total = gradients.add_noise(key, total, deviation=noise_multiplier * sgd.clip)
    return jax.tree.map(lambda a: a / jax.numpy.asarray(expected, a.dtype), total)
