"""Every publisher on Fashion-MNIST: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py
    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py:small  # two cores
    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py:formal
    python -m curvpub.frontier --config=experiments/frontier/fashion_mnist.py:all    # all, on a GPU

A pool of 4,000 records, 32 shadows, models and training as in
`experiments/fashion_mnist.py:small`, and the publishers and strengths of `digits.py`; `formal` has
those with an epsilon, and `small` the strongest of them and fewer attacks. Needs the prepared data
set in `TFDS_DATA_DIR`. A killed run goes on with the same command.
"""

import pathlib
import runpy

HERE = pathlib.Path(__file__).parent


def get_config(size: str = "full"):
    return runpy.run_path(str(HERE / "mnist.py"))["get_config"](size, name="fashion_mnist")
