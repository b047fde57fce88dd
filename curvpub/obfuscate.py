"""Lower level: move one record's code toward low curvature; `vmap` outside.

The problem of a record with code `z` is

    min_d  |h_s(z + d)|^2 + (lambda / 2) |f(z + d) - f(z)|^2,   |d| <= trust radius,

with `h_s` the curvature at scale s of the decoder seen from its own point, and the chord in ambient
space standing for the geodesic distance, with which it agrees to second order. Both terms are
squared ambient lengths, so the Riemannian gradient step `-eta G^-1 grad` has no unit. Where latents
add little length it is long, and by default most steps are cut: their direction counts.
`lambda` falls with the record's exposure: exposed records are held back less.

Why this curvature: pointwise curvature of a decoder does not predict exposure to membership
inference; curvature at a finite scale, on the joint manifold, seen from the record, does.

`riemannian_langevin` is the solver as an `(init, update)` pair, in the manner of optax'
`GradientTransformation`; `descend` runs it. What it is told (`Settings`: strength, number of steps,
step size, ...) is data, not Python: a sweep over any of it compiles once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from curvpub import geometry
from curvpub.types import Array, DecoderFn

Scalar = Any
"""A Python number, or a scalar array of a traced sweep."""


class LowerInfo(NamedTuple):
    """What one lower-level step saw."""

    curvature: Array  # [] |h_s| at the code before the step, in ambient units
    step_length: Array  # [] Euclidean length of the step, in units of the prior
    stretch: Array  # [] mean eigenvalue of the metric, squared ambient over squared latent length


class Settings(NamedTuple):
    """How the lower level works, as data: numbers, or scalar arrays of a traced sweep."""

    scale: Scalar  # s of the curvature, in units of the prior
    step_size: Scalar  # eta, dimensionless
    trust_radius: Scalar  # longest perturbation, in units of the prior
    temperature: Scalar  # of the Langevin noise, squared ambient units; 0 for descent
    ridge: Scalar  # regularisation of the metric, times its mean eigenvalue
    proximity: Scalar  # lambda of the least exposed record
    proximity_exposed: Scalar  # lambda of the most exposed record
    strength: Scalar = 1.0  # share in use of all that is done to a record; 0 moves nothing
    num_steps: Scalar = 1  # of `descend`, at most as many as it has keys


class LowerLevel(NamedTuple):
    """A solver of the lower problem of one record; the state is its perturbation `[m]`."""

    init: Callable[[Array], Array]  # code [m] -> no perturbation [m]
    update: Callable[..., tuple[Array, LowerInfo]]  # see `riemannian_langevin`


def init_perturbation(num_records: int, latent_dim: int) -> Array:
    """No perturbation yet, `[n, m]` float32."""
    return jnp.zeros((num_records, latent_dim), jnp.float32)


def exposure(
    key: Array, fun: DecoderFn, code: Array, record: Array, *, scale: float, num_probes: int
) -> Array:
    """Length of the curvature at scale seen from the record, `|E f(z + s e) - r| []`.

    The larger, the more the record sticks out of what its neighbourhood decodes to.

    Args:
      key: randomness of the probes.
      fun: decoder.
      code: `z [m]`.
      record: joint point `r [D]`.
      scale: s, in units of the prior.
      num_probes: decoder evaluations, even.
    """
    h = geometry.curvature_at_scale(key, fun, code, record, scale=scale, num_probes=num_probes)
    return safe_norm(h)


def curvature(key: Array, fun: DecoderFn, code: Array, *, scale: float, num_probes: int) -> Array:
    """Length of the decoder's own curvature at scale, `|E f(z + s e) - f(z)| []`."""
    h = geometry.curvature_at_scale(key, fun, code, scale=scale, num_probes=num_probes)
    return safe_norm(h)


def proximity(rank: Array, *, least_exposed: Scalar, most_exposed: Scalar) -> Array:
    """Weight lambda of staying close: linear in the exposure rank in [0, 1].

    Args:
      rank: share of records that are less exposed.
      least_exposed: lambda at rank 0.
      most_exposed: lambda at rank 1.
    """
    return least_exposed + (most_exposed - least_exposed) * rank


def objective(
    key: Array,
    fun: DecoderFn,
    code: Array,
    delta: Array,
    proximity: Array,
    *,
    scale: float,
    num_probes: int,
    surface: DecoderFn | None = None,
) -> tuple[Array, Array]:
    """The lower problem's value and the squared curvature inside it, squared ambient units.

    The square of an estimate is longer than the square of what it estimates, by its variance. That
    hardly turns the gradient, and a product of two independent estimates would turn a single draw's
    more; but the curvature that is reported is too high where probes are few.

    Args:
      key: randomness of the probes; the same key gives the same smooth function of `delta`.
      fun: decoder.
      code: `z [m]`.
      delta: perturbation `d [m]`.
      proximity: lambda `[]`.
      scale: s.
      num_probes: decoder evaluations, even.
      surface: map whose image the chord is taken in; the decoder by default.
    """
    surface = fun if surface is None else surface
    moved = code + delta
    h = geometry.curvature_at_scale(key, fun, moved, scale=scale, num_probes=num_probes)
    squared = jnp.sum(jnp.square(h))
    chord = jnp.sum(jnp.square(surface(moved) - surface(code)))
    return squared + 0.5 * proximity * chord, squared


