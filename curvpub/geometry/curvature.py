"""Extrinsic curvature of a decoder's image at one point, exact; `vmap` outside.

`f: R^m -> R^D` is the decoder, `J` its Jacobian, `G = J^T J`, and `P = I - J G^-1 J^T` the
projector on the normal space. All quantities are invariant under reparametrisation of the latent
space and under rigid motions of the ambient space.

Source of the definitions: do Carmo, Riemannian Geometry, chapter 6.

A latent that adds no direction to the image (a dead latent) is left out, so values are those of
the image, of lower dimension, and finite. Near such points they are as unstable as the condition of
the metric says. Functions that divide by the metric take a `ridge`: it adds `ridge * tr(G) / m` to
the diagonal of the metric whose inverse is taken, so that no direction is longer than
`1 / sqrt(ridge * tr(G) / m)` in the latent space. The projector has none, so that `II` stays normal
to the image and flat pieces have no curvature, at the cost of a second factorisation. With a ridge
short directions count for less in traces, by `l / (l + r)` each, and values depend on the chart.

Speed: a decoder that ends in a narrower linear layer is replaced by an isometric one without it
(`_tail`), and traces are carried in one forward pass (`_forward`); both are found by reading the
decoder's operations, and change nothing but rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.geometry._tangent import TangentSpace, precise, tangent_space
from curvpub.geometry.metric import jacobian, metric_frame, metric_solve, regularise_metric
from curvpub.types import Array, DecoderFn

# Directions on each side of one block of second derivatives, with a Gram matrix and without: heads
# are narrow with one, and outputs that are wide without one fit the cache in smaller blocks.
_BLOCKS = (4, 2)


def second_derivative(fun: DecoderFn, z: Array, u: Array, v: Array) -> Array:
    """`D^2 f(z)(u, v) [D]` by jvp of jvp; no Hessian is formed."""
    inner = lambda p: jax.jvp(fun, (p,), (v,))[1]
    return jax.jvp(inner, (z,), (u,))[1]


@precise
def second_fundamental_form_apply(fun: DecoderFn, z: Array, u: Array, v: Array) -> Array:
    """Second fundamental form `II(u, v) = P D^2 f(u, v) [D]` on latent tangents `u, v [m]`."""
    rows = _orthonormal_rows(jacobian(fun, z))
    second = second_derivative(fun, z, u, v)
    return second - (rows @ second) @ rows


@precise
def second_fundamental_form(fun: DecoderFn, z: Array) -> Array:
    """All components `II_ij [D, m, m]` in latent coordinates.

    Holds `D m^2` numbers; for large m use the operator, or `curvature_norm_squared`, which does
    not.
    """
    rows, basis = _orthonormal_rows(jacobian(fun, z)), _basis(z)
    pair = lambda u, v: second_derivative(fun, z, u, v)
    line = jax.vmap(pair, in_axes=(None, 0), out_axes=1)
    second = jax.vmap(line, in_axes=(0, None), out_axes=1)(basis, basis)
    flat = second.reshape(second.shape[0], -1)
    return (flat - rows.T @ (rows @ flat)).reshape(second.shape)


@precise
def mean_curvature_vector(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """Mean curvature vector `H = g^ij II_ij [D]`: the trace, not its mean over m.

    One forward pass with m + 1 tangents. A ridge is in `g^ij` alone.
    """
    space = tangent_space(fun, z, ridge=ridge, derivatives=2 * z.shape[0], keep=True)
    return space.split.lift(_mean_in(space, z))


@precise
def curvature_norm_squared(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """`|II|^2 = g^ik g^jl <II_ij, II_kl> []`, without a `D x m x m` array.

    The `m (m + 1) / 2` second derivatives of an orthonormal frame, a few at a time; each costs one
    tangent in a forward pass whose m first derivatives are known. A ridge is in `g^ik` and `g^jl`
    alone.
    """
    space = tangent_space(fun, z, ridge=ridge, derivatives=_pairs(z), keep=True)
    return _norm_squared_in(space, z)


@precise
def scalar_curvature(fun: DecoderFn, z: Array, *, ridge: float = 0.0) -> Array:
    """Scalar curvature by the Gauss equation, `R = |H|^2 - |II|^2 []`; 2 K on surfaces.

    A ridge is in the inverse metrics of both terms alone.
    """
    space = tangent_space(fun, z, ridge=ridge, derivatives=_pairs(z), keep=True)
    mean = _mean_in(space, z)[None, :]
    return space.inner(mean, mean)[0] - _norm_squared_in(space, z)


@precise
def normal_curvature(fun: DecoderFn, z: Array, v: Array) -> Array:
    """Normal curvature `|II(v, v)| / G(v, v) []` in the direction of `v [m]`.

    Zero, with a zero gradient, for a direction of no length (to rounding: `J v` is nothing but that
    of its m terms).
    """
    jac = jacobian(fun, z)
    rows = _orthonormal_rows(jac)
    second = second_derivative(fun, z, v, v)
    bend = second - (rows @ second) @ rows
    squared = jnp.sum(jnp.square(bend))
    positive = squared > 0  # keeps the gradient finite on flat pieces
    length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
    push = jax.jvp(fun, (z,), (v,))[1]
    scale = jnp.sum(jnp.square(push))
    live = scale > jnp.square(_rounding_of(jac, v))
    return jnp.where(live, length / jnp.where(live, scale, 1.0), 0.0)


@precise
def sectional_curvature(fun: DecoderFn, z: Array, u: Array, v: Array) -> Array:
    """Sectional curvature of the plane of `u, v [m]` by the Gauss equation, `[]`.

    `<II(a, a), II(b, b)> - |II(a, b)|^2` in the orthonormal frame `a, b` that Gram and Schmidt make
    of `u, v`: the quotient by `G(u, u) G(v, v) - G(u, v)^2` would lose all digits, above and below,
    where the two are nearly parallel. NaN where they are parallel to rounding.
    """
    jac = jacobian(fun, z)
    rows = _orthonormal_rows(jac)
    a, b, plane = _orthonormal_pair(fun, z, u, v)
    # The side of the parallelogram at right angles to u is no rounding of v.
    live = jnp.abs(plane[1] @ jax.jvp(fun, (z,), (v,))[1]) > _rounding_of(jac, v)
    pairs = jax.vmap(lambda p, q: second_derivative(fun, z, p, q))
    second = pairs(jnp.stack([a, a, b]), jnp.stack([a, b, b]))
    # Off the plane itself too: a side of it may be too short to have its own part in the rows.
    for tangent in (rows, plane):
        second = second - (second @ tangent.T) @ tangent
    aa, ab, bb = second
    return jnp.where(live, aa @ bb - ab @ ab, jnp.nan)


@precise
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


def _pairs(z: Array) -> int:
    return z.shape[0] * (z.shape[0] + 1) // 2


def _orthonormal_rows(jac: Array) -> Array:
    """Orthonormal tangent vectors, one a row, `[m, D]`, from the Jacobian `[D, m]`."""
    return metric_frame(jac.T @ jac).T @ jac.T


def _orthonormal_pair(fun: DecoderFn, z: Array, u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Latent `a, b [m]` that span the plane of `u, v`, and their orthonormal pushes `[2, D]`."""

    def unit(w: Array) -> tuple[Array, Array]:
        push = jax.jvp(fun, (z,), (w,))[1]
        scale = jax.lax.rsqrt(jnp.sum(jnp.square(push)))
        return scale * w, scale * push

    a, first = unit(u)
    b = v
    for _ in range(2):  # the second time takes out what the first one's rounding left
        b, second = unit(b - (first @ jax.jvp(fun, (z,), (b,))[1]) * a)
    return a, b, jnp.stack([first, second])


