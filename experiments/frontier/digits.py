"""Every publisher on scikit-learn's digits: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/digits.py         # 32 shadows
    python -m curvpub.frontier --config=experiments/frontier/digits.py:formal  # with an epsilon
    python -m curvpub.frontier --config=experiments/frontier/digits.py:all     # both, on a GPU
    python -m curvpub.frontier --config=experiments/frontier/digits.py:tiny    # a quick look

No network is needed. A killed run goes on with the same command.
"""

import pathlib
import runpy
from typing import Any

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent
EFFORT = "strengths: a grid around the publisher's default, no other tuning"
SAMPLED = "settings of prior sampling that were tried on digits: docs/method-log.md"

ONCE = {"publish.copies": 1.0}
"""As many records as there are members: by mixing others publish no more."""

PUBLISHERS = {
    "raw": {"kind": "raw", "role": "reference", "effort": "nothing to tune"},
    "noise": {"kind": "noise", "strengths": (0.2, 0.4, 0.5, 0.6, 0.8), "effort": EFFORT},
    "ksame": {"kind": "ksame", "strengths": (2, 5, 10), "effort": EFFORT},
    "mixup": {"kind": "mixup", "strengths": (1, 16), "changes": ONCE, "effort": EFFORT},
    "smote": {"kind": "smote", "strengths": (2, 50), "changes": ONCE, "effort": EFFORT},
    "reconstruction": {"kind": "reconstruction", "effort": "nothing to tune"},
    "latent_noise": {"kind": "latent_noise", "strengths": (0.3, 0.6, 1.0), "effort": EFFORT},
    "latent_ksame": {"kind": "latent_ksame", "strengths": (5,), "effort": EFFORT},
    "geodesic": {"kind": "geodesic", "strengths": (1, 4), "effort": EFFORT},
    "prior": {"kind": "prior", "strengths": (0.8, 1.0), "effort": EFFORT},
    "prior_few": {
        "kind": "prior", "strengths": (0.25, 0.5, 1.0), "sweep": "publish.copies",
        "at": 1.0,
        "effort": SAMPLED,
    },
    "prior_blurred": {
        "kind": "prior", "strengths": (1.0,), "changes": {"model.x_sigma": 0.3}, "effort": SAMPLED,
    },
    "prior_narrow": {
        "kind": "prior", "strengths": (1.0,), "changes": {"model.hidden": (64, 64)},
        "effort": SAMPLED,
    },
}  # fmt: skip
"""What the method is compared with."""

TUNED = "variants as in docs/method-log.md, tried on digits and MNIST with the same shadows' design"


def deformed(strength: float, **more: Any) -> dict[str, Any]:
    """Settings that deform by so much."""
    return {"publish.warp": 0.8 * strength, "publish.elastic": strength} | more


DEFORMATION = {
    "sweep": "publish.elastic, publish.warp * 0.8", "strengths": (0.6, 0.9, 1.1, 1.4),
}  # fmt: skip
DEFORMED = {
    "deformed": {"kind": "deformed"} | DEFORMATION,
    "deformed_few": {"kind": "deformed", "changes": ONCE} | DEFORMATION | {"strengths": (0.6, 1.1)},
    "deformed_mixup": {"kind": "deformed_mixup", "at": 16.0} | DEFORMATION,
}  # fmt: skip
"""The method's deformations of records and of mixtures of two: what do they do by themselves?"""

NO_CURVATURE = {
    "lower.batch_fraction": 0.0, "lower.left_out": 0.0, "publish.oversample": 1,
    "publish.label_spread": 0.0, "publish.drift_steps": 0, "publish.rho_exposed": 0.5,
}  # fmt: skip
"""Exposed records keep as much of their codes as others: `rho_exposed` is the base's `rho`."""

