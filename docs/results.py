"""Takes finished runs into the documentation: their audits, the README's table and its picture.

    python docs/results.py runs/digits runs/mnist ...   # take these runs in, then write the table
    python docs/results.py                              # write the table again

    python docs/results.py digits-kept=runs/digits-2 ...    # its canaries alone, under this name

Each run's `release/audit.json` is copied to `docs/results/<name>.json`, with the bake-off of its
private side (the data sets are public), and its canaries, where it has some, to
`docs/results/canaries/<name>.json`; the tables between the markers of the README, of
`docs/audit.md` and of `docs/method-log.md` are made from those files alone. The run of `PICTURE`
also gives the picture.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from curvpub import data
from curvpub.audit.attacks import ATTACKS, ON_RELEASE
from curvpub.audit.canaries import KINDS
from curvpub.config import DataConfig
from curvpub.release import bundle, grades, samples

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"
AUDIT = ROOT / "docs" / "audit.md"
LOG = ROOT / "docs" / "method-log.md"
START, END = "<!-- results: python docs/results.py -->", "<!-- end of results -->"
ORDER = ("digits", "mnist", "fashion_mnist", "cifar10", "adult")
PICTURE = "mnist"


def table() -> str:
    """The README's table as Markdown."""
    audits = {p.stem: json.loads(p.read_text()) for p in RESULTS.glob("*.json")}
    lines = [
        "| data | members, published, shadows | accuracy: raw, published "
        "| strongest on a classifier: AUC, TPR at 1% FPR "
        "| strongest on the release | on both, all signals "
        "| strongest of all, most exposed 5% | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = sorted(audits, key=ORDER.index)
    for name in names:
        audit = audits[name]
        sizes, minutes = audit["sizes"], sum(audit["timings"].values()) / 60
        rows = [r for r in audit["attacks"] if r["scope"] == "game"]
        row = [
            name,
            f"{sizes['members']:,}, {sizes['released']:,}, {sizes['shadows']}",
            f"{_accuracy(audit, 'raw')}, {_accuracy(audit, 'published')}",
            _worst(rows, [n for n in ATTACKS if n not in (*ON_RELEASE, "combined")]),
            _worst(rows, ON_RELEASE),
            _worst(rows, ["combined"]),
            _worst(audit["worst_case"]["attacks"], ATTACKS) if audit["worst_case"] else "",
            f"{minutes:.0f}",
        ]
        lines.append("| " + " | ".join(row) + " |")
    machines = sorted({a["machine"] for a in audits.values()})
    given = ", ".join(f"{name} {_grade(audits[name])}" for name in names)
    grade = f"Grades ([what they mean](#reading-the-report)): {given}."
    lines += ["", f"Machine: {'; '.join(machines)}. {grade}"]
    failed = [_failed(name, audits[name]) for name in names]
    return "\n".join(lines + [f"\n{line}" for line in failed if line])


def bakeoff_table() -> str:
    """Scores of exposure that need no shadows, beside the exposure in the raw data's game."""
    audits = {p.stem: json.loads(p.read_text()) for p in RESULTS.glob("*.json")}
    names = [n for n in ORDER if audits.get(n, {}).get("bakeoff")]
    found: dict[str, dict[str, str]] = {}
    ceiling = {}
    for name in names:
        for row in audits[name]["bakeoff"]:
            if row["publisher"] == "raw":
                low, high = row["spearman_low"], row["spearman_high"]
                cell = f"{row['spearman']:.2f} [{low:.2f}, {high:.2f}]"
                found.setdefault(row["title"], {})[name] = cell
                ceiling[name] = f"{row['ceiling']:.2f}"
    lines = ["| score | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for title, cells in found.items():
        lines.append(f"| {title} | " + " | ".join(cells.get(n, "") for n in names) + " |")
    lines.append("| *what noise leaves possible* | " + " | ".join(ceiling[n] for n in names) + " |")
    return "\n".join(lines)


def readme_with(text: str, new_table: str) -> str:
    """The README's text with another table between its markers."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{new_table}\n{END}{after}"


def canary_table() -> str:
    """How well the best attack on the release finds planted records, by kind."""
    kinds = [*KINDS, "natural"]
    lines = [
        "| run: left out, scale of the curvature | accuracy | "
        + " | ".join(k.replace("_", " ") for k in kinds)
        + " | most exposed 5% |",
        "|---|---|" + "---|" * (len(kinds) + 1),
    ]
    for path in sorted((RESULTS / "canaries").glob("*.json")):
        found = json.loads(path.read_text())
        lower = found["lower"]
        rows = [r for r in found["canaries"]["attacks"] if r["publisher"] == "published"]
        cells = [_area([r for r in rows if r["scope"] == kind]) for kind in kinds]
        exposed = (found["worst_case"] or {}).get("attacks", [])
        cells.append(_area([r for r in exposed if r["publisher"] == "published"]))
        first = f"{path.stem}: {100 * lower['left_out']:g}%, {lower['scale']:g}"
        lines.append(f"| {first} | {_accuracy(found, 'published')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def take(argument: str) -> None:
    """Copies a run's audit, its canaries, and the picture where it is the one."""
    stem, _, path = argument.rpartition("=")
    run = pathlib.Path(path)
    bundle.verify_release(run / "release")
    audit = json.loads((run / "release" / "audit.json").read_text())
    settings = bundle.read_metadata(run / "release")["configuration"]
    private = json.loads((run / "private" / "results.json").read_text())
    audit["bakeoff"] = private.get("bakeoff", [])
    if audit["canaries"]:
        names = ("name", "sizes", "canaries", "worst_case", "machine", "utility")
        kept = {k: audit[k] for k in names} | {k: settings[k] for k in ("lower", "publish")}
        target = RESULTS / "canaries" / f"{stem or audit['name']}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(resolvable(kept), sort_keys=True) + "\n")
        audit["canaries"] = None
        del audit["timings"]["audit: canaries"]
    if stem:
        return
    text = json.dumps(audit, indent=1, sort_keys=True) + "\n"
    (RESULTS / f"{audit['name']}.json").write_text(text)
    if audit["name"] == PICTURE:
        dataset = data.load(DataConfig(**settings["data"]), seed=settings["seed"])
        release = bundle.read_release(run / "release", dataset.schema)
        picture = samples.sample_grid(dataset.schema, release, dataset.test)
        (ROOT / "docs" / "img" / "published.png").write_bytes(picture)


def resolvable(found: dict) -> dict:
    """A copy whose attacks hold only those operating points that there are records enough for."""
    found = json.loads(json.dumps(found))
    for part in (found["canaries"], found["worst_case"] or {"attacks": []}):
        for row in part["attacks"]:
            row["points"] = [p for p in row["points"] if p["tpr"] is not None]
    return found


def _area(rows: list[dict]) -> str:
    """The highest area of some attacks."""
    best = max(rows, key=lambda r: r["auc"])
    return f"{best['auc']:.2f} [{best['auc_low']:.2f}, {best['auc_high']:.2f}]"


def _accuracy(audit: dict, name: str) -> str:
    row = next(r for r in audit["utility"] if r["trained_on"] == name and r["scope"] == "game")
    half = 50 * (row["accuracy_high"] - row["accuracy_low"])
    return f"{100 * row['accuracy']:.1f} ± {half:.1f}%"


def _grade(audit: dict) -> str:
    """The worst of the audit's judgements."""
    found = grades.judgements({**audit, "config": audit.get("settings", {})})
    return max((j.grade for j in found), key=grades.GRADES.index)


def _failed(name: str, audit: dict) -> str:
    """What the audit's checks of itself found wrong; nothing where all passed."""
    wrong = [
        f"{c['name']} has {c['value']:.3f} [{c['low']:.4f}, {c['high']:.5f}]"
        for c in audit["checks"]
        if not c["ok"]
    ]
    if not wrong:
        return ""
    return (
        f"**Of the {len(audit['checks'])} checks of the audit of {name} {len(wrong)} failed**: "
        f"{'; '.join(wrong)}, where with memberships drawn anew it must be 0.5. One data set in "
        "twenty has such a failure by chance; the report says that its audit is not to be trusted."
    )


def _worst(rows: list[dict], attacks: Sequence[str]) -> str:
    """The strongest of some attacks on our publisher, each figure by itself."""
    rows = [r for r in rows if r["publisher"] == "published" and r["attack"] in attacks]
    if not rows:
        return "not run"
    area = max(rows, key=lambda r: r["auc"])
    rate = max((r["points"][0] for r in rows if r["points"][0]["tpr"]), key=lambda p: p["tpr"])
    return (
        f"{area['auc']:.3f} [{area['auc_low']:.3f}, {area['auc_high']:.3f}], "
        f"{100 * rate['tpr']:.1f}% [{100 * rate['tpr_low']:.1f}, {100 * rate['tpr_high']:.1f}]"
    )


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        take(folder)
    README.write_text(readme_with(README.read_text(), table()))
    AUDIT.write_text(readme_with(AUDIT.read_text(), bakeoff_table()))
    LOG.write_text(readme_with(LOG.read_text(), canary_table()))
