"""Every publisher on Adult: utility against exposure on shared shadows.

    python -m curvpub.frontier --config=experiments/frontier/adult.py
    python -m curvpub.frontier --config=experiments/frontier/adult.py:small  # two CPU cores

A pool of 4,000 records, 32 shadows, models and training as in `experiments/adult.py:small`,
and the publishers and strengths of `digits.py`; MST, with an epsilon for its strength, where the
extra `marginals` is installed; `small` has fewer strengths and fewer attacks. Needs the prepared
data set in `TFDS_DATA_DIR`. A killed run goes on with the same command.
"""

import pathlib
import runpy

from curvpub.frontier.settings import frontier_dict
from curvpub.publishers import marginals

HERE = pathlib.Path(__file__).parent

# Of age, fnlwgt, education_num, capital_gain, capital_loss, hours_per_week: round numbers around
# the ranges of the public test split. Gains and losses are 0 for most people and round sums of
# dollars for the others.
MST_OPTIONS = {
    "bounds": ((17, 90), (0, 1_500_000), (1, 16), (0, 99_999), (0, 5_000), (1, 99)),
    "cuts": (
        (), tuple(range(50_000, 500_000, 50_000)), (),
        (1, 2_000, 4_000, 6_000, 8_000, 12_000, 20_000, 50_000),
        (1, 1_000, 1_500, 1_750, 2_000, 2_250, 2_500, 3_000), (),
    ),
}  # fmt: skip
MST = {
    "kind": "mst", "strengths": (1, 3, 10), "options": MST_OPTIONS,
    "effort": "cut points by the ranges of the public test split, no other tuning",
}  # fmt: skip

SMALL = {
    "raw": (), "noise": (0.2, 0.4, 0.5, 0.6, 0.8), "ksame": (2, 10), "mixup": (1, 4, 16),
    "mixup_few": (), "smote": (2, 50),
    "reconstruction": (), "latent_noise": (0.3, 1.0), "latent_ksame": (5,), "prior": (1.0,),
    "prior_few": (0.25, 0.5, 1.0), "method": (0.0, 0.5, 0.7), "method_spread": (0.5,),
    "method_left_out": (0.5,), "method_few": (0.5, 1.0), "pointwise": (0.5,), "mst": (),
    "no_curvature": (), "prior_narrow": (), "prior_blurred": (), "method_narrow": (),
    "method_blurred": (), "no_curvature_few": (),
}  # fmt: skip
"""Entries and strengths of `small`; no strengths: all of them."""


def get_config(size: str = "full"):
    if size not in ("full", "small"):
        raise ValueError(f"size={size!r} must be 'full' or 'small'")
    base = runpy.run_path(str(HERE.parent / "adult.py"))["get_config"]("small")
    base.audit.update({"shadows": 32, "calls_at_once": 2})
    entries = runpy.run_path(str(HERE / "digits.py"))["all_entries"]("table")
    if marginals.is_installed():
        entries = entries | {"mst": MST}
    if size == "small":
        some = {k: SMALL[k] for k in entries if k in SMALL}
        entries = {k: entries[k] | ({"strengths": v} if v else {}) for k, v in some.items()}
    config = frontier_dict(base, entries, name="adult", quality_shadows=4, utility_steps=500)
    if size == "small":
        # Without the attacks that take long and were not the strongest on the main job's release.
        config.base.audit.update({"attackers": (), "flow_steps": 0})
        config.quality_shadows = 6
    return config
