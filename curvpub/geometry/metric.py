"""The pullback metric of a decoder at one point, and what is made of it; `vmap` outside.

No LAPACK call is made: elimination and Jacobi rotations are written out (see `metric_solve`).
"""

import jax
import jax.numpy as jnp

from curvpub.geometry import _eigen
from curvpub.types import Array, DecoderFn

# Roundings, times m, up to which a pivot counts as zero. On random maps in float32 (m from 3 to 64,
# D from 6 to 3,072) what is left of dependent latents was below 4. A ridge r leaves pivots of at
# least `r / m`, so with the usual one, 1e-2, all latents count up to m = 100, on any decoder.
_ROUNDINGS = 8


def jacobian(fun: DecoderFn, z: Array) -> Array:
    """Jacobian `J = Df(z) [D, m]`, by forward mode."""
    return jax.jacfwd(fun)(z)


def pullback_metric(fun: DecoderFn, z: Array) -> Array:
    """Pullback metric `G = J^T J [m, m]`."""
    jac = jacobian(fun, z)
    return jnp.matmul(jac.T, jac, precision="highest")


def expected_decoder(mean: DecoderFn, precision: DecoderFn) -> DecoderFn:
    """The map `z -> (mean(z), precision(z)^-1/2) [2 D]`.

    A decoder with a precision head draws `x ~ N(mean(z), diag(1 / precision(z)))`, a random
    manifold. The expectation of its metric is the pullback metric of this map, so every function
    of this library that reads the metric alone (lengths, geodesics, Brownian motion, retraction)
    applies to it as it is. The embedding's own curvature isn't that of the random manifold.

    Source: Arvanitidis, Hansen and Hauberg, Latent Space Oddity, ICLR 2018, equation 8.

    Args:
      mean: `[m] -> [D]`.
      precision: `[m] -> [D]`, positive.
    """
    return lambda z: jnp.concatenate([mean(z), jax.lax.rsqrt(precision(z))])


def expected_metric(mean: DecoderFn, precision: DecoderFn, z: Array) -> Array:
    """Expected metric `J_mean^T J_mean + J_sigma^T J_sigma [m, m]`, `sigma = precision^-1/2`.

    Source: Arvanitidis, Hansen and Hauberg, Latent Space Oddity, ICLR 2018, equation 8.
    """
    return pullback_metric(expected_decoder(mean, precision), z)


def regularise_metric(metric: Array, ridge: float) -> Array:
    """Adds `ridge * tr(G) / m` to the diagonal, so that dead latents do not make it singular.

    A metric that is zero altogether gets `ridge` itself.

    Args:
      metric: `[m, m]`.
      ridge: share of the mean eigenvalue; 0 leaves the metric as it is.
    """
    size = metric.shape[0]
    mean = jnp.trace(metric) / size
    mean = jnp.where(mean > 0, mean, 1.0)
    return metric + ridge * mean * jnp.eye(size, dtype=metric.dtype)


def metric_solve(metric: Array, b: Array) -> Array:
    """Solves `G a = b` for a positive definite metric by Gauss-Jordan elimination.

    Elimination without pivoting is stable for positive definite matrices (Golub and Van Loan,
    Matrix Computations, section 4.2). Written out rather than left to LAPACK: batches of small
    systems map to vector instructions, and on a CPU with few cores two LAPACK calls that XLA
    schedules side by side can wait for each other for ever. Derivatives are one more solve each.

    Args:
      metric: positive definite `[m, m]`.
      b: right-hand side `[m]` or sides `[m, k]`.

    Returns:
      `G^-1 b`, shaped like `b`; not finite where the metric is singular.
    """
    sides = b[:, None] if b.ndim == 1 else b
    solution = jax.lax.custom_linear_solve(
        lambda x: jnp.matmul(metric, x, precision="highest"),
        sides,
        solve=lambda _, y: _eliminate(metric, y),
        symmetric=True,
    )
    return solution[:, 0] if b.ndim == 1 else solution


def _eliminate(metric: Array, sides: Array) -> Array:
    size = metric.shape[0]

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, right = carry
        factor = jnp.where(jnp.arange(size) == j, 0.0, a[:, j] / a[j, j])
        return a - jnp.outer(factor, a[j]), right - jnp.outer(factor, right[j])

    a, right = jax.lax.fori_loop(0, size, step, (metric, sides))
    return right / jnp.diagonal(a)[:, None]


