"""Takes finished frontiers into the documentation: their results, figures and the README's table.

    python docs/frontier.py runs/frontier-digits ...   # take these in, then write the tables
    python docs/frontier.py                            # write the tables again

Each run's `results.jsonl` is copied to `docs/results/frontier-<name>.jsonl`; the README's tables,
`docs/frontier.md` and the pictures `docs/img/frontier-<name>-<figure>.png` are made from those
files alone.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from curvpub.frontier import pictures, results, tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
IMAGES = ROOT / "docs" / "img"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "frontier.md"
KINDS = {
    "utility": "Accuracy against exposure",
    "quality": "Quality against exposure",
    "deciles": "Exposure by decile of that in the raw data",
}
HOW_TO_READ = (
    "**How to read the tables.** *Not reached*: no point of that side is as accurate. An end of "
    "an interval at 0.00 or \u221e: in some resamples the entry that one of the two sides is "
    "represented by does not reach that accuracy, so that nothing is said in that direction. A "
    "ring: by accuracy on the half of the test records that selects, no other point is as "
    "accurate and less exposed; drawn is the accuracy on the other half. Exposures in tables and "
    "pictures are those of the attack with the highest mean, which is lucky where many are near "
    "chance; on `adult`, `digits`, `mnist` and `fashion_mnist`, played anew, rings and excesses "
    "at equal accuracy choose the attack by one half of the pairs of shadows and read it off the "
    "other. "
    "The number after an entry is its strength: the deformation for `deformed` (records), "
    "`deformed_mixup` (mixtures of two records) and the method's entries on images; the share of "
    "the code that is kept (rho) for the method's on tables; epsilon for `dp_...` and "
    "`formal...`; training steps for `clipped`; samples for each member for `prior_few`, records "
    "for `method_few`. Half of a parent's code is kept by `method`, most of it by `method_near` "
    "(of the most exposed parent's three fifths of that), none by `method_far`; `..._trained` "
    "train on deformed images as well, `..._kept` (`all_kept` before) leave nobody out. "
    "`method_few` keeps nothing of a parent: it is `prior_few` on the same generator, of two draws "
    "the less curved, with the label of the code's neighbourhood. Accuracy is that of one network "
    "trained on each release with the same number of steps, the attackers' own; other models can "
    "rank releases differently (a further table has them where quality was measured; on `adult` a "
    "linear model is two to four per cent better on what MST publishes, and a per cent apart is no "
    "verdict). "
    "`prior_few` publishes fewer samples of the prior, `prior_narrow` has a narrower network, "
    "`prior_blurred` a wider likelihood. `dp_merf`, `dp_vae` and `dp_vaegan` are generators with "
    "an epsilon, `formal_merf` and `formal` the method on DP-MERF's and on the VAE's, "
    "`..._unguided` the same without curvature. `dp_sgd` and `clipped` are classifiers trained "
    "on the raw records, which publish nothing.\n\n"
)
QUALITY = (
    "**Quality.** Frechet distance, density, coverage and recall compare published with real test "
    "records as points of a feature space that no record of the pool has a part in: the 32 "
    "pre-activations of the last hidden layer of a network that was trained on one half of the "
    "test records, to tell their classes; what is compared with is the other half. Where the "
    "first half has fewer than 500 records, or fewer than ten of a class, as on the digits, it is "
    "their first 32 principal components. These figures depend on how many records are compared: "
    "as many published as real ones, and on `adult`, `mnist` and `fashion_mnist` the same number "
    "for all entries, no more than any of them publishes. On the others they were measured before: "
    "entries that publish few records were compared by fewer (`count` of `quality`), which is "
    "kind to their coverage and hard on their Frechet distance; *real records* are one draw and "
    "not the mean of several; marginals of tables did not see what lies above a value that most "
    "records share. beta-recall, which earlier versions ranked by, is no rank: of a release that "
    "lacks a part of the data it can be higher. Recall takes its place, in pictures here, and in "
    "the third tables of `adult`, `mnist` and `fashion_mnist`. There no figure counts beyond that "
    "of real records: "
    "points that lie further apart, for one, have wider neighbourhoods and reach more. In pictures "
    "of quality, bars across are 95% intervals of the worst attack's AUC, upright ones one "
    "standard deviation over releases. "
    "The bracket of the third table's gap is Student's t over releases of the same shadows, four "
    "to six of them: exposures, the real records that are compared with and the choice of the "
    "best point are taken as given, the last of which flatters either side a little.\n\n"
)
STALE = (
    "**Too kind, until they are played again.** `adult`, `digits`, `mnist` and `fashion_mnist` "
    "were played anew; on the digits quality was not measured again. All other frontiers here were "
    "summarised before "
    "several mistakes were found. The attacks that fit a classifier to several signals "
    "(`combined`, `pairs`) were fitted on some ten thousand rows, which weighs weak signals "
    "badly: on all rows they find more, on `cifar10-small` seven hundredths of the method's "
    "excess AUC and one hundredth of that of samples of the prior (`docs/method-log.md`). So "
    "shares of a competitor's excess are too low by some hundredths of themselves. And "
    "intervals of accuracies and at equal accuracy are over shadows alone, the test records as "
    "given: on the digits these are 225, so that an accuracy of 92% would vary by 1.8% (one "
    "standard error) with others, differences between releases by less. And who was left out by"
    ' the method\'s entries was chosen badly (`docs/method-log.md`, "Reviewed by strangers"), '
    "which is not to their advantage. Classifiers trained on raw records are attacked one signal "
    "at a time, without a classifier of "
    "all of them; the one by DP-SGD is a wide network that nobody tuned, and linear ones, of "
    'pixels and of public descriptors above all, are far better (`docs/method-log.md`, "With an '
    'epsilon").\n\n'
)
HEAD = (
    "# Frontiers\n\n"
    "Written by `python docs/frontier.py` from `docs/results/frontier-*.jsonl`, which "
    "`python -m curvpub.frontier` wrote. The second table of each asks, at the accuracy of every "
    "point that is not beaten, how exposed the method is beside the best competitor there, by "
    "interpolation within an entry; below 1 the method is less exposed. Excess is AUC less 0.5. A "
    "third table, where the quality of releases was measured, asks whose best release is more like "
    "real records at each exposure. A further one has the models that users would train on each "
    "entry's release. Where a frontier has the method without its parts, as entries that are no "
    "competitors, and was compared since, another second table sets the method against these, "
    "among releases of as many records. (That table of `adult` had `method_few` beside references "
    "of two to four times as many records, which is no comparison; its lines were taken out of the "
    "result file, and what they hid is not there. On `mnist` `no_curvature` has one deformation, "
    "so that the line of the method at 1.4 says what more deformation does.)\n\n"
    + HOW_TO_READ
    + QUALITY
    + STALE
    + "**Which attacks.** "
    "What deforms or mixes images is attacked by all that undoes it, registration and tracing to "
    "sources (`docs/method-log.md`), but for all of `mnist-formal`, which was not traced. "
    "`digits` and `adult` (`:small`) were played at commit 2640678, MST as of 2a1f40a, the digits "
    "with `--config.quality_shadows=0`; `mnist` (`:small`) at 9ff8dce and summarised at 2505a50, "
    'without the entries that others had beaten by far (`docs/method-log.md`, "MNIST, played '
    'again"), and so `fashion_mnist` (`:small`) at 3df7767. Where a '
    "table has no quality of an entry, it was not measured. "
    "`digits-second` is another pool of the digits, main entries at the strengths that its result "
    'file has (`digits.py --config.name=digits-second --config.seeds="(1,)"`, with '
    "`--config.entries.<name>.strengths` and `--only`), played at commit f06fc9f. "
    "`digits-formal` has the VAE and the VAE-GAN by DP-SGD, and the method in formal mode on the "
    "former. On CIFAR-10 all but the method was played on one H100; `cifar10-small` is another "
    "game, with the pool and the models of `experiments/cifar.py:small` and 8 shadows "
    "(`docs/method-log.md`).\n\n"
    "Not in the tables unless asked for:\n\n"
    "- **Fine-tuning value.** `--config.fine_tune_records=100`: the accuracy of a network "
    "trained on a release and then on so many real records, and of the same network trained on "
    "these alone (`fine_tuned_accuracy`, `from_scratch_accuracy` of `quality`). The records "
    "come out of the half of the test set that selects strengths. Alone: "
    "`curvpub.evaluate.fine_tuning`, with an interval of the difference.\n"
    "- **Frechet distance in a network of one's own.** `--config.feature_weights=FILE`, ONNX "
    "(extra `onnx`) or TorchScript: `frechet_external`. Which file gives published FID figures "
    "is said in `curvpub/evaluate/external.py`.\n"
    "- **MST**, the usual yardstick of private tables (`publishers/marginals.py`, kind `mst`, "
    "strength epsilon), is in `experiments/frontier/adult.py` where the extra `marginals` is "
    "installed. Bins of numeric columns are between public bounds and cost no privacy.\n\n"
)


UNFINISHED = (
    "\n\n## Begun on a GPU\n\n"
    "`mnist.py:all` and `fashion_mnist.py` with 32 shadows in one call, side by side on one H100, "
    "ended after seven minutes (`docs/results/unfinished/`): no strength is selected and nothing "
    "is compared. Nearly all of the time went to compiling: a point's 32 shadows are published and "
    "attacked in 4 to 20 seconds mostly, and its programs take half a minute and more to compile. "
    "XLA's search for fast kernels was off "
    "(`XLA_FLAGS='--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false'`): with it, and "
    "beside two other processes, the program that publishes the digits had not been compiled after "
    "three minutes, without it and alone in nine seconds. `cifar.py` with 32 shadows, eight in a "
    "call, on one H100 with the same flags, ended after nine minutes: its first points were played "
    "after three of them, and a point with all attacks then took 43 to 52 seconds, so that the "
    "program was no longer waiting for its compiler but for the card.\n\n"
)


def take(run: pathlib.Path) -> None:
    """Copies a run's results."""
    rows = results.read(run / "results.jsonl")
    RESULTS.mkdir(exist_ok=True)
    results.write(RESULTS / f"frontier-{rows[0]['data']}.jsonl", rows)