def _rounding_of(jac: Array, v: Array) -> Array:
    """Length of `J v` up to which it may be nothing but rounding, `[]`.

    Rounding is no function of the point: no gradient.
    """
    terms = jnp.abs(v) @ jnp.sqrt(jnp.sum(jnp.square(jac), axis=0))
    return jax.lax.stop_gradient(8 * v.shape[0] * jnp.finfo(v.dtype).eps * terms)


def _mean_in(space: TangentSpace, z: Array) -> Array:
    """H as a vector of the head `[k]`."""
    if space.tangents is not None:
        trace = space.tangents.trace(space.frame)
    else:
        along = lambda e: second_derivative(space.split.head, z, e, e)
        add = lambda total, e: (total + along(e), None)
        start = jnp.zeros(space.rows.shape[1], space.rows.dtype)
        trace, _ = jax.lax.scan(add, start, space.frame.T)
    return space.normal(trace[None, :])[0]


def _norm_squared_in(space: TangentSpace, z: Array) -> Array:
    block = _BLOCKS[space.split.gram is None]
    count = -(-z.shape[0] // block)
    directions, pair = _directions_in(space, z)

    def blocks_of(x: Array) -> Array:
        padding = [(0, count * block - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(count, block, *x.shape[1:])

    blocks = jax.tree.map(blocks_of, directions)
    every_pair = jax.vmap(jax.vmap(pair, (None, 0)), (0, None))

    # Residuals of a block are made again in a backward pass: memory stays that of one block.
    @jax.checkpoint
    def add(total: Array, index: tuple[Array, Array]) -> tuple[Array, None]:
        left, right = (jax.tree.map(lambda x, i=i: x[i], blocks) for i in index)
        normal = space.normal(every_pair(left, right).reshape(block * block, -1))
        part = jnp.sum(space.inner(normal, normal))
        return total + jnp.where(index[0] == index[1], part, 2.0 * part), None

    index = jnp.triu_indices(count)
    total, _ = jax.lax.scan(add, jnp.zeros((), space.rows.dtype), index)
    return total


def _directions_in(space: TangentSpace, z: Array) -> tuple[Any, Callable[[Any, Any], Array]]:
    """The frame's directions, `[m, ...]` each leaf, and the second derivative along two of them."""
    tangents = space.tangents
    if tangents is None:
        return space.frame.T, lambda u, v: second_derivative(space.split.head, z, u, v)
    slots, rows = zip(*tangents.turned(space.frame).items(), strict=True)
    named = lambda values: dict(zip(slots, values, strict=True))
    return list(rows), lambda u, v: tangents.second(named(u), named(v))
