"""Every publisher on Fashion-MNIST: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py
    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py:formal

A pool of 4,000 records, 32 shadows, models and training as in `experiments/fashion_mnist.py:small`,
and the publishers and strengths of `digits.py`; with `formal` those with an epsilon. Needs the
prepared data set in `TFDS_DATA_DIR`. A killed run goes on with the same command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent


def get_config(size: str = "full"):
    if size not in ("full", "formal"):
        raise ValueError(f"size={size!r} must be 'full' or 'formal'")
    base = runpy.run_path(str(HERE.parent / "fashion_mnist.py"))["get_config"]("small")
    base.audit.update({"shadows": 32, "calls_at_once": 2})
    digits = runpy.run_path(str(HERE / "digits.py"))
    entries = digits["formal_entries"](1024) if size == "formal" else digits["all_entries"]()
    return frontier_dict(base, entries, name="fashion_mnist", quality_shadows=2, utility_steps=500)
