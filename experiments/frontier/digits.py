"""Every publisher on scikit-learn's digits: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/digits.py         # 32 shadows
    python -m curvpub.frontier --config=experiments/frontier/digits.py:tiny    # a quick look

No network is needed. A killed run goes on with the same command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent
EFFORT = "three strengths about the publisher's default, no other tuning"

PUBLISHERS = {
    "raw": {"kind": "raw", "role": "reference", "effort": "nothing to tune"},
    "noise": {"kind": "noise", "strengths": (0.2, 0.4, 0.8), "effort": EFFORT},
    "ksame": {"kind": "ksame", "strengths": (3, 10, 30), "effort": EFFORT},
    "mixup": {"kind": "mixup", "strengths": (0.5, 2, 8), "effort": EFFORT},
    "smote": {"kind": "smote", "strengths": (2, 10, 50), "effort": EFFORT},
    "reconstruction": {"kind": "reconstruction", "effort": "nothing to tune"},
    "latent_noise": {"kind": "latent_noise", "strengths": (0.4, 0.8, 1.5), "effort": EFFORT},
    "latent_ksame": {"kind": "latent_ksame", "strengths": (3, 10, 30), "effort": EFFORT},
    "geodesic": {"kind": "geodesic", "strengths": (0.5, 1.5, 4), "effort": EFFORT},
    "prior": {"kind": "prior", "strengths": (0.6, 0.8, 1.0), "effort": EFFORT},
}
"""What the method is compared with."""

TUNED = "variants and strengths as in docs/method-log.md, tried on MNIST and digits"
SPREAD = {"publish.label_spread": 0.8}
METHOD = {
    "method": {"kind": "method", "strengths": (0.0, 0.3, 0.6)},
    "method_spread": {"kind": "method", "strengths": (0.0, 0.3, 0.6), "changes": SPREAD},
    "method_copies": {
        "kind": "method",
        "strengths": (1.0, 4.0),
        "sweep": "publish.copies",
        "changes": SPREAD | {"publish.rho": 0.0, "publish.rho_exposed": 0.0},
    },
    "method_smooth": {
        "kind": "method",
        "strengths": (0.0, 0.3, 0.6),
        "changes": SPREAD | {"model.x_sigma": 0.2},
    },
}
"""The method in several settings; rho is its strength, where nothing else is swept."""

ABLATIONS = {
    "pointwise": {
        "kind": "method",
        "strengths": (0.0, 0.3, 0.6),
        "changes": SPREAD | {"lower.scale": 0.05},
        "effort": "strengths of the method",
    },
}
"""The method with curvature at a point (a small scale), a competitor of its own."""


def all_entries():
    """Every publisher that needs no further part of the package."""
    method = {k: {"role": "method", "effort": TUNED} | v for k, v in METHOD.items()}
    return PUBLISHERS | ABLATIONS | method


def get_config(size: str = "full"):
    if size not in ("full", "tiny"):
        raise ValueError(f"size={size!r} must be 'full' or 'tiny'")
    base = runpy.run_path(str(HERE.parent / "digits.py"))["get_config"](size)
    base.audit.update({"shadows": 32 if size == "full" else 8, "calls_at_once": 2})
    config = frontier_dict(base, all_entries(), name="digits", quality_shadows=4, utility_steps=500)
    if size == "tiny":
        config.quality_shadows = 1
        config.utility_steps = 100
    return config
