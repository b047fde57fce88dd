"""Geodesics from a point: exponential map, transport, Brownian motion; `vmap` outside.

The geodesic equation in latent coordinates is `z'' = -Gamma(z', z')` with
`Gamma(u, v) = G^-1 J^T D^2 f(u, v)`: one jvp of jvp, no Christoffel symbols are formed. It is
integrated by classical Runge-Kutta steps of equal length (Hairer, Norsett and Wanner, Solving
Ordinary Differential Equations I, section II.1). Directions are latent tangents `[m]`, lengths are
measured by the metric in ambient units, and `t` runs from 0 to 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from curvpub.geometry._tail import Split, isometric_split
from curvpub.geometry._tangent import precise
from curvpub.geometry.curvature import retract, second_derivative
from curvpub.geometry.metric import (
    metric_frame,
    metric_solve,
    pullback_metric,
    regularise_metric,
)
from curvpub.types import Array, DecoderFn


class GeodesicPath(NamedTuple):
    """A geodesic at equal steps of `t`."""

    points: Array  # [num_steps + 1, m] latent points
    velocities: Array  # [num_steps + 1, m] latent velocities, of constant length


class GeodesicWalk(NamedTuple):
    """Where a walk along a geodesic ended."""

    point: Array  # [m] latent point
    length: Array  # [] of the path that leads there, ambient units


@precise
def christoffel(fun: DecoderFn, z: Array, u: Array, v: Array, *, ridge: float = 0.0) -> Array:
    """`Gamma(u, v) = G^-1 J^T D^2 f(u, v) [m]`."""
    return _christoffel(isometric_split(fun, z, derivatives=z.shape[0]), z, [(u, v)], ridge)[0]


@precise
def geodesic_path(
    fun: DecoderFn, z: Array, v: Array, *, num_steps: int = 32, ridge: float = 0.0
) -> GeodesicPath:
    """The geodesic that leaves `z [m]` with velocity `v [m]`, up to `t = 1`.

    Args:
      fun: decoder.
      z: start `[m]`.
      v: latent velocity `[m]`; the length of the path is `|J v|`.
      num_steps: Runge-Kutta steps; the error falls with their fourth power.
      ridge: regularisation of the metric; with a positive one lengths drift.

    Raises:
      ValueError: `num_steps` is not positive.
    """
    split = isometric_split(fun, z, derivatives=4 * num_steps * z.shape[0])

    def slope(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        point, velocity = state
        (bend,) = _christoffel(split, point, [(velocity, velocity)], ridge)
        return velocity, -bend

    return GeodesicPath(*_integrate(slope, (z, v), num_steps))


def exponential_map(
    fun: DecoderFn, z: Array, v: Array, *, num_steps: int = 32, ridge: float = 0.0
) -> Array:
    """End point `Exp_z(v) [m]` of the geodesic that leaves `z [m]` with velocity `v [m]`.

    Arguments and errors are those of `geodesic_path`.
    """
    return geodesic_path(fun, z, v, num_steps=num_steps, ridge=ridge).points[-1]


@precise
def geodesic_walk(
    fun: DecoderFn,
    z: Array,
    v: Array,
    length: Array | float,
    *,
    num_steps: int = 64,
    tolerance: float = 1e-2,
    ridge: float = 0.0,
) -> GeodesicWalk:
    """Walks from `z [m]` in the direction of `v [m]`, in Runge-Kutta steps as long as they may be.

    The path is that of `geodesic_path`, at the speed `|J z'| = 1` whatever the ridge. An exact path
    keeps its speed, and a chord is no longer than its arc: a step after which one fails by more
    than the tolerance is tried again, shorter, by the usual rule for a local error of fifth order.
    An image is often bounded, and then a geodesic comes to its edge, where no latent
    point lies, after a finite length: the walk ends where the tries do, before the edge.

    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.4
    (choice of the step); Hairer, Lubich and Wanner, Geometric Numerical Integration, section IV.4
    (return to the unit speed after each step, which keeps the order).

    Args:
      fun: decoder.
      z: start `[m]`.
      v: latent direction `[m]`; its length does not count.
      length: of the path, in ambient units, `[]`; data.
      num_steps: most Runge-Kutta steps tried, each as dear as one of `geodesic_path`. The loop ends
        when the walk has its length; under `vmap`, when all walks have.
      tolerance: of speed and chord, relative, at each step.
      ridge: regularisation of the metric.

    Returns:
      The end point, and the length that led there: `length` unless steps did not suffice, and zero
      with the point `z` where the direction has no length.

    Raises:
      ValueError: `num_steps` is not positive.
    """
    _check_steps(num_steps)
    split = isometric_split(fun, z, derivatives=4 * num_steps * z.shape[0])

    def norm(w: Array) -> Array:
        return jnp.sqrt(w @ (w if split.gram is None else split.gram @ w))

    def slope(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return state[1], _steady(split, *state, ridge)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        point, velocity, image, left, size, count = carry
        h = jnp.minimum(size, left)
        to, then = _runge_kutta(slope, jnp.zeros_like(h), (point, velocity), h)
        seen, push = jax.jvp(split.head, (to,), (then,))
        speed = norm(push)
        error = jnp.maximum(jnp.abs(speed - 1.0), norm(seen - image) / h - 1.0) / tolerance
        good = error <= 1.0  # nor is what isn't a number
        factor = jnp.where(jnp.isfinite(error), jnp.clip(0.9 * error**-0.2, 0.2, 2.0), 0.2)
        moved = (to, then / speed, seen, left - h)
        kept = [jnp.where(good, a, b) for a, b in zip(moved, carry[:4], strict=True)]
        return *kept, h * factor, count + 1

    image, push = jax.jvp(split.head, (z,), (v,))
    speed = norm(push)
    length = jnp.asarray(length, z.dtype)
    whole = jnp.where((speed > 0) & jnp.isfinite(speed), length, 0.0)
    start = (z, v / speed, image, whole, whole / 4, jnp.zeros((), jnp.int32))
    unfinished = lambda carry: (carry[3] > 0) & (carry[5] < num_steps)
    point, _, _, left, _, _ = jax.lax.while_loop(unfinished, step, start)
    return GeodesicWalk(point, whole - left)


@precise
def parallel_transport(
    fun: DecoderFn, z: Array, v: Array, w: Array, *, num_steps: int = 32, ridge: float = 0.0
) -> Array:
    """Transports `w [m]` along the geodesic that leaves `z` with velocity `v`, to its end: `[m]`.

    Solves `w' = -Gamma(z', w)` beside the geodesic. Other arguments and errors are those of
    `geodesic_path`.
    """
    split = isometric_split(fun, z, derivatives=4 * num_steps * z.shape[0])

    def slope(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        point, velocity, carried = state
        pairs = [(velocity, velocity), (velocity, carried)]
        bend, turn = _christoffel(split, point, pairs, ridge)
        return velocity, -bend, -turn

    return _integrate(slope, (z, v, w), num_steps)[2][-1]


@precise
def parallel_transport_along(
    fun: DecoderFn,
    curve: Callable[[Array], Array],
    w: Array,
    *,
    num_steps: int = 32,
    ridge: float = 0.0,
) -> Array:
    """Transports `w [m]` along any smooth curve, from `t = 0` to `t = 1`: `[num_steps + 1, m]`.

    Args:
      fun: decoder.
      curve: differentiable, `t [] -> [m]`.
      w: latent tangent at `curve(0)`, `[m]`.
      num_steps: Runge-Kutta steps.
      ridge: regularisation of the metric.

    Raises:
      ValueError: `num_steps` is not positive.
    """
    split = isometric_split(fun, w, derivatives=4 * num_steps * w.shape[0])

    def slope(t: Array, state: tuple[Array]) -> tuple[Array]:
        point, velocity = jax.jvp(curve, (t,), (jnp.ones_like(t),))
        return (-_christoffel(split, point, [(velocity, state[0])], ridge)[0],)

    return _integrate(slope, (w,), num_steps)[0]


@precise
def brownian_motion(
    key: Array, fun: DecoderFn, z: Array, *, time: float, num_steps: int, ridge: float = 0.0
) -> Array:
    """Brownian motion of the image (generator: half the Laplacian), `[num_steps + 1, m]`.

    A geodesic random walk: each step is `sqrt(time / num_steps) E xi` with `E E^T = G^-1` and
    normal xi, retracted to second order, which supplies the Ito drift `-g^jk Gamma^i_jk / 2`. Its
    law is right to first order in the step.

    Source: Jorgensen, The central limit problem for geodesic random walks, 1975.

    Args:
      key: randomness of the path.
      fun: decoder.
      z: start `[m]`.
      time: duration, in squared ambient units.
      num_steps: steps.
      ridge: regularisation of the metric.

    Raises:
      ValueError: `num_steps` is not positive.
    """
    _check_steps(num_steps)
    size = jnp.sqrt(jnp.asarray(time / num_steps, z.dtype))

    def step(point: Array, xi: Array) -> tuple[Array, Array]:
        moved = brownian_step(fun, point, size * xi, ridge=ridge)
        return moved, moved

    noise = jax.random.normal(key, (num_steps, z.shape[0]), z.dtype)
    return jnp.concatenate([z[None, :], jax.lax.scan(step, z, noise)[1]])


def brownian_step(fun: DecoderFn, z: Array, xi: Array, *, ridge: float = 0.0) -> Array:
    """One step of `brownian_motion`: retracts `E xi [m]`, `xi ~ N(0, dt I) [m]` from `z [m]`."""
    frame = metric_frame(regularise_metric(pullback_metric(fun, z), ridge))
    return retract(fun, z, frame @ xi, ridge=ridge)


def _christoffel(
    split: Split, z: Array, pairs: list[tuple[Array, Array]], ridge: float
) -> list[Array]:
    jac, lowered = _jacobian(split, z)
    metric = regularise_metric(lowered @ jac, ridge)
    second = jnp.stack([second_derivative(split.head, z, u, v) for u, v in pairs], axis=1)
    return list(metric_solve(metric, lowered @ second).T)


def _steady(split: Split, z: Array, v: Array, ridge: float) -> Array:
    """`-Gamma(v, v)`, and along v what keeps `|J v|`, which a ridge would not; `[m]`."""
    jac, lowered = _jacobian(split, z)
    metric = lowered @ jac
    second = lowered @ second_derivative(split.head, z, v, v)
    bend = metric_solve(regularise_metric(metric, ridge), second)
    covector = metric @ v
    return (covector @ bend - v @ second) / (covector @ v) * v - bend


def _jacobian(split: Split, z: Array) -> tuple[Array, Array]:
    jac = jax.jacfwd(split.head)(z)
    return jac, jac.T if split.gram is None else jac.T @ split.gram


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps!r} must be positive")


def _integrate(slope: Callable[[Array, Any], Any], start: Any, num_steps: int) -> Any:
    """States of `y' = slope(t, y)` at `num_steps + 1` equal times in [0, 1]."""
    _check_steps(num_steps)
    dtype = jax.tree.leaves(start)[0].dtype
    h = jnp.asarray(1.0 / num_steps, dtype)

    def step(y: Any, t: Array) -> tuple[Any, Any]:
        new = _runge_kutta(slope, t, y, h)
        return new, new

    times = jnp.arange(num_steps).astype(dtype) * h
    _, path = jax.lax.scan(step, start, times)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, path)


def _runge_kutta(slope: Callable[[Array, Any], Any], t: Array, y: Any, h: Array) -> Any:
    """One classical step of length h from the state y at t."""
    add = lambda y, a, k: jax.tree.map(lambda p, q: p + a * q, y, k)
    k1 = slope(t, y)
    k2 = slope(t + h / 2, add(y, h / 2, k1))
    k3 = slope(t + h / 2, add(y, h / 2, k2))
    k4 = slope(t + h, add(y, h, k3))
    mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
    return add(y, h, mean)
