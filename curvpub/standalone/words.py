"""What a stand-alone audit says beside its figures: warnings, what it cannot know, what to do."""

from collections.abc import Mapping
from typing import Any

TWO_SAMPLES = "same population"
BLIND = "attack without the release"
_ENOUGH = 10  # false positives that a rate should rest on
_STRICT_FPR = 0.001


def warnings(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = []
    samples, *blind = results["checks"]
    if not samples["ok"]:
        found.append(
            "the non-members differ from the private records: a classifier tells them apart "
            f"without the release, AUC {samples['value']:.3f} [{samples['low']:.3f}, "
            f"{samples['high']:.3f}]. Until that is mended, the attacks' figures may be those of "
            "the difference and not of the release."
        )
    off = [c["name"] for c in blind if not c["ok"]]
    if off:
        found.append(
            f"{off[0]!r} and {len(off) - 1} more are off 0.5, beyond what chance does to "
            f"{len(blind)} of them together: members and non-members differ in how usual they are."
        )
    fpr = results["config"]["fpr"]
    allowed = fpr * results["sizes"]["nonmembers"] / 2
    if allowed < _ENOUGH:
        found.append(
            f"thresholds for {fpr:.3g} false positives rest on about {allowed:.0f} of the "
            "non-members: read the intervals, not the values."
        )
    return found


def limits(results: Mapping[str, Any]) -> list[str]:
    """What this audit cannot know."""
    samples = results["checks"][0]
    return [
        "The publisher was not run again, so there are no shadows and no attack is calibrated for "
        "each record. All figures are lower bounds on the exposure. Calibration finds most: in "
        "this project's experiments on MNIST it took the nearest-record attack on one publisher "
        "from an AUC of 0.76 to 0.91.",
        "This is one release. Its publisher draws random numbers, and another run on the same "
        "records may expose others, or more.",
        "The figures assume that private records and non-members come from one population. The "
        f"test found an AUC of {samples['value']:.3f} [{samples['low']:.3f}, "
        f"{samples['high']:.3f}] where 0.5 is no difference; a smaller one stays unseen.",
        "They are about the average private record. Some may be far more exposed; which ones, only "
        "shadows can tell.",
        "Attackers may know more: the publisher's method, other releases, facts about a person. "
        "There is no (epsilon, delta) guarantee in any of this.",
    ]


def next_steps(results: Mapping[str, Any]) -> list[str]:
    """What to do, the most urgent first."""
    samples, *_ = results["checks"]
    sizes, steps = results["sizes"], []
    copied, others = results["copies"]
    if copied["share_low"] > others["share_high"]:
        steps.append(
            f"{copied['count']} private records are in the release as they are. Do not publish it, "
            "and find out why: a generator that memorises, or a file that was mixed up."
        )
    if not samples["ok"]:
        steps.append(
            "Get non-members that were drawn like the private records: hold out a random part of "
            "the original data before the publisher sees it, from the same time and place, with "
            "the same cleaning, and audit again."
        )
    if leaks(results):
        steps.append(
            "At least one attack tells private records from others. Publish with more protection "
            "(more noise, fewer copies, a smaller or regularised model, resampled records), and "
            "compare the audits; or keep the release from people who must not know who is in it."
        )
    else:
        steps.append(
            "Nothing was found by these attacks, which is not the same as nothing to be found. "
            "Before you rely on it, play the game below."
        )
    wanted = int(2 * _ENOUGH / results["config"]["fpr"])
    if sizes["nonmembers"] < wanted:
        steps.append(
            f"Bring more non-members: {wanted} make the rate at {results['config']['fpr']:.3g} "
            f"false positives rest on {_ENOUGH} of them, {int(2 * _ENOUGH / _STRICT_FPR)} that at "
            f"{_STRICT_FPR:.3g}."
        )
    steps.append(
        "Whoever has the publisher should play the whole game: run it on many random halves of the "
        "records and calibrate the attacks for each record (`curvpub.audit.play` takes any "
        "publisher that is a JAX function; `python -m curvpub.main` does it for ours)."
    )
    return steps


def leaks(results: Mapping[str, Any]) -> bool:
    """Whether an attack is above a guess beyond what chance does to all of them together.

    By its AUC, or by finding members where it hardly accuses anybody else: a few copies among many
    records move no AUC.
    """
    points = [p for row in results["attacks"] for p in row["points"] if p["tpr"] is not None]
    sharp = any(p["tpr_low"] > p["realised_fpr_high"] for p in points)
    return sharp or results["strongest"]["auc_low"] > 0.5