def draw() -> None:
    """Draws the pictures of all results again."""
    for path in IMAGES.glob("frontier-*.png"):
        path.unlink()
    for path in sorted(RESULTS.glob("frontier-*.jsonl")):
        for kind, picture in pictures.draw_all(results.read(path)).items():
            (IMAGES / f"{path.stem}-{kind}.png").write_bytes(picture)


def table(make: Callable[[list[dict[str, Any]]], str], *, figures: list[str], images: str) -> str:
    """Tables and some figures of all results as Markdown; `images` is the way to their folder."""
    found = []
    for path in sorted(RESULTS.glob("frontier-*.jsonl")):
        name = path.stem.removeprefix("frontier-")
        found.append(make(results.read(path)))
        for kind in figures:
            if (IMAGES / f"frontier-{name}-{kind}.png").exists():
                found.append(f"![{KINDS[kind]}, {name}]({images}/frontier-{name}-{kind}.png)")
    return "\n\n".join(found) or "No frontier has been run yet."


def folded(rows: list[dict[str, Any]]) -> str:
    """A short table that a reader opens: there are many of them, and pictures say most."""
    name = rows[0]["data"]
    return f"<details><summary>{name}: table</summary>\n\n{tables.short(rows)}\n\n</details>"


def readme_tables() -> str:
    """The README's part: a picture and a folded table of each."""
    return HOW_TO_READ + table(folded, figures=["utility"], images="docs/img")


def unfinished() -> str:
    """Every point of the runs that were cut off."""
    paths = sorted((RESULTS / "unfinished").glob("frontier-*.jsonl"))
    return UNFINISHED + "\n\n".join(tables.every_point(results.read(p)) for p in paths) + "\n"


def page() -> str:
    """The page of all frontiers, finished or not."""
    return HEAD + table(tables.markdown, figures=list(KINDS), images="img") + unfinished()


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        take(pathlib.Path(folder))
    draw()
    README.write_text(tables.readme_with(README.read_text(), readme_tables()))
    PAGE.write_text(page())
