"""Every publisher on MNIST: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/mnist.py
    python -m curvpub.frontier --config=experiments/frontier/mnist.py:small  # two CPU cores
    python -m curvpub.frontier --config=experiments/frontier/mnist.py:formal
    python -m curvpub.frontier --config=experiments/frontier/mnist.py:all    # all, on a GPU

A pool of 4,000 records, 32 shadows, models and training as in
`experiments/mnist.py:small`, and the publishers and strengths of `digits.py`; `formal` has those
with an epsilon, and `small` the strongest of them and fewer attacks. Needs the
prepared data set in `TFDS_DATA_DIR`. A killed run goes on with the same command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent


def get_config(size: str = "full", name: str = "mnist"):
    if size not in ("full", "small", "formal", "all"):
        raise ValueError(f"size={size!r} must be 'full', 'small', 'formal' or 'all'")
    base = runpy.run_path(str(HERE.parent / f"{name}.py"))["get_config"]("small")
    base.audit.update({"shadows": 32, "calls_at_once": 2})
    base.lower.left_out = 0.0  # competitors publish from generators that saw all records
    digits = runpy.run_path(str(HERE / "digits.py"))
    entries = digits["sized_entries"](size, 1024, edge=28)
    called = f"{name}-{size}" if size in ("formal", "all") else name
    config = frontier_dict(base, entries, name=called, quality_shadows=2, utility_steps=500)
    if size == "all":
        config.base.audit.shadows_per_call = 32
        config.utility_models = ("linear", "mlp", "conv")
    if size == "small":
        config.base.audit.update(digits["FEWER_ATTACKS"])
        # A release took minutes: boosting, and the Vendi score of 5,000 records.
        config.update(
            {"quality_shadows": 4, "quality_records": 2000, "utility_models": ("linear",)}
        )
    return config
