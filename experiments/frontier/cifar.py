"""Publishers on CIFAR-10: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/cifar.py         # one GPU
    python -m curvpub.frontier --config=experiments/frontier/cifar.py:small   # two CPU cores, hours
    python -m curvpub.frontier --config=experiments/frontier/cifar.py:tiny    # does it run?

A pool of 6,000 records, 32 shadows, convolutional classifiers; the method, the strongest
competitors of `digits.py`, and classifiers trained on the raw data. `small` has the pool and the
models of `experiments/cifar.py:small`, which are multilayer perceptrons, 16 shadows, and fewer
strengths. Needs the prepared data set in `TFDS_DATA_DIR`. A killed run goes on with the same
command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent
ON_RAW = ("clipped", "dp_sgd", "dp_sgd_linear")
STRENGTHS = {
    "deformed": (0.6, 0.9, 1.4), "method": (0.3, 0.6, 0.9), "method_trained": (0.6,),
    "method_trained_near": (0.3,),
}  # fmt: skip
"""Fewer than elsewhere: each deformation is an attack of its own to compile."""
ON_TWO_CORES = {
    "raw": (0.0,), "ksame": (10,), "mixup": (16,), "latent_noise": (1.0,), "prior": (1.0,),
    "prior_few": (0.25, 0.5), "deformed": (1.4,), "method": (0.6, 0.9), "clipped": (30, 100, 300),
    "dp_sgd": (3, 10), "dp_sgd_linear": (3, 10),
}  # fmt: skip
"""A shadow of an entry takes one to four minutes on a core."""


def get_config(size: str = "full"):
    if size not in ("full", "small", "tiny"):
        raise ValueError(f"size={size!r} must be 'full', 'small' or 'tiny'")
    base = runpy.run_path(str(HERE.parent / "cifar.py"))["get_config"]("small")
    base.audit.update({"shadows": 32, "calls_at_once": 2})
    base.lower.left_out = 0.0  # competitors publish from generators that saw all records
    digits = runpy.run_path(str(HERE / "digits.py"))
    base.audit.update(digits["FEWER_ATTACKS"])
    if size == "small":
        base.audit.shadows = 16
    else:
        base.data.pool_size = 6_000
        base.audit.update({"classifier": "conv", "shadows_per_call": 8})
        # By the accuracy of a model on one release, of some ten settings: docs/method-log.md.
        base.model.update({"latent_dim": 32, "hidden": (1024, 1024)})
        base.train.steps = 3_000
    sized = digits["sized_entries"]
    formal = sized("formal", 128 if size == "tiny" else 1024)
    entries = sized("small") | {name: formal[name] for name in ON_RAW}
    if size == "small":
        entries = {k: entries[k] | {"strengths": v} for k, v in ON_TWO_CORES.items()}
        # It publishes from the competitors' generators: others would take as long as an attack.
        entries["method"]["changes"] = entries["method"]["changes"] | {"lower.left_out": 0.0}
    else:
        entries = {k: v | {"strengths": STRENGTHS.get(k, v.get("strengths", (0.0,)))}
                   for k, v in entries.items()}  # fmt: skip
    config = frontier_dict(
        base, entries, name="cifar10" if size == "full" else f"cifar10-{size}",
        quality_records=2000, utility_steps=500, utility_models=("linear", "conv"),
    )  # fmt: skip
    if size == "tiny":
        config.base.data.update({"pool_size": 600, "test_size": 200})
        config.base.model.hidden = (16,)
        config.base.train.steps = 20
        config.base.audit.update({"shadows": 8, "shadows_per_call": 4, "fpr": 0.05})
        config.base.audit.update({"steps": 20, "adaptive_steps": 20, "channels": 4})
        config.update({"quality_shadows": 1, "utility_steps": 20})
    return config
