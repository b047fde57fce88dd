"""Extrinsic geometry of decoders, one point at a time."""

from curvpub.geometry.curvature import retract
from curvpub.geometry.metric import (
    metric_condition,
    metric_inverse_root_apply,
    pullback_metric,
    regularise_metric,
)
from curvpub.geometry.scale import curvature_at_scale

__all__ = [
    "curvature_at_scale",
    "metric_condition",
    "metric_inverse_root_apply",
    "pullback_metric",
    "regularise_metric",
    "retract",
]
