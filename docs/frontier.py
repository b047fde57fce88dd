"""Takes finished frontiers into the documentation: their results, figures and the README's table.

    python docs/frontier.py runs/frontier-digits ...   # take these in, then write the tables
    python docs/frontier.py                            # write the tables again

Each run's `results.jsonl` is copied to `docs/results/frontier-<name>.jsonl`, its figures to
`docs/img/frontier-<name>-<figure>.png`; the README's tables are made from those files alone.
"""

import pathlib
import shutil
import sys

from curvpub.frontier import results, tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
IMAGES = ROOT / "docs" / "img"
README = ROOT / "README.md"


def take(run: pathlib.Path) -> None:
    """Copies a run's results and figures."""
    rows = results.read(run / "results.jsonl")
    name = rows[0]["data"]
    RESULTS.mkdir(exist_ok=True)
    results.write(RESULTS / f"frontier-{name}.jsonl", rows)
    for picture in sorted((run / "figures").glob("*.png")):
        shutil.copyfile(picture, IMAGES / f"frontier-{name}-{picture.name}")


def table() -> str:
    """The README's tables as Markdown."""
    found = []
    for path in sorted(RESULTS.glob("frontier-*.jsonl")):
        name = path.stem.removeprefix("frontier-")
        found.append(tables.markdown(results.read(path)))
        if (IMAGES / f"frontier-{name}-utility.png").exists():
            found.append(
                f"![Accuracy against exposure, {name}](docs/img/frontier-{name}-utility.png)"
            )
    return "\n\n".join(found) or "No frontier has been run yet."


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        take(pathlib.Path(folder))
    README.write_text(tables.readme_with(README.read_text(), table()))
