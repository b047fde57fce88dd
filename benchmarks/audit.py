"""The audit's speed beside other ways of getting the same numbers, all in one run.

    python -m benchmarks.audit                       # benchmarks/results/audit-2cpu.json, minutes
    python -m benchmarks.audit --quick               # two rounds of everything, small
    python -m benchmarks.audit --only=shadows        # one part, for the same file
    python -m benchmarks.audit --table benchmarks/results/audit-2cpu.json

Ways are run alternately in one process, and a ratio is the median over rounds of neighbouring runs,
which a busy machine disturbs least. Times are for a machine with nothing else to do: PyTorch's
threads wait for one another actively, and lose most where others need the cores. `torch` and
`faiss` (extra `bench`) are left out where not installed; MNIST is read from `TFDS_DATA_DIR`.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import audit_figures, audit_shadows

Row = dict[str, Any]
OURS, AT_ONCE, GROUPED = "ours", "ours, two calls at once", "ours, four shadows in a call"


def alternate(
    ways: dict[str, Callable[[], Any]], counts: dict[str, int], rounds: int
) -> dict[str, list[float]]:
    """Things a second of each way in each round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            rates[name].append(counts[name] / (time.perf_counter() - began))
    return rates


def compared(what: str, unit: str, rates: dict[str, list[float]], scale: float) -> list[Row]:
    """A row for each way but the first: medians of both, and of the ratios round by round."""
    (first, ours), *others = rates.items()
    return [
        {
            "what": what,
            "against": name,
            "unit": unit,
            "ours": scale * statistics.median(ours),
            "other": scale * statistics.median(theirs),
            "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
            "ratios": [round(a / b, 3) for a, b in zip(ours, theirs, strict=True)],
            "ours_is": first,
        }
        for name, theirs in others
    ]


def shadows(quick: bool) -> list[Row]:
    """Shadows a minute; targets are 4 times a `DataLoader` as others use it, 2.5 a tight loop."""
    pool, data = audit_shadows.load()
    count = 4
    ways = {
        OURS: audit_shadows.our_game(pool, shadows_per_call=1),
        AT_ONCE: audit_shadows.our_game(pool, shadows_per_call=1, calls_at_once=2),
        GROUPED: audit_shadows.our_game(pool, shadows_per_call=4),
    }
    counts = dict.fromkeys(ways, count)
    try:
        others = audit_shadows.torch_ways(pool)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
        others = {}
    ways |= others
    counts |= dict.fromkeys(others, 1 if quick else 2)
    found = {name: audit_shadows.right(run(1), 1) for name, run in ways.items()}  # warms up
    calls = {name: lambda run=run, n=counts[name]: run(n) for name, run in ways.items()}
    rates = alternate(calls, counts, 2 if quick else 7)
    rows = compared("shadows of a classifier", "shadows a minute", rates, 60.0)
    rest = {k: v for k, v in rates.items() if k not in (OURS, GROUPED)}
    rows += compared("shadows of a classifier", "shadows a minute", rest, 60.0)
    for row in rows:
        row |= {"data": data, "right": found[row["ours_is"]], "other_right": found[row["against"]]}
    return rows


def memory(quick: bool) -> list[Row]:
    """Peak memory of a process of its own that plays few or many shadows."""
    rows = []
    for count in (2, 8) if quick else (4, 16, 64):
        command = [sys.executable, "-m", "benchmarks.audit", f"--peak={count}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = float(found.stdout.split()[-1])
        rows.append({"what": "peak memory", "unit": "MB", "ours": peak, "shadows": count})
    return rows


def nearest(quick: bool) -> list[Row]:
    """Candidates a second against published records of 784 values."""
    rng, size = np.random.default_rng(0), 2048 if quick else 10_000
    points, release = (rng.random((size, 784), np.float32) for _ in range(2))
    ways = audit_figures.nearest_ways(points, release)
    expected = np.asarray(ways["scikit-learn"]())
    for name, run in ways.items():
        if name != "bare matrix product":
            np.testing.assert_allclose(np.asarray(run()), expected, rtol=1e-3)
    rates = alternate(ways, dict.fromkeys(ways, size), 2 if quick else 5)
    rows = compared("nearest record", "candidates a second", rates, 1.0)
    return [row | {"published": size} for row in rows]


def scores(quick: bool) -> list[Row]:
    """Seconds to score a million pairs of record and shadow, attack by attack."""
    size = (20, 2000) if quick else (100, 10_000)
    spent = audit_figures.time_scores(*size)
    rows: list[Row] = [
        {"what": f"scores: {name}", "unit": "s", "ours": s, "shadows": size[0], "records": size[1]}
        for name, s in spent.items()
    ]
    total = {"what": "scores: all attacks", "unit": "s", "ours": sum(spent.values())}
    return [*rows, total | {"shadows": size[0], "records": size[1]}]


def figures(quick: bool) -> list[Row]:
    """Statistics of the game."""
    return audit_figures.time_statistics(*((8, 2000, 100) if quick else (16, 20_000, 500)))


def observers(quick: bool) -> list[Row]:
    """Each way of looking at a release."""
    return audit_figures.time_observers(1000 if quick else 4000)


PARTS = (shadows, memory, nearest, scores, figures, observers)


def table(result: Row) -> str:
    """Markdown of a result file."""
    lines = ["| what | against | ours | theirs | unit | ratio |", "|---|---|---:|---:|---|---:|"]
    for row in result["rows"]:
        size = f" ({row['shadows']} shadows)" if row["what"] == "peak memory" else ""
        name = row["what"] + size
        if row.get("ours_is", OURS) != OURS:
            name += f" ({row['ours_is'].removeprefix('ours, ')})"
        cells = [name, row.get("against", ""), f"{row['ours']:.3g}"]
        cells += [f"{row['other']:.3g}" if "other" in row else "", row["unit"]]
        cells += [f"{row['ratio']:.2f}" if "ratio" in row else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """What was compared."""
    found = {"python": platform.python_version(), "jax": jax.__version__}
    for name in ("torch", "sklearn", "faiss"):
        try:
            found[name] = __import__(name).__version__
        except ImportError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Runs the parts, or prints the table of a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of everything, small")
    parser.add_argument("--machine", default="2cpu", help="kind of machine, for the file's name")
    parser.add_argument("--only", default="", choices=("", *(p.__name__ for p in PARTS)))
    parser.add_argument("--out", type=pathlib.Path, help="result file")
    parser.add_argument("--table", type=pathlib.Path, help="print this result file as Markdown")
    parser.add_argument("--peak", type=int, help="print the peak memory of so many shadows")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    if options.peak:
        print(audit_shadows.peak_memory(options.peak))
        return
    name = f"audit-{options.machine}{'-quick' if options.quick else ''}.json"
    out = options.out or pathlib.Path(__file__).parent / "results" / name
    about = {"machine": options.machine, "device": jax.devices()[0].device_kind}
    result: Row = about | {"cores": os.cpu_count(), "versions": versions(), "rows": []}
    if options.only:
        result["rows"] = json.loads(out.read_text())["rows"]
    for part in PARTS:
        if options.only not in ("", part.__name__):
            continue
        began = time.perf_counter()
        rows = part(options.quick)
        kept = [r for r in result["rows"] if r["part"] != part.__name__]
        result["rows"] = kept + [{"part": part.__name__} | row for row in rows]
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{part.__name__}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(table(result))


if __name__ == "__main__":
    main()