TRIED = "training: tried at epsilon 10 on one set of members of digits and of MNIST"
UNTUNED = "one setting, chosen by hand"
BY_HAND = "some twenty settings, by records of MNIST outside the pool: benchmarks/formal.py"
EPSILONS = (1.0, 3.0, 10.0)
GUIDED = {"publish.oversample": 2, "publish.drift_steps": 2, "publish.label_spread": 0.6}
UNGUIDED = {"publish.oversample": 1, "publish.drift_steps": 0, "publish.label_spread": 0.0}
SELECTED, PLAIN = {"publish.oversample": 2}, {"publish.oversample": 1}
# DP-MERF's samples have no parents to move, and no labels to ask a neighbourhood for.
PRIVATE = {
    "model.hidden": (64,), "model.disc_hidden": (64,), "model.kl_weight": 1.0,
    "model.x_sigma": 0.4, "model.label_weight": 10.0, "train.steps": 400,
    "train.learning_rate": 2e-2,
}  # fmt: skip
"""Training with noise: few weights, for noise's length grows with their number; large batches; and
a label that pixels do not drown when gradients are cut. A dozen settings were tried at epsilon 10,
on one set of members each of digits (674) and MNIST (2,000), by the accuracy of models on the
release: rates of 5e-3 to 4e-2, 100 to 800 steps, widths of 32 to 256. Results are about members of
the same data sets, and no epsilon counts such a choice.

Delta is 1e-5 throughout. The number of records n is public: a neighbour lacks one record, which
then contributes nothing, and n stays as it is (`dp.Budget.public_count` of 0).
"""


LINEAR = {"kind": "mlp", "hidden": (), "steps": 40, "learning_rate": 4.0, "momentum": 0.0}
"""Of a linear classifier by DP-SGD, which loses less to noise than a wide one: of a dozen settings
the one that was best over all epsilons, on records of MNIST outside the pool of the first seed
(`benchmarks/dp_classifier.py`)."""


ORIENTED = {
    "kind": "mlp", "hidden": (), "inputs": "oriented", "averaged": True, "steps": 80,
    "learning_rate": 15.0, "momentum": 0.0,
}  # fmt: skip
"""Of a linear classifier of histograms of oriented gradients, chosen like that."""

TAUGHT = {
    "share": 0.5, "oriented": 0.2, "steps": 600, "vote": 1.0,
    "teacher_hidden": (), "teacher_steps": 60, "teacher_learning_rate": 15.0,
    "teacher_momentum": 0.0,
}  # fmt: skip
"""Half of the budget for the generator, which draws smoothly and is asked for strokes too, half for
a linear classifier of oriented gradients, which labels what is published: chosen on records of
MNIST outside the pool of the first seed (`benchmarks/formal.py`)."""


def formal_publishers(batch_size: int, edge: int = 8) -> dict[str, dict[str, Any]]:
    """With an epsilon, their strength, or trained on the raw data; they need the extra `dp`.

    `formal`, `formal_unguided` and `dp_vae` publish from one trained generator: the first two
    differ by curvature's guidance alone, and the last has no deformation either. So do the two of
    `formal_merf` and `dp_merf` itself. `formal_taught` is no longer guided by curvature; it has a
    smoother generator and a teacher, which `dp_sgd_oriented` is by itself, with all of the budget.

    Args:
      batch_size: expected number of records in a batch, half of the members or more.
      edge: of the images, in pixels; a twenty-eighth of it is what generators are smoothed by.
    """
    private = PRIVATE | {"train.batch_size": batch_size}
    sgd = {"steps": 100, "batch_size": batch_size, "learning_rate": 1.0}
    entries = {
        "formal": {"kind": "formal", "changes": deformed(0.6, **GUIDED, **private)},
        "formal_unguided": {"kind": "formal", "changes": deformed(0.6, **UNGUIDED, **private)},
        "dp_vae": {"kind": "dp_vae", "changes": private},
        "dp_vaegan": {"kind": "dp_vaegan", "changes": private},
        "dp_merf": {"kind": "dp_merf"},
        "formal_merf": {"kind": "formal_merf", "changes": deformed(0.6, **SELECTED)},
        "formal_merf_unguided": {"kind": "formal_merf", "changes": deformed(0.6, **PLAIN)},
        "dp_sgd": {"kind": "dp_sgd", "options": sgd, "effort": UNTUNED},
        "dp_sgd_linear": {
            "kind": "dp_sgd", "options": sgd | LINEAR, "effort": "benchmarks/dp_classifier.py",
        },
        "dp_sgd_oriented": {
            "kind": "dp_sgd", "options": sgd | ORIENTED, "effort": "benchmarks/dp_classifier.py",
        },
        "formal_taught": {
            "kind": "formal_merf", "changes": deformed(0.6, **PLAIN),
            "options": TAUGHT | {"teacher_batch_size": batch_size, "smooth": edge / 28},
            "effort": BY_HAND,
        },
    }  # fmt: skip
    entries = {k: {"strengths": EPSILONS, "effort": TRIED} | v for k, v in entries.items()}
    method = ("formal", "formal_unguided", "formal_merf", "formal_merf_unguided", "formal_taught")
    for name in method:
        entries[name]["role"] = "method"
    clipped = {"kind": "clipped", "strengths": (30, 100, 300), "effort": EFFORT}
    return entries | {"clipped": clipped}


