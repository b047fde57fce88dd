"""Extrinsic curvature of a decoder's image at one point, exact; `vmap` outside.

`f: R^m -> R^D` is the decoder, `J` its Jacobian, `G = J^T J`, and `P = I - J G^-1 J^T` the projector
on the normal space. All quantities are invariant under reparametrisation of the latent space and
under rigid motions of the ambient space.

Source of the definitions: do Carmo, Riemannian Geometry, chapter 6.

Every function takes `ridge`, which regularises the metric by `ridge * tr(G) / m`. With the default
of zero a degenerate metric (a dead latent) gives values that are not finite; any positive ridge
gives finite ones, in which degenerate directions count for little.
"""

import jax
import jax.numpy as jnp

from curvpub.geometry.metric import jacobian, metric_solve, regularise_metric
from curvpub.types import Array, DecoderFn


def second_derivative(fun: DecoderFn, z: Array, u: Array, v: Array) -> Array:
    """`D^2 f(z)(u, v) [D]` by jvp of jvp; no Hessian is formed."""
    inner = lambda p: jax.jvp(fun, (p,), (v,))[1]
    return jax.jvp(inner, (z,), (u,))[1]


def second_fundamental_form_apply(
    fun: DecoderFn, z: Array, u: Array, v: Array, *, ridge: float = 0.0
) -> Array:
    """Second fundamental form `II(u, v) = P D^2 f(u, v) [D]` on latent tangents `u, v [m]`."""
    return _normal_part(jacobian(fun, z), second_derivative(fun, z, u, v), ridge)


def second_fundamental_form(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """All components `II_ij [D, m, m]` in latent coordinates.

    Holds `D m^2` numbers; for large m use the operator, or `curvature_norm_squared`, which does
    not.
    """
    jac, basis = jacobian(fun, z), _basis(z)

    def entry(u: Array, v: Array) -> Array:
        return _normal_part(jac, second_derivative(fun, z, u, v), ridge)

    row = jax.vmap(entry, in_axes=(None, 0), out_axes=1)
    return jax.vmap(row, in_axes=(0, None), out_axes=1)(basis, basis)


def mean_curvature_vector(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """Mean curvature vector `H = g^ij II_ij [D]`: the trace, not its mean over m."""
    jac = jacobian(fun, z)
    metric = regularise_metric(jac.T @ jac, ridge)
    # tr(G^-1 D^2 f) = sum_k D^2 f(e_k, G^-1 e_k), one jvp of jvp for each latent.
    inverse = metric_solve(metric, _basis(z))

    def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        return total + second_derivative(fun, z, *pair), None

    start = jnp.zeros(jac.shape[0], jac.dtype)
    trace, _ = jax.lax.scan(add, start, (_basis(z), inverse.T))
    return _normal_part(jac, trace, ridge)


def curvature_norm_squared(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """`|II|^2 = g^ik g^jl <II_ij, II_kl> []`, row by row in `D m` memory."""
    jac, basis = jacobian(fun, z), _basis(z)
    metric = regularise_metric(jac.T @ jac, ridge)
    inverse = metric_solve(metric, basis)

    def row(u: Array) -> Array:  # II(u, .) [m, D]
        second = jax.vmap(lambda v: second_derivative(fun, z, u, v))(basis)
        return jax.vmap(lambda s: _normal_part(jac, s, ridge))(second)

    def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        lower, upper = row(pair[0]), inverse @ row(pair[1])
        return total + jnp.sum(lower * upper), None

    # sum_i <II(e_i, .), g^ik II(e_k, .)> with the second index raised by the inverse metric.
    total, _ = jax.lax.scan(add, jnp.zeros((), jac.dtype), (basis, inverse.T))
    return total


def normal_curvature(fun: DecoderFn, z: Array, v: Array, *, ridge: float = 0.0) -> Array:
    """Normal curvature `|II(v, v)| / G(v, v) []` in the direction of `v [m]`.

    Not finite for a direction of no length unless `ridge` is positive.
    """
    jac = jacobian(fun, z)
    bend = _normal_part(jac, second_derivative(fun, z, v, v), ridge)
    squared = jnp.sum(jnp.square(bend))
    positive = squared > 0  # keeps the gradient finite on flat pieces
    length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
    return length / (v @ regularise_metric(jac.T @ jac, ridge) @ v)


def scalar_curvature(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """Scalar curvature by the Gauss equation, `R = |H|^2 - |II|^2 []`; twice Gauss' K on surfaces."""
    mean = mean_curvature_vector(fun, z, ridge=ridge)
    return jnp.sum(jnp.square(mean)) - curvature_norm_squared(fun, z, ridge=ridge)


def retract(fun: DecoderFn, z: Array, v: Array, *, ridge: float = 0.0) -> Array:
    """Second-order retraction: the exponential map of `v` at `z` up to its third order, `[m]`.

    `z + v - Gamma(v, v) / 2` with `Gamma(v, v) = G^-1 J^T D^2 f(v, v)`, in one jvp of jvp.

    Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, section 5.5.
    """
    jac = jacobian(fun, z)
    metric = regularise_metric(jac.T @ jac, ridge)
    return z + v - 0.5 * metric_solve(metric, jac.T @ second_derivative(fun, z, v, v))


def _basis(z: Array) -> Array:
    return jnp.eye(z.shape[0], dtype=z.dtype)


def _normal_part(jac: Array, w: Array, ridge: float) -> Array:
    """`P w [D]` for an ambient vector."""
    metric = regularise_metric(jac.T @ jac, ridge)
    return w - jac @ metric_solve(metric, jac.T @ w)
