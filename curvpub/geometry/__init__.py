"""Extrinsic geometry of decoders: pure functions of one point; `vmap` outside.

Imports jax alone, so that other projects can take it without the rest.
"""

from curvpub.geometry.curvature import (
    curvature_norm_squared,
    mean_curvature_vector,
    normal_curvature,
    retract,
    scalar_curvature,
    second_derivative,
    second_fundamental_form,
    second_fundamental_form_apply,
)
from curvpub.geometry.metric import (
    jacobian,
    metric_condition,
    metric_eigenvalues,
    metric_inverse_root_apply,
    metric_root,
    metric_solve,
    pullback_metric,
    regularise_metric,
    volume_element,
)
from curvpub.geometry.scale import curvature_at_scale

__all__ = [
    "curvature_at_scale",
    "curvature_norm_squared",
    "jacobian",
    "mean_curvature_vector",
    "metric_condition",
    "metric_eigenvalues",
    "metric_inverse_root_apply",
    "metric_root",
    "metric_solve",
    "normal_curvature",
    "pullback_metric",
    "regularise_metric",
    "retract",
    "scalar_curvature",
    "second_derivative",
    "second_fundamental_form",
    "second_fundamental_form_apply",
    "volume_element",
]