def update(
    key: Array,
    fun: DecoderFn,
    code: Array,
    delta: Array,
    proximity: Array,
    *,
    scale: Scalar,
    num_probes: int,
    step_size: Scalar,
    trust_radius: Scalar,
    temperature: Scalar,
    ridge: Scalar,
    surface: DecoderFn | None = None,
) -> tuple[Array, LowerInfo]:
    """One Riemannian (Langevin) gradient step on the lower problem of one record.

    The step `v = -eta G^-1 grad + sqrt(2 eta T) G^-1/2 e` is cut to half the trust radius,
    retracted to second order along the geodesic, and projected on the trust region. A step that is
    not finite is not taken (its derivatives are not finite either: `unrolled` and `implicit`
    hypergradients do not survive it).

    Args:
      key: randomness of probes and noise.
      fun: decoder, `[m] -> [D]`.
      code: `z [m]`.
      delta: current perturbation `[m]`.
      proximity: lambda `[]`.
      scale: s of the curvature.
      num_probes: decoder evaluations, even.
      step_size: eta, dimensionless.
      trust_radius: longest perturbation, in units of the prior.
      temperature: T, in squared ambient units; 0 for plain descent.
      ridge: regularisation of the metric, times its mean eigenvalue.
      surface: map whose metric shapes steps and distance; the decoder by default.

    Returns:
      New perturbation `[m]` and what was seen.
    """
    surface = fun if surface is None else surface
    key_probe, key_noise = jax.random.split(key)
    grad, squared = jax.grad(objective, argnums=3, has_aux=True)(
        key_probe, fun, code, delta, proximity, scale=scale, num_probes=num_probes, surface=surface
    )
    metric = geometry.regularise_metric(geometry.pullback_metric(surface, code + delta), ridge)
    step = -step_size * geometry.metric_solve(metric, grad)

    def langevin(metric: Array) -> Array:
        noise = jax.random.normal(key_noise, delta.shape, delta.dtype)
        spread = jnp.sqrt(jnp.asarray(2.0 * step_size * temperature, delta.dtype))
        return spread * geometry.metric_inverse_root_apply(metric, noise)

    # A branch of the compiled program: without temperature no root is taken.
    step = step + jax.lax.cond(temperature > 0.0, langevin, lambda _: jnp.zeros_like(delta), metric)
    step = clip_norm(step, 0.5 * trust_radius)
    moved = geometry.retract(surface, code + delta, step, ridge=ridge)
    proposal = clip_norm(moved - code, trust_radius)
    proposal = jnp.where(jnp.all(jnp.isfinite(proposal)), proposal, delta)
    info = LowerInfo(
        curvature=jnp.sqrt(squared),
        step_length=safe_norm(proposal - delta),
        stretch=jnp.trace(metric) / metric.shape[0],
    )
    return proposal, info


def riemannian_langevin(*, num_probes: int) -> LowerLevel:
    """The lower level's solver as an `(init, update)` pair.

    `update(key, fun, code, delta, rank, settings, surface=None) -> (delta, info)` is one step of
    the module's `update` on the problem of a record whose exposure has `rank []`, the share of
    records that are less exposed. Its trust radius is `settings.strength` times the given one.

    Args:
      num_probes: decoder evaluations of the curvature, even.
    """

    def update_fn(
        key: Array,
        fun: DecoderFn,
        code: Array,
        delta: Array,
        rank: Array,
        settings: Settings,
        surface: DecoderFn | None = None,
    ) -> tuple[Array, LowerInfo]:
        settings = Settings(*(_number(v, delta.dtype) for v in settings))
        weight = proximity(
            rank,
            least_exposed=settings.proximity,
            most_exposed=settings.proximity_exposed,
        )
        return update(
            key,
            fun,
            code,
            delta,
            weight,
            scale=settings.scale,
            num_probes=num_probes,
            step_size=settings.step_size,
            trust_radius=settings.strength * settings.trust_radius,
            temperature=settings.temperature,
            ridge=settings.ridge,
            surface=surface,
        )

    return LowerLevel(jnp.zeros_like, update_fn)


def descend(
    keys: Array,
    fun: DecoderFn,
    code: Array,
    delta: Array,
    rank: Array,
    settings: Settings,
    *,
    num_probes: int,
    surface: DecoderFn | None = None,
) -> tuple[Array, LowerInfo]:
    """`settings.num_steps` steps, at most as many as there are keys.

    Args:
      keys: one for each step that could be taken, `[K]`.
      fun: decoder.
      code: `z [m]`.
      delta: perturbation to start from `[m]`.
      rank: of the record's exposure, in [0, 1] `[]`.
      settings: the number of steps among them, as data.
      num_probes: decoder evaluations, even.
      surface: map whose metric shapes steps and distance; the decoder by default.

    Returns:
      New perturbation `[m]`, and what the last step saw (zeros without one).
    """
    level = riemannian_langevin(num_probes=num_probes)

    def body(i: Array, carry: tuple[Array, LowerInfo]) -> tuple[Array, LowerInfo]:
        return level.update(keys[i], fun, code, carry[0], rank, settings, surface)

    zero = jnp.zeros((), delta.dtype)
    start = (delta, LowerInfo(zero, zero, zero))
    limit = settings.num_steps
    if isinstance(limit, int):
        count = min(limit, keys.shape[0])
    else:
        count = jnp.minimum(limit, keys.shape[0])
    return jax.lax.fori_loop(0, count, body, start)


def _number(value: Any, dtype: Any) -> Any:
    """Arrays in the code's precision; Python numbers have none of their own."""
    return value if isinstance(value, int | float) else jnp.asarray(value, dtype)


def safe_norm(v: Array) -> Array:
    """Euclidean norm with a zero gradient at zero instead of NaN."""
    squared = jnp.sum(jnp.square(v))
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def clip_norm(v: Array, limit: Scalar) -> Array:
    """`v` shortened to Euclidean length `limit` where it is longer."""
    norm = safe_norm(v)
    return v * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