@jax.custom_jvp
def metric_frame(metric: Array) -> Array:
    """Orthonormal frame of the latent tangent space: `E [m, m]` with `E^T G E = I`.

    Upper triangular, the inverse transpose of the Cholesky factor, so `E E^T = G^-1`. A latent
    whose direction adds no length to the others (a dead latent; to rounding, see `_independent`)
    gets a zero column: the frame then spans the tangent space of the image.

    Args:
      metric: positive semi-definite `[m, m]`.
    """
    size = metric.shape[0]
    index = jnp.arange(size)
    live = _independent(metric)

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, rows = carry
        pivot = a[j, j]
        alive = live[j] & (pivot > 0)
        scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, pivot, 1.0)), 0.0)
        line, row = a[j] * scale, rows[j] * scale
        below = jnp.where(index > j, a[:, j] * scale, 0.0)
        here = (index == j)[:, None]
        a = a - jnp.outer(below, line)
        return a, jnp.where(here, row[None, :], rows - jnp.outer(below, row))

    identity = jnp.eye(size, dtype=metric.dtype)
    return jax.lax.fori_loop(0, size, step, (metric, identity))[1].T


def _independent(metric: Array) -> Array:
    """A largest set of latents of which none depends on the others, to rounding: bool `[m]`.

    Cholesky with complete pivoting, each latent in units of its own length. In the latents' own
    order a small pivot, accepted early, would blow the rounding of the metric up in later ones,
    past any floor; the largest one doesn't, so that what is left after the last true pivot are a
    few roundings of each of at most m sums.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 10.3.
    """
    size = metric.shape[0]
    index = jnp.arange(size)
    diagonal = jnp.diagonal(metric)
    unit = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 0.0)
    floor = _ROUNDINGS * size * jnp.finfo(metric.dtype).eps

    def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, live = carry
        rest = jnp.where(live, 0.0, jnp.diagonal(a))
        largest = jnp.max(rest)
        pick = (index == jnp.argmax(rest)) & (largest > floor)
        line = jnp.sum(jnp.where(pick[:, None], a, 0.0), axis=0)
        line = line * jax.lax.rsqrt(jnp.maximum(largest, floor))
        return a - jnp.outer(line, line), live | pick

    start = unit[:, None] * metric * unit[None, :], jnp.zeros(size, bool)
    return jax.lax.fori_loop(0, size, step, start)[1]


@metric_frame.defjvp
def _metric_frame_jvp(primals, tangents):
    frame = metric_frame(primals[0])
    change = frame.T @ tangents[0] @ frame
    # d(L^-T) = -L^-T phi(L^-1 dG L^-T)^T, phi the lower triangle with half the diagonal.
    lower = jnp.tril(change) - 0.5 * jnp.diag(jnp.diagonal(change))
    return frame, -frame @ lower.T


def metric_eigenvalues(metric: Array) -> Array:
    """Eigenvalues `[m]` in ascending order."""
    return _eigen.eigenvalues(metric)


def metric_condition(metric: Array) -> Array:
    """Ratio of the largest to the smallest eigenvalue `[]`; infinite for a singular metric.

    Singular is a metric whose smallest eigenvalue is a rounding of the largest, and one of which
    `metric_frame` leaves a latent out: where the condition is finite, curvature is that of all m
    latents. The frame leaves a latent out at an angle to the others of `sin^2 <= 8 m eps`; that is
    a condition of some `1 / (2 m eps)`, 2e6 for two latents of equal length in float32.
    """
    values = metric_eigenvalues(metric)
    whole = jnp.all(_independent(jax.lax.stop_gradient(metric)))
    regular = whole & (values[0] > _zero_to_rounding(values))
    return jnp.where(regular, values[-1] / jnp.where(regular, values[0], 1.0), jnp.inf)


def log_volume_element(metric: Array) -> Array:
    """`log sqrt(det G) []`; minus infinity, with a zero gradient, for a singular metric.

    Stays in range where the determinant of many latents over- or underflows.
    """
    values = metric_eigenvalues(metric)
    positive = values > _zero_to_rounding(values)
    logs = jnp.log(jnp.where(positive, values, 1.0))
    return jnp.where(jnp.all(positive), 0.5 * jnp.sum(logs), -jnp.inf)


def _zero_to_rounding(values: Array) -> Array:
    """Below this an eigenvalue, of those in ascending order, is a rounding of zero: `[]`."""
    return values[-1] * values.shape[0] * jnp.finfo(values.dtype).eps / 4


def volume_element(metric: Array) -> Array:
    """`sqrt(det G) []`, the density of the image's volume over the latent space's."""
    return jnp.exp(log_volume_element(metric))


def metric_root(metric: Array) -> Array:
    """The symmetric root `G^1/2 [m, m]`, once differentiable, at repeated eigenvalues too."""
    return _eigen.root(metric)


def metric_inverse_root(metric: Array) -> Array:
    """The symmetric inverse root `G^-1/2 [m, m]`; directions of no length are left out."""
    return _eigen.inverse_root(metric)


def metric_inverse_root_apply(metric: Array, e: Array) -> Array:
    """`G^-1/2 e [m]` with the symmetric root; directions of no length are left out.

    With `e ~ N(0, I)` the result is a random direction of law `N(0, G^-1)`.
    """
    return metric_inverse_root(metric) @ e
