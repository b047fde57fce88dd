"""The tangent space of a decoder's image at one point, and the projector off it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.geometry._forward import Tangents
from curvpub.geometry._tail import Split, isometric_split
from curvpub.geometry.metric import metric_frame, regularise_metric
from curvpub.types import Array, DecoderFn


def precise(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Full-precision matrix products inside: second derivatives don't survive TF32 or bfloat16."""

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return fun(*args, **kwargs)

    return wrapped


@dataclasses.dataclass(frozen=True, eq=False)
class TangentSpace:
    """What second derivatives at one point are projected with.

    Vectors are those of `split.head [k]`, with the inner product `split.gram`; they are the
    ambient ones where the decoder has no narrow linear end.

    Attributes:
      split: the decoder, taken apart.
      tangents: of every operation of the decoder; None where it could not be read.
      frame: `E [m, m]`, `E E^T` the inverse of the regularised `G`.
      rows: tangent vectors, one a row, orthonormal up to rounding, whatever the ridge, `[m, k]`.
      lowered: the same times the Gram matrix `[m, k]`.
      correction: inverse of the inner products of `rows`, near the identity, `[m, m]`.
    """

    split: Split
    tangents: Tangents | None
    frame: Array
    rows: Array
    lowered: Array
    correction: Array

    def normal(self, w: Array) -> Array:
        """Normal parts of the rows of `w [n, k]`."""
        return w - (w @ self.lowered.T @ self.correction) @ self.rows

    def inner(self, a: Array, b: Array) -> Array:
        """Inner products of the rows of `a` and `b [n, k]`: `[n]`."""
        lowered = b if self.split.gram is None else b @ self.split.gram
        return jnp.sum(a * lowered, axis=-1)


def tangent_space(
    fun: DecoderFn, z: Array, *, ridge: float, derivatives: int, keep: bool = False
) -> TangentSpace:
    """Tangent space at `z [m]`.

    The projector never has the ridge: `I - J (G + r I)^-1 J^T` would leave `r / (l + r)` of what is
    tangential, along an eigenvector of G with eigenvalue l, and traces multiply that by up to
    `1 / (l + r)`. So a ridge costs a second factorisation: two Cholesky passes in `m x m`, and one
    product with the Jacobian.

    Args:
      fun: decoder.
      z: point `[m]`.
      ridge: regularisation of the metric that `frame` inverts.
      derivatives: vectors that will be asked for; decides whether a Gram matrix pays.
      keep: keep the tangents of inner layers, for traces.
    """
    split = isometric_split(fun, z, derivatives=derivatives)
    tangents = Tangents(split.program, split.cut, z) if keep and split.program else None
    jac = tangents.jacobian() if tangents else jax.jacfwd(split.head)(z).T
    plain = _gram_lower(split, jac) @ jac.T
    frame, rows, lowered, second = _factor(split, jac, plain, plain)
    correction = second @ second.T
    if has_ridge(ridge):
        frame, _, _, second = _factor(split, jac, plain, regularise_metric(plain, ridge))
    return TangentSpace(
        split=split,
        tangents=tangents,
        frame=frame @ second,
        rows=rows,
        lowered=lowered,
        correction=correction,
    )


def has_ridge(ridge: Any) -> bool:
    """False for a zero that is known while tracing, which costs nothing."""
    return not (isinstance(ridge, int | float) and ridge == 0)


def _factor(
    split: Split, jac: Array, plain: Array, metric: Array
) -> tuple[Array, Array, Array, Array]:
    """First frame of `metric`, its tangent vectors, these lowered, and the frame within it.

    Once more in the frame found: Cholesky on the Gram matrix squares the condition, and a second
    pass restores orthogonality to rounding (Yamamoto et al., 2015, "CholeskyQR2").
    """
    frame = metric_frame(metric)
    rows = frame.T @ jac
    lowered = _gram_lower(split, rows)
    again = lowered @ rows.T + frame.T @ (metric - plain) @ frame
    return frame, rows, lowered, metric_frame(0.5 * (again + again.T))


def _gram_lower(split: Split, rows: Array) -> Array:
    return rows if split.gram is None else rows @ split.gram
