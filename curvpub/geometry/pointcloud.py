"""Curvature of a point cloud on an unknown manifold: no decoder is needed.

Two estimators on the k nearest neighbours of every point, both in blocks of points, so that memory
is linear in their number. Their errors fall with the square of the neighbourhood's radius on
regular samples and grow with noise across the manifold; on random samples the spread of the
neighbours adds a random error.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub.geometry._tangent import precise
from curvpub.geometry.metric import metric_frame, metric_solve
from curvpub.types import Array


class QuadricFit(NamedTuple):
    """Curvature of the local quadrics."""

    mean_curvature: Array  # [n, D] mean curvature vector, the trace
    norm_squared: Array  # [n] |II|^2
    residual: Array  # [n] root mean square distance of the neighbours from the quadric


@precise
def nearest_neighbours(points: Array, *, num_neighbours: int, block: int = 256) -> Array:
    """Indices of the nearest other points, `[n, k]` int32, nearest first.

    Args:
      points: `[n, D]`.
      num_neighbours: k, at least 1 and below n.
      block: points whose `[block, n]` distances are held at once.

    Raises:
      ValueError: an argument is out of range.
    """
    _check(points, num_neighbours, 1, block)
    n = points.shape[0]
    centred = points - jnp.mean(points, axis=0)[None, :]  # distances lose fewer digits
    squares = jnp.sum(jnp.square(centred), axis=1)

    def of_point(i: Array) -> Array:
        distance = squares - 2.0 * (centred @ centred[i])
        distance = jnp.where(jnp.arange(n) == i, jnp.inf, distance)
        return jax.lax.top_k(-distance, num_neighbours)[1]

    return jax.lax.map(of_point, jnp.arange(n), batch_size=min(block, n)).astype(jnp.int32)


@precise
def pointcloud_mean_curvature(
    points: Array, *, dim: int, num_neighbours: int, block: int = 256
) -> Array:
    """Mean curvature vector `H = Laplacian of the coordinates [n, D]` (the trace).

    With weights `w_j = k(|x_j - x|) / q(x_j)`, k a triweight kernel that ends at the last
    neighbour and q the kernel density, which takes the sampling density out (Coifman and Lafon,
    Diffusion maps, 2006),

        H(x) = 2 dim sum_j w_j (x_j - x) / sum_j w_j |x_j - x|^2.

    The denominator measures the second moment of the neighbourhood, cut-off included, so that no
    bandwidth enters.

    Args:
      points: `[n, D]` on a manifold without boundary (points near one feel it).
      dim: dimension of the manifold.
      num_neighbours: k, below n and above `2 dim`: the last neighbour has no weight, nor has what
        is as far as it, such as the `2 dim` nearest points of a regular grid.
      block: points worked on at once.

    Returns:
      `[n, D]`, differentiable in the points while neighbours stay the same; NaN for a point all of
      whose neighbours are equally far from it, or coincide with it.

    Raises:
      ValueError: an argument is out of range.
    """
    _check(points, num_neighbours, dim, block)
    if num_neighbours <= 2 * dim:
        raise ValueError(
            f"num_neighbours={num_neighbours!r} must be above 2 dim = {2 * dim} for dim={dim!r}"
        )
    indices = nearest_neighbours(points, num_neighbours=num_neighbours, block=block)
    batch = min(block, points.shape[0])

    def offsets(i: Array) -> tuple[Array, Array, Array]:
        step = points[indices[i]] - points[i][None, :]
        squared = jnp.sum(jnp.square(step), axis=1)
        # Triweight: smooth to zero at the last neighbour, so that no point enters with a jump.
        return step, squared, (1.0 - squared / jnp.max(squared)) ** 3

    def density(i: Array) -> Array:
        _, squared, kernel = offsets(i)
        return (1.0 + jnp.sum(kernel)) / jnp.max(squared) ** (dim / 2)

    every = jnp.arange(points.shape[0])
    q = jax.lax.map(density, every, batch_size=batch)

    def curvature(i: Array) -> Array:
        step, squared, kernel = offsets(i)
        weight = kernel / q[indices[i]]
        h = 2.0 * dim * (weight @ step) / (weight @ squared)
        # Where all distances tie, weights are roundings (cubed) and h would be anything.
        return jnp.where(jnp.max(kernel) > jnp.finfo(kernel.dtype).eps, h, jnp.nan)

    return jax.lax.map(curvature, every, batch_size=batch)


@precise
def pointcloud_curvature(
    points: Array, *, dim: int, num_neighbours: int, block: int = 256
) -> QuadricFit:
    """Curvature of the quadric fitted by least squares to the neighbours of every point.

    Tangent coordinates t are the first principal components of the neighbours, held fixed under
    differentiation. All ambient coordinates are regressed on `(1, t, t t^T)`, and the curvature of
    that polynomial map is taken at the point itself.

    Args:
      points: `[n, D]`.
      dim: dimension of the manifold, below D.
      num_neighbours: k, at least `dim (dim + 3) / 2`, the number of coefficients beside the
        constant; twice that or more averages noise out.
      block: points worked on at once; each holds `k x (k + D)` numbers.

    Raises:
      ValueError: an argument is out of range.
    """
    _check(points, num_neighbours, dim, block)
    terms = dim * (dim + 3) // 2
    if num_neighbours < terms:
        raise ValueError(
            f"num_neighbours={num_neighbours!r} must be at least {terms} for dim={dim!r}"
        )
    indices = nearest_neighbours(points, num_neighbours=num_neighbours, block=block)
    fit = lambda i: _fit(points[indices[i]] - points[i][None, :], dim)
    every = jnp.arange(points.shape[0])
    return jax.lax.map(fit, every, batch_size=min(block, points.shape[0]))


def _fit(steps: Array, dim: int) -> QuadricFit:
    """Curvature at the origin of the quadric through `steps [k, D]`."""
    radius = jnp.sqrt(jnp.max(jnp.sum(jnp.square(steps), axis=1)))
    x = jnp.concatenate([jnp.zeros((1, steps.shape[1]), steps.dtype), steps / radius])
    mean = jnp.mean(x, axis=0)[None, :]
    t = _principal_coordinates(x - mean, dim)
    t = t - t[:1]  # the point itself at the origin of the chart
    i, j = jnp.triu_indices(dim)
    half = jnp.where(i == j, 0.5, 1.0).astype(x.dtype)
    design = jnp.concatenate(
        [jnp.ones_like(t[:, :1]), t, t[:, i] * t[:, j] * half[None, :]], axis=1
    )
    # Normal equations, once more on the residual: the condition of the design is moderate.
    gram = design.T @ design
    coefficients = metric_solve(gram, design.T @ x)
    coefficients = coefficients + metric_solve(gram, design.T @ (x - design @ coefficients))
    off = x - design @ coefficients
    jac, second = coefficients[1 : 1 + dim], coefficients[1 + dim :]  # rows in R^D
    frame = metric_frame(jac @ jac.T)
    rows = frame.T @ jac
    normal = second - (second @ rows.T) @ rows
    form = jnp.zeros((dim, dim, x.shape[1]), x.dtype).at[i, j].set(normal).at[j, i].set(normal)
    form = jnp.einsum("ia,jb,ijd->abd", frame, frame, form)
    return QuadricFit(
        mean_curvature=jnp.einsum("aad->d", form) / radius,
        norm_squared=jnp.sum(jnp.square(form)) / radius**2,
        residual=radius * jnp.sqrt(jnp.mean(jnp.sum(jnp.square(off), axis=1))),
    )


def _principal_coordinates(x: Array, dim: int) -> Array:
    """Coordinates `[k, dim]` of centred rows on their first principal components, by iteration.

    Variance across a manifold is of the order of the radius squared of that along it, so a few
    steps of subspace iteration give the tangent space; curvature does not depend on the chart, and
    derivatives hold it fixed.
    """
    start = jax.random.normal(jax.random.key(0), (x.shape[1], dim), x.dtype)

    def step(basis: Array, _: None) -> tuple[Array, None]:
        image = x.T @ (x @ basis)
        return image @ metric_frame(image.T @ image), None

    basis, _ = jax.lax.scan(step, start, None, length=8)
    return x @ jax.lax.stop_gradient(basis)


def _check(points: Array, num_neighbours: int, dim: int, block: int) -> None:
    if points.ndim != 2 or not jnp.issubdtype(points.dtype, jnp.floating):
        raise ValueError(f"points must be floats [n, D], got {points.dtype}{list(points.shape)}")
    n, ambient = points.shape
    if not 1 <= num_neighbours < n:
        raise ValueError(f"num_neighbours={num_neighbours!r} must be from 1 to n - 1 = {n - 1}")
    if not 1 <= dim <= ambient:
        raise ValueError(f"dim={dim!r} must be from 1 to D = {ambient}")
    if block < 1:
        raise ValueError(f"block={block!r} must be positive")