RHO = {"kind": "method", "strengths": (0.0, 0.5)}
LEFT_OUT = {"lower.left_out": 0.1}
TRAINED = {"train.warp": 0.16, "train.elastic": 0.2}
ALL, SELECT = ({"publish.oversample": n} | LEFT_OUT for n in (1, 2))
KEPT = {"publish.oversample": 1, "lower.left_out": 0.0}
METHOD = {
    "method": {"kind": "method", "at": 0.5, "changes": ALL}
    | DEFORMATION | {"strengths": (0.3, 0.6, 0.9, 1.4)},
    "method_near": {"kind": "method", "at": 0.9, "changes": ALL}
    | DEFORMATION | {"strengths": (0.15, 0.3)},
    "method_far": {"kind": "method", "at": 0.0, "changes": ALL}
    | DEFORMATION | {"strengths": (0.6,)},
    "method_trained": {"kind": "method", "at": 0.5, "changes": ALL | TRAINED}
    | DEFORMATION | {"strengths": (0.6, 0.9)},
    "method_trained_near": {"kind": "method", "at": 0.9, "changes": ALL | TRAINED}
    | DEFORMATION | {"strengths": (0.3, 0.6)},
    "method_kept": {"kind": "method", "at": 0.5, "changes": KEPT}
    | DEFORMATION | {"strengths": (0.6, 0.9)},
    "method_kept_near": {"kind": "method", "at": 0.9, "changes": KEPT}
    | DEFORMATION | {"strengths": (0.3,)},
}  # fmt: skip
"""The method. Its entries differ by rho, the share of a parent's code that is kept: half of it, as
by default, most of it, or none (of the least exposed record; of the most exposed one three fifths
of that); their strength is the deformation. Generators of `..._trained` have
trained on images deformed a third as much as a release by default. A tenth of the records is left
out, but by `..._kept`: that protects who sticks out, and costs accuracy."""

AT = RHO | {"strengths": (0.5,)}
POINTWISE = {"publish.selection": "pointwise"}
PARTS = {
    "no_curvature": {"kind": "method", "at": 0.4, "changes": NO_CURVATURE}
    | DEFORMATION
    | {"strengths": (0.3, 0.6, 0.9, 1.4)},
    "no_curvature_near": {"kind": "method", "at": 0.72, "changes": NO_CURVATURE}
    | DEFORMATION
    | {"strengths": (0.15, 0.3)},
    "no_deformation": AT | {"changes": deformed(0.0, **ALL)},
    "select": AT | {"changes": deformed(0.6, **SELECT)},
    "select_pointwise": AT | {"changes": deformed(0.6, **SELECT, **POINTWISE)},
}
"""The method without its parts, or with selection by curvature: shown, and no competitors, but
compared with the method in a table of their own. Without curvature it is a generator, plain noise
in its codes, and deformations; all codes are kept by the share that the method keeps on average.
By pointwise curvature draws are selected; all else is the same."""

FEW = {"strengths": (0.5, 1.0), "sweep": "publish.copies", "at": 0.0}  # nothing of a parent's code
METHOD_ON_TABLES = {
    "method": RHO | {"strengths": (0.0, 0.3, 0.5, 0.7)},
    "method_spread": RHO | {"strengths": (0.0, 0.5), "changes": {"publish.label_spread": 0.6}},
    "method_left_out": RHO | {"changes": LEFT_OUT},
    "method_narrow": RHO | {
        "strengths": (0.5,), "changes": {"publish.label_spread": 0.6, "model.hidden": (64, 64)},
    },
    "method_blurred": RHO | {
        "strengths": (0.5,), "changes": {"publish.label_spread": 0.6, "model.x_sigma": 0.6},
    },
    "method_few": RHO | FEW | {"changes": {"publish.label_spread": 0.6}},
}  # fmt: skip
PARTS_ON_TABLES = {
    "no_curvature": RHO | {"strengths": (0.0, 0.4), "changes": NO_CURVATURE},
    "no_curvature_few": RHO | FEW | {"changes": NO_CURVATURE},
    "pointwise": RHO | {"changes": POINTWISE},
}
"""There is nothing to deform in a table."""


