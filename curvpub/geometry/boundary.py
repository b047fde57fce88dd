"""Geodesics between two points: minimal discrete energy, distance, logarithm; `vmap` outside.

A curve is `[T, m]` latent points at equal steps of `t` in [0, 1]. Its discrete energy is that of
the polygon of decoded points, `E = (T - 1) / 2 sum |f(z_{i+1}) - f(z_i)|^2` in squared ambient
units, and `sqrt(2 E)` is the length of a curve of constant speed. The energy is minimised by
Newton steps on its block-tridiagonal Hessian, safeguarded by Gauss-Newton ones.

Derivatives are those of the minimiser by the implicit function theorem, not of the iterations: a
last Newton step is differentiated at fixed matrix, so memory does not grow with iterations. That
step itself is taken where it does not raise the energy.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub.geometry._tail import Split, isometric_split
from curvpub.geometry._tangent import precise
from curvpub.geometry.geodesic import exponential_map
from curvpub.geometry.metric import metric_solve
from curvpub.types import Array, DecoderFn


@precise
def curve_energy(fun: DecoderFn, curve: Array) -> Array:
    """Discrete energy `(T - 1) / 2 sum |f(z_{i+1}) - f(z_i)|^2 []` of `curve [T, m]`."""
    steps = jnp.diff(jax.vmap(fun)(curve), axis=0)
    return 0.5 * (curve.shape[0] - 1) * jnp.sum(jnp.square(steps))


@precise
def curve_length(fun: DecoderFn, curve: Array) -> Array:
    """Length `[]` of a smooth curve given at T points, T odd, `[T, m]`.

    Polygons with all and with every second point, extrapolated: the error falls with the fourth
    power of the step. The gradient of a step of no length is zero.

    Raises:
      ValueError: T is even or below 3.
    """
    _check_odd("the number of points of the curve", curve.shape[0])
    values = jax.vmap(fun)(curve)
    fine = jnp.sum(_norms(jnp.diff(values, axis=0)))
    coarse = jnp.sum(_norms(jnp.diff(values[::2], axis=0)))
    return (4.0 * fine - coarse) / 3.0


@precise
def geodesic(
    fun: DecoderFn,
    z0: Array,
    z1: Array,
    *,
    num_points: int = 33,
    max_iterations: int = 50,
    initial: Array | None = None,
    ridge: float = 1e-7,
) -> Array:
    """A geodesic from `z0 [m]` to `z1 [m]` as a curve `[num_points, m]`.

    A local minimum of the discrete energy: the one that `initial` leads to, which need not be the
    shortest. Differentiable in the ends and in what `fun` closes over.

    Args:
      fun: decoder.
      z0: start `[m]`.
      z1: end `[m]`.
      num_points: points of the curve, ends included; errors fall with the square of their number.
      max_iterations: most Newton steps; iterations end when the energy no longer falls.
      initial: curve to start from, `[num_points, m]`; the straight latent line by default.
      ridge: regularisation of the linear systems, times the mean eigenvalue of the metric. It
        keeps dead latents on a straight line and does not move the minimum.

    Raises:
      ValueError: fewer than 3 points, or shapes that do not fit.
    """
    if num_points < 3:
        raise ValueError(f"num_points={num_points!r} must be at least 3")
    if initial is None:
        t = jnp.linspace(0.0, 1.0, num_points, dtype=z0.dtype)[:, None]
        initial = z0[None, :] + t * (z1 - z0)[None, :]
    elif initial.shape != (num_points, z0.shape[0]):
        expected = [num_points, z0.shape[0]]
        raise ValueError(f"initial has shape {list(initial.shape)}, expected {expected}")
    # The iterations see constants only; nothing is kept of them for a backward pass.
    pure, consts = jax.closure_convert(fun, z0)
    fixed = [jax.lax.stop_gradient(c) for c in consts]
    ends = jax.lax.stop_gradient((z0, z1))
    count = num_points * z0.shape[0]
    split = isometric_split(lambda z: pure(z, *fixed), ends[0], derivatives=count)
    inner = jax.lax.stop_gradient(initial)[1:-1]
    inner = _minimise(split, ends, inner, max_iterations, ridge)
    curve = jnp.concatenate([ends[0][None], inner, ends[1][None]])
    blocks = jax.lax.stop_gradient(_blocks(split, curve, ridge))
    live = isometric_split(fun, z0, derivatives=count)
    gradient = _gradient(live, jnp.concatenate([z0[None], inner, z1[None]]))
    step, sound = _last_step(split, curve, blocks, jax.lax.stop_gradient(gradient))
    # Of an unsound Hessian not even the derivative is kept: Gauss-Newton's matrix is definite.
    matrix = blocks.diagonal + jnp.where(sound, blocks.bend, 0.0)
    change = _solve(matrix, blocks.upper, gradient)
    inner = inner - step - (change - jax.lax.stop_gradient(change))
    return jnp.concatenate([z0[None], inner, z1[None]])


@precise
def geodesic_distance(
    fun: DecoderFn,
    z0: Array,
    z1: Array,
    *,
    num_points: int = 33,
    max_iterations: int = 50,
    initial: Array | None = None,
    ridge: float = 1e-7,
) -> Array:
    """Length `[]` of the geodesic between two latent points `[m]`, in ambient units.

    The distance where that geodesic is the shortest. Arguments are those of `geodesic`, with an
    odd number of points; the error falls with the fourth power of the step.

    Raises:
      ValueError: as for `geodesic`, or an even number of points.
    """
    _check_odd("num_points", num_points)
    curve = geodesic(
        fun,
        z0,
        z1,
        num_points=num_points,
        max_iterations=max_iterations,
        initial=initial,
        ridge=ridge,
    )
    return curve_length(fun, curve)


@precise
def logarithm_map(
    fun: DecoderFn,
    z: Array,
    target: Array,
    *,
    num_steps: int = 32,
    num_points: int = 33,
    num_shots: int = 4,
    ridge: float = 0.0,
) -> Array:
    """Inverse of the exponential map: `v [m]` with `Exp_z(v) = target`.

    Starts from the geodesic of least energy and corrects its velocity by Newton's method on
    `exponential_map` (shooting), so that the two are inverse to rounding at equal `num_steps`.

    Args:
      fun: decoder.
      z: start `[m]`.
      target: end `[m]`.
      num_steps: Runge-Kutta steps of the exponential map.
      num_points: points of the first curve, at least 5.
      num_shots: Newton steps.
      ridge: regularisation of the metric in the exponential map.

    Raises:
      ValueError: `num_points`, `num_steps` or `num_shots` is too small.
    """
    if num_points < 5:
        raise ValueError(f"num_points={num_points!r} must be at least 5")
    if num_shots < 1:
        raise ValueError(f"num_shots={num_shots!r} must be positive")
    pure, consts = jax.closure_convert(fun, z)
    fixed = [jax.lax.stop_gradient(c) for c in consts]
    frozen = lambda p: pure(p, *fixed)
    start, end = jax.lax.stop_gradient((z, target))
    curve = geodesic(frozen, start, end, num_points=num_points)
    weights = jnp.asarray([-25.0, 48.0, -36.0, 16.0, -3.0], z.dtype) / 12.0
    velocity = (num_points - 1) * (weights @ curve[:5])
    shoot = lambda v: exponential_map(frozen, start, v, num_steps=num_steps, ridge=ridge)

    def correct(v: Array, _: None) -> tuple[Array, None]:
        return v - _least_squares(jax.jacfwd(shoot)(v), shoot(v) - end), None

    velocity, _ = jax.lax.scan(correct, velocity, None, length=num_shots)
    velocity = jax.lax.stop_gradient(velocity)
    jac = jax.lax.stop_gradient(jax.jacfwd(shoot)(velocity))
    miss = exponential_map(fun, z, velocity, num_steps=num_steps, ridge=ridge) - target
    return velocity - _least_squares(jac, miss)


class _Blocks(NamedTuple):
    """Block-tridiagonal Hessian of the energy over the inner points."""

    diagonal: Array  # [T - 2, m, m] Gauss-Newton part, positive definite
    bend: Array  # [T - 2, m, m] second derivatives against the polygon's corners
    upper: Array  # [T - 3, m, m] block (i, i + 1)


def _lower(split: Split, w: Array) -> Array:
    return w if split.gram is None else w @ split.gram


def _corners(values: Array) -> Array:
    return 2.0 * values[1:-1] - values[:-2] - values[2:]


def _gradient(split: Split, curve: Array) -> Array:
    """Gradient of the energy over the inner points, `[T - 2, m]`."""
    corners = _lower(split, _corners(jax.vmap(split.head)(curve)))
    pull = lambda z, c: jax.vjp(split.head, z)[1](c)[0]
    return (curve.shape[0] - 1) * jax.vmap(pull)(curve[1:-1], corners)


def _energy(split: Split, curve: Array) -> Array:
    steps = jnp.diff(jax.vmap(split.head)(curve), axis=0)
    return 0.5 * (curve.shape[0] - 1) * jnp.sum(steps * _lower(split, steps))


def _blocks(split: Split, curve: Array, ridge: float) -> _Blocks:
    inner, m = curve[1:-1], curve.shape[1]
    jac = jax.vmap(jax.jacfwd(split.head))(inner)  # [T - 2, k, m]
    rows = jnp.swapaxes(jac, 1, 2)
    lowered = _lower(split, rows)
    metric = lowered @ jac
    corners = _lower(split, _corners(jax.vmap(split.head)(curve)))
    height = lambda z, c: jnp.sum(c * split.head(z))
    bend = jax.vmap(jax.jacfwd(jax.grad(height)))(inner, corners)
    # The ridge is an energy of the latent polygon: it acts on every mode in proportion.
    mean = jnp.mean(jnp.trace(metric, axis1=1, axis2=2)) / m
    extra = ridge * jnp.where(mean > 0, mean, 1.0) * jnp.eye(m, dtype=curve.dtype)[None]
    scale = curve.shape[0] - 1
    return _Blocks(
        diagonal=scale * 2.0 * (metric + extra),
        bend=scale * bend,
        upper=-scale * (lowered[:-1] @ jac[1:] + extra),
    )


def _solve(diagonal: Array, upper: Array, right: Array) -> Array:
    """Solves a symmetric block-tridiagonal system by block elimination, `[n, m]`."""

    def down(carry: tuple[Array, Array], row: tuple[Array, Array, Array]):
        block, side = carry  # of the row before, already eliminated
        link, own, b = row
        both = metric_solve(block, jnp.concatenate([link, side[:, None]], axis=1))
        new = (own - link.T @ both[:, :-1], b - link.T @ both[:, -1])
        return new, (block, side)

    start = (diagonal[0], right[0])
    (block, side), kept = jax.lax.scan(down, start, (upper, diagonal[1:], right[1:]))
    last = metric_solve(block, side)

    def up(after: Array, row: tuple[Array, Array, Array]):
        block, side, link = row
        x = metric_solve(block, side - link @ after)
        return x, x

    _, rest = jax.lax.scan(up, last, (*kept, upper), reverse=True)
    return jnp.concatenate([rest, last[None]])


def _minimise(
    split: Split, ends: tuple[Array, Array], inner: Array, max_iterations: int, ridge: float
) -> Array:
    """Inner points of least energy `[T - 2, m]`: the best of Newton and Gauss-Newton steps."""
    join = lambda p: jnp.concatenate([ends[0][None], p, ends[1][None]])
    fractions = 0.25 ** jnp.arange(5, dtype=inner.dtype)

    def step(carry: tuple[Array, Array, Array, Array]):
        p, energy, _, count = carry
        gradient = _gradient(split, join(p))
        blocks = _blocks(split, join(p), ridge)
        newton = _solve(blocks.diagonal + blocks.bend, blocks.upper, gradient)
        gauss = _solve(blocks.diagonal, blocks.upper, gradient)
        moves = jnp.stack([newton, gauss])
        tries = p[None, None] - fractions[:, None, None, None] * moves[None]
        tries = tries.reshape(-1, *p.shape)
        energies = jax.vmap(lambda q: _energy(split, join(q)))(tries)
        energies = jnp.where(jnp.isfinite(energies), energies, jnp.inf)
        best = jnp.argmin(energies)
        falls = energies[best] < energy
        enough = energies[best] < energy * (1.0 - 8.0 * jnp.finfo(p.dtype).eps)
        p = jnp.where(falls, tries[best], p)
        return p, jnp.minimum(energy, energies[best]), enough, count + 1

    going = lambda carry: carry[2] & (carry[3] < max_iterations)
    start = (inner, _energy(split, join(inner)), jnp.asarray(True), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(going, step, start)[0]


def _last_step(split: Split, curve: Array, blocks: _Blocks, gradient: Array) -> tuple[Array, Array]:
    """The last Newton step `[T - 2, m]`, zero where it raises the energy, and whether it does not.

    The iterations end where the energy is flat to rounding, which leaves half of the points' digits
    to this step; but they may end unconverged, where the Hessian is indefinite.
    """
    step = _solve(blocks.diagonal + blocks.bend, blocks.upper, gradient)
    after = _energy(split, curve.at[1:-1].add(-step))
    rounding = 8.0 * jnp.finfo(curve.dtype).eps
    sound = after <= _energy(split, curve) * (1.0 + rounding)  # false where not finite
    return jnp.where(sound, step, 0.0), sound


def _least_squares(a: Array, b: Array) -> Array:
    """`a^-1 b` for a regular square matrix, by normal equations and one correction."""
    gram = a.T @ a
    x = metric_solve(gram, a.T @ b)
    return x + metric_solve(gram, a.T @ (b - a @ x))


def _norms(rows: Array) -> Array:
    squared = jnp.sum(jnp.square(rows), axis=1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def _check_odd(name: str, value: int) -> None:
    if value < 3 or value % 2 == 0:
        raise ValueError(f"{name} is {value!r}, it must be odd and at least 3")
