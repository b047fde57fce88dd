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
    jac = jax.jacfwd(split.head)(z)
    lowered = jac.T if split.gram is None else jac.T @ split.gram
    metric = regularise_metric(lowered @ jac, ridge)
    second = jnp.stack([second_derivative(split.head, z, u, v) for u, v in pairs], axis=1)
    return list(metric_solve(metric, lowered @ second).T)


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps!r} must be positive")


def _integrate(slope: Callable[[Array, Any], Any], start: Any, num_steps: int) -> Any:
    """States of `y' = slope(t, y)` at `num_steps + 1` equal times in [0, 1]."""
    _check_steps(num_steps)
    dtype = jax.tree.leaves(start)[0].dtype
    h = jnp.asarray(1.0 / num_steps, dtype)
    add = lambda y, a, k: jax.tree.map(lambda p, q: p + a * q, y, k)

    def step(y: Any, t: Array) -> tuple[Any, Any]:
        k1 = slope(t, y)
        k2 = slope(t + h / 2, add(y, h / 2, k1))
        k3 = slope(t + h / 2, add(y, h / 2, k2))
        k4 = slope(t + h, add(y, h, k3))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        new = add(y, h, mean)
        return new, new

    times = jnp.arange(num_steps).astype(dtype) * h
    _, path = jax.lax.scan(step, start, times)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, path)
