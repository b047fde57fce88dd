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
      metric: regularised `G [m, m]`.
      frame: `E [m, m]`, `E E^T = G^-1`.
      rows: tangent vectors, one a row, orthonormal up to rounding, `[m, k]`.
      lowered: the same times the Gram matrix `[m, k]`.
      correction: inverse of the inner products of `rows`, near the identity, `[m, m]`.
    """

    split: Split
    tangents: Tangents | None
    metric: Array
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

    Args:
      fun: decoder.
      z: point `[m]`.
      ridge: regularisation of the metric.
      derivatives: vectors that will be asked for; decides whether a Gram matrix pays.
      keep: keep the tangents of inner layers, for traces.
    """
    split = isometric_split(fun, z, derivatives=derivatives)
    tangents = Tangents(split.program, split.cut, z) if keep and split.program else None
    jac = tangents.jacobian() if tangents else jax.jacfwd(split.head)(z).T
    plain = _gram_lower(split, jac) @ jac.T
    metric = regularise_metric(plain, ridge)
    frame = metric_frame(metric)
    # Once more in the frame found: Cholesky on the Gram matrix squares the condition, and a second
    # pass restores orthogonality to rounding (Yamamoto et al., 2015, "CholeskyQR2").
    rows = frame.T @ jac
    lowered = _gram_lower(split, rows)
    again = lowered @ rows.T + frame.T @ (metric - plain) @ frame
    second = metric_frame(0.5 * (again + again.T))
    return TangentSpace(
        split=split,
        tangents=tangents,
        metric=metric,
        frame=frame @ second,
        rows=rows,
        lowered=lowered,
        correction=second @ second.T,
    )


def _gram_lower(split: Split, rows: Array) -> Array:
    return rows if split.gram is None else rows @ split.gram