FEW_ON_TABLES = {
    "mixup": {
        "kind": "mixup", "strengths": (1, 4, 16), "changes": ONCE, "effort": EFFORT,
    },
    "mixup_few": {
        "kind": "mixup", "strengths": (0.25, 0.5), "sweep": "publish.copies", "at": 16.0,
        "effort": EFFORT,
    },
    # 0.3, which is another entry's difference on images, is the base's on tables.
    "prior_blurred": PUBLISHERS["prior_blurred"] | {"changes": {"model.x_sigma": 0.6}},
}  # fmt: skip
"""Where mixtures are no worse than others: fewer of them, and more strengths."""


def all_entries(kind: str = "image"):
    """Every entry without an epsilon, for images or tables."""
    others, method, parts = PUBLISHERS, METHOD_ON_TABLES, PARTS_ON_TABLES
    if kind == "image":
        others = others | {k: v | {"effort": EFFORT} for k, v in DEFORMED.items()}
        method, parts = METHOD, PARTS
    else:
        others = others | FEW_ON_TABLES
    shown = {k: v | {"role": "method", "effort": TUNED} for k, v in method.items()}
    shown |= {k: v | {"role": "reference", "effort": TUNED} for k, v in parts.items()}
    return others | shown


FEWER_ATTACKS = {"attackers": (), "flow_steps": 0, "registered": 4}
"""Section `audit` without the attacks that take long and were not the strongest on digits."""

STRONGEST = {
    "raw": (), "noise": (0.5, 0.8), "ksame": (2, 10), "mixup": (16,), "smote": (50,),
    "latent_noise": (0.6, 1.0), "prior": (1.0,), "prior_few": (0.25, 0.5), "prior_narrow": (),
    "prior_blurred": (), "deformed": (), "deformed_few": (), "deformed_mixup": (0.6, 0.9),
    "no_curvature": (0.6, 0.9),
}  # fmt: skip
"""What stands against the method where a shadow takes seconds: what was not beaten by others on
digits or on MNIST (but geodesic steps, which latent noise is close to), the raw data, and the
method without curvature. No strengths: all of them."""


def sized_entries(size: str, batch_size: int = 512, edge: int = 8):
    """Entries of images by the size of a frontier.

    Args:
      size: `full` has those without an epsilon, `all` those with one too, `formal` these beside the
        raw data and the method, `small` the method and what was strongest against it on digits.
      batch_size: expected number of records in a batch where there is an epsilon.
      edge: of the images, in pixels.
    """
    entries = all_entries()
    if size == "formal":
        return formal_publishers(batch_size, edge) | {k: entries[k] for k in ("raw", *METHOD)}
    if size == "small":
        few = {k: entries[k] | ({"strengths": v} if v else {}) for k, v in STRONGEST.items()}
        return few | {k: entries[k] for k in METHOD if k != "method_far"}
    return entries | formal_publishers(batch_size, edge) if size == "all" else entries


def get_config(size: str = "full"):
    if size not in ("full", "formal", "all", "tiny"):
        raise ValueError(f"size={size!r} must be 'full', 'formal', 'all' or 'tiny'")
    run = runpy.run_path(str(HERE.parent / "digits.py"))["get_config"]
    base = run("tiny" if size == "tiny" else "full")
    # What entries don't change; the method's change all of it but the label's neighbourhood.
    base.publish.update({"oversample": 2, "warp": 0.5, "elastic": 0.6})
    base.lower.left_out = 0.0  # competitors publish from generators that saw all records
    base.audit.update({"shadows": 8 if size == "tiny" else 32, "calls_at_once": 2})
    config = frontier_dict(
        base, sized_entries(size), name="digits" if size == "full" else f"digits-{size}",
        quality_shadows=4, utility_steps=500,
    )  # fmt: skip
    if size == "tiny":
        config.quality_shadows = 1
        config.utility_steps = 100
    return config
