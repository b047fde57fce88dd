"""Shape operator, and what a hypersurface has besides; `vmap` outside.

Source of the definitions: do Carmo, Riemannian Geometry, chapter 6.
"""

import jax
import jax.numpy as jnp

from curvpub.geometry import _eigen
from curvpub.geometry._tangent import has_ridge, precise
from curvpub.geometry.metric import jacobian, metric_frame, regularise_metric
from curvpub.types import Array, DecoderFn


@precise
def shape_operator(fun: DecoderFn, z: Array, normal: Array, *, ridge: float = 0.0) -> Array:
    """Shape operator `S^i_j = g^ik <II_kj, normal> [m, m]` along an ambient vector.

    It maps latent tangents to latent tangents: `G(S u, v) = <II(u, v), normal>`. Made of m
    Hessian-vector products of one scalar function, whatever D.

    Args:
      fun: decoder.
      z: point `[m]`.
      normal: ambient vector `[D]`; only its normal part counts.
      ridge: regularisation of the metric in `g^ik`; it has no part in what the normal part is,
        and costs one more factorisation.
    """
    frame, form = _form_along(fun, z, normal, ridge)
    return frame @ (frame.T @ form)


@precise
def unit_normal(fun: DecoderFn, z: Array) -> Array:
    """The unit normal `[m + 1]` of a hypersurface for which `(J, normal)` is positively oriented.

    Raises:
      ValueError: the codimension is not 1.
    """
    jac = jacobian(fun, z)
    if jac.shape[0] != jac.shape[1] + 1:
        raise ValueError(
            f"a unit normal needs codimension 1, got m={jac.shape[1]} and D={jac.shape[0]}"
        )
    rows = metric_frame(jac.T @ jac).T @ jac.T
    normals = jnp.eye(jac.shape[0], dtype=z.dtype) - rows.T @ rows
    # The axis that is furthest from the tangent space loses least in the projection.
    longest = jnp.argmax(jnp.diagonal(normals))
    normal = normals[longest] / jnp.sqrt(normals[longest, longest])
    frame = jnp.concatenate([rows.T, normal[:, None]], axis=1)
    return normal * jax.lax.stop_gradient(_orientation(frame))


@precise
def principal_curvatures(fun: DecoderFn, z: Array) -> Array:
    """Principal curvatures `[m]` of a hypersurface, ascending, with the sign of `unit_normal`.

    Raises:
      ValueError: the codimension is not 1.
    """
    normal = unit_normal(fun, z)
    frame, form = _form_along(fun, z, normal, 0.0)
    return _eigen.eigenvalues(frame.T @ form @ frame)


def _form_along(fun: DecoderFn, z: Array, normal: Array, ridge: float) -> tuple[Array, Array]:
    """Frame `[m, m]` and `<II_ij, normal> [m, m]`."""
    jac = jacobian(fun, z)
    metric = jac.T @ jac
    frame = metric_frame(metric)
    rows = frame.T @ jac.T
    if has_ridge(ridge):
        frame = metric_frame(regularise_metric(metric, ridge))
    off = normal - (rows @ normal) @ rows
    # Reverse over forward is avoided: forward over reverse keeps m tangents of one gradient.
    height = jax.grad(lambda p: jnp.sum(off * fun(p)))
    return frame, jax.jacfwd(height)(z)


def _orientation(matrix: Array) -> Array:
    """Sign of the determinant of a regular matrix `[n, n]`, by elimination with pivoting."""
    size = matrix.shape[0]
    index = jnp.arange(size)

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, sign = carry
        pivot = jnp.argmax(jnp.where(index >= j, jnp.abs(a[:, j]), -1.0))
        swapped = jnp.where(index == j, pivot, jnp.where(index == pivot, j, index))
        a = a[swapped]
        factor = jnp.where(index > j, a[:, j] / a[j, j], 0.0)
        sign = sign * jnp.where(pivot == j, 1.0, -1.0).astype(a.dtype) * jnp.sign(a[j, j])
        return a - jnp.outer(factor, a[j]), sign

    return jax.lax.fori_loop(0, size, step, (matrix, jnp.ones((), matrix.dtype)))[1]
