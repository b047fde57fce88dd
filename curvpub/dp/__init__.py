"""Formal privacy: budgets, accounting, DP-SGD, and reference classifiers on raw data.

Needs the extra `dp`. Knows no publisher.
"""

from curvpub.dp.accounting import gaussian_noise, sgd_noise, share_noise, spent_epsilon
from curvpub.dp.classifier import ClippedClassifier, FittedClassifier
from curvpub.dp.descriptors import check_images, descriptor_dim, oriented, smoothing
from curvpub.dp.gradients import add_noise, clip_by_norm, clipped_gradient, clipped_sum, gaussian
from curvpub.dp.guarantee import Budget, DPGuarantee, Mechanisms, public_facts
from curvpub.dp.keys import secret_key
from curvpub.dp.normalise import check_columns, encode, numeric_columns, private_features
from curvpub.dp.sampling import capacity, poisson_batch, reserve, sampling_rate
from curvpub.dp.training import SgdConfig, SgdPlan, draw_batch, noisy_mean, plan_sgd

__all__ = [
    "Budget",
    "ClippedClassifier",
    "DPGuarantee",
    "FittedClassifier",
    "Mechanisms",
    "SgdConfig",
    "SgdPlan",
    "add_noise",
    "capacity",
    "check_columns",
    "check_images",
    "clip_by_norm",
    "clipped_gradient",
    "clipped_sum",
    "descriptor_dim",
    "draw_batch",
    "encode",
    "gaussian",
    "gaussian_noise",
    "noisy_mean",
    "numeric_columns",
    "oriented",
    "plan_sgd",
    "poisson_batch",
    "private_features",
    "public_facts",
    "reserve",
    "sampling_rate",
    "secret_key",
    "sgd_noise",
    "share_noise",
    "smoothing",
    "spent_epsilon",
]
