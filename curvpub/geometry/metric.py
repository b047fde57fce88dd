"""The pullback metric of a decoder at one point, and what is made of it."""

import jax
import jax.numpy as jnp

from curvpub.types import Array, DecoderFn


def jacobian(fun: DecoderFn, z: Array) -> Array:
    """Jacobian `J = Df(z) [D, m]`, by forward mode."""
    return jax.jacfwd(fun)(z)


def pullback_metric(fun: DecoderFn, z: Array) -> Array:
    """Pullback metric `G = J^T J [m, m]`."""
    jac = jacobian(fun, z)
    return jac.T @ jac


def regularise_metric(metric: Array, ridge: float) -> Array:
    """Adds `ridge * tr(G) / m` to the diagonal, so that dead latents do not make it singular.

    Args:
      metric: `[m, m]`.
      ridge: share of the mean eigenvalue; 0 leaves the metric as it is.
    """
    size = metric.shape[0]
    mean = jnp.trace(metric) / size
    return metric + ridge * mean * jnp.eye(size, dtype=metric.dtype)


def metric_solve(metric: Array, b: Array) -> Array:
    """Solves `G a = b` for a positive definite metric by Gauss-Jordan elimination.

    Elimination without pivoting is stable for positive definite matrices (Golub and Van Loan,
    Matrix Computations, section 4.2). Written out rather than left to LAPACK: batches of small
    systems map to vector instructions, and on a CPU with few cores two LAPACK calls that XLA
    schedules side by side can wait for each other for ever.

    Args:
      metric: positive definite `[m, m]`.
      b: right-hand side `[m]` or sides `[m, k]`.

    Returns:
      `G^-1 b`, shaped like `b`; not finite where the metric is singular.
    """
    size = metric.shape[0]
    sides = b[:, None] if b.ndim == 1 else b

    def eliminate(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, right = carry
        factor = jnp.where(jnp.arange(size) == j, 0.0, a[:, j] / a[j, j])
        return a - jnp.outer(factor, a[j]), right - jnp.outer(factor, right[j])

    a, right = jax.lax.fori_loop(0, size, eliminate, (metric, sides))
    solution = right / jnp.diagonal(a)[:, None]
    return solution[:, 0] if b.ndim == 1 else solution


def metric_eigenvalues(metric: Array) -> Array:
    """Eigenvalues `[m]` in ascending order."""
    return jnp.linalg.eigvalsh(metric)


def metric_condition(metric: Array) -> Array:
    """Ratio of the largest to the smallest eigenvalue; infinite for a singular metric."""
    values = metric_eigenvalues(metric)
    low = jnp.maximum(values[0], 0.0)
    return jnp.where(low > 0, values[-1] / jnp.where(low > 0, low, 1.0), jnp.inf)


def volume_element(metric: Array) -> Array:
    """`sqrt(det G) []`."""
    values = jnp.maximum(metric_eigenvalues(metric), 0.0)
    return jnp.sqrt(jnp.prod(values))


def metric_root(metric: Array) -> Array:
    """The symmetric root `G^1/2 [m, m]`."""
    values, vectors = jnp.linalg.eigh(metric)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]) @ vectors.T


def metric_inverse_root_apply(metric: Array, e: Array) -> Array:
    """`G^-1/2 e [m]` with the symmetric root; directions of no length are left out.

    With `e ~ N(0, I)` the result is a random direction of law `N(0, G^-1)`.
    """
    values, vectors = jnp.linalg.eigh(metric)
    floor = values[-1] * metric.shape[0] * jnp.finfo(metric.dtype).eps
    alive = values > floor
    scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, values, 1.0)), 0.0)
    return vectors @ (scale * (vectors.T @ e))
