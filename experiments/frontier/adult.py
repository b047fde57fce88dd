"""Every publisher on Adult: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/adult.py

A pool of 4,000 records, 32 shadows, models and training as in `experiments/adult.py:small`,
and the publishers and strengths of `digits.py`. Needs the prepared data set in `TFDS_DATA_DIR`.
A killed run goes on with the same command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict

HERE = pathlib.Path(__file__).parent


def get_config():
    base = runpy.run_path(str(HERE.parent / "adult.py"))["get_config"]("small")
    base.audit.update({"shadows": 32, "calls_at_once": 2})
    entries = runpy.run_path(str(HERE / "digits.py"))["all_entries"]("table")
    return frontier_dict(base, entries, name="adult", quality_shadows=4, utility_steps=500)
