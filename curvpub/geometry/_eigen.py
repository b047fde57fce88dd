"""Eigenvalues and functions of small symmetric matrices without LAPACK.

Two-sided Jacobi rotations, `m / 2` at a time in the round-robin order of Brent and Luk. Written out
because batches of small matrices map to vector instructions, and because on a CPU with few cores
two LAPACK calls that XLA schedules side by side can wait for each other for ever.

Source: Golub and Van Loan, Matrix Computations, section 8.5.
"""

import jax
import jax.numpy as jnp

from curvpub.types import Array

_MAX_SWEEPS = 16  # quadratic convergence: 6 to 9 sweeps up to m = 64


def eigen(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues `[m]` in ascending order and eigenvectors `[m, m]` in columns.

    Not differentiable in reverse: vectors of a repeated eigenvalue have no derivative. The
    functions below have their own rules.

    Args:
      matrix: symmetric `[m, m]`.
    """
    size = matrix.shape[0]
    half = (size + 1) // 2
    padded = jnp.zeros((2 * half, 2 * half), matrix.dtype).at[:size, :size].set(matrix)
    # What rounding leaves off the diagonal once it has converged.
    tolerance = jnp.finfo(matrix.dtype).eps * size * jnp.sqrt(jnp.sum(jnp.square(matrix)))

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        a, _, sweep = carry
        rest = a - jnp.diag(jnp.diagonal(a))
        return (jnp.sqrt(jnp.sum(jnp.square(rest))) > tolerance) & (sweep < _MAX_SWEEPS)

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        a, vectors, count = carry
        step = lambda _, pair: _rotate_all(pair[0], pair[1], half)
        a, vectors = jax.lax.fori_loop(0, 2 * half - 1, step, (a, vectors))
        return a, vectors, count + 1

    start = (padded, jnp.eye(2 * half, dtype=matrix.dtype), jnp.zeros((), jnp.int32))
    a, vectors, _ = jax.lax.while_loop(unfinished, sweep, start)
    # Columns of the padding have no weight in the first rows; they sort last.
    weight = jnp.sum(jnp.square(vectors[:size]), axis=0)
    values = jnp.where(weight > 0.5, jnp.diagonal(a), jnp.inf)
    rank = jnp.argsort(values)[:size]
    return values[rank], vectors[:size, rank]


def _rotate_all(a: Array, vectors: Array, half: int) -> tuple[Array, Array]:
    """Makes the entries `(i, i + half)` zero, then brings the next pairs there.

    Pairs follow the circle method: the first player stays, the others move one seat round the
    table of two rows.
    """
    p, q, off = jnp.diagonal(a)[:half], jnp.diagonal(a)[half:], jnp.diagonal(a[:half, half:])
    live = off != 0
    tau = (q - p) / jnp.where(live, 2.0 * off, 1.0)
    sign = jnp.where(tau >= 0, 1.0, -1.0).astype(a.dtype)
    tangent = jnp.where(live, sign / (jnp.abs(tau) + jnp.sqrt(1.0 + tau * tau)), 0.0)
    c = jax.lax.rsqrt(1.0 + tangent * tangent)
    s = tangent * c

    def columns(b: Array) -> Array:
        left, right = b[:, :half], b[:, half:]
        turned = [left * c[None, :] - right * s[None, :], left * s[None, :] + right * c[None, :]]
        first, second = turned
        if half == 1:
            return jnp.concatenate(turned, axis=1)
        seats = [first[:, :1], second[:, :1], first[:, 1:-1], second[:, 1:], first[:, -1:]]
        return jnp.concatenate(seats, axis=1)

    return columns(columns(a).T).T, columns(vectors)


@jax.custom_jvp
def eigenvalues(matrix: Array) -> Array:
    """Eigenvalues `[m]` in ascending order, once differentiable."""
    return eigen(matrix)[0]


@eigenvalues.defjvp
def _eigenvalues_jvp(primals, tangents):
    values, vectors = eigen(primals[0])
    return values, jnp.einsum("ia,ij,ja->a", vectors, tangents[0], vectors)


@jax.custom_jvp
def root(matrix: Array) -> Array:
    """Symmetric root `[m, m]` of a positive semi-definite matrix."""
    values, vectors = eigen(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]) @ vectors.T


@root.defjvp
def _root_jvp(primals, tangents):
    # Daleckii and Krein: in the eigenbasis the derivative is a product with divided differences,
    # here 1 / (r_i + r_j), which repeated eigenvalues leave finite.
    values, vectors = eigen(primals[0])
    roots = jnp.sqrt(jnp.maximum(values, 0.0))
    total = roots[:, None] + roots[None, :]
    quotient = jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)
    change = vectors.T @ tangents[0] @ vectors
    value = (vectors * roots[None, :]) @ vectors.T
    return value, vectors @ (quotient * change) @ vectors.T


def _alive(values: Array) -> Array:
    return values > values[-1] * values.shape[0] * jnp.finfo(values.dtype).eps


@jax.custom_jvp
def inverse_root(matrix: Array) -> Array:
    """Symmetric inverse root `[m, m]`; eigenvalues that are zero to rounding are left out."""
    values, vectors = eigen(matrix)
    alive = _alive(values)
    scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, values, 1.0)), 0.0)
    return (vectors * scale[None, :]) @ vectors.T


@inverse_root.defjvp
def _inverse_root_jvp(primals, tangents):
    values, vectors = eigen(primals[0])
    alive = _alive(values)
    safe = jnp.where(alive, values, 1.0)
    scale = jnp.where(alive, jax.lax.rsqrt(safe), 0.0)
    roots = jnp.sqrt(safe)
    both = alive[:, None] & alive[None, :]
    inside = -1.0 / (roots[:, None] * roots[None, :] * (roots[:, None] + roots[None, :]))
    # A direction left out counts as the function value 0 at the eigenvalue 0.
    across = scale / safe
    border = across[:, None] + across[None, :]
    one = alive[:, None] ^ alive[None, :]
    quotient = jnp.where(both, inside, jnp.where(one, border, 0.0))
    change = vectors.T @ tangents[0] @ vectors
    value = (vectors * scale[None, :]) @ vectors.T
    return value, vectors @ (quotient * change) @ vectors.T
