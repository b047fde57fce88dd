"""What the commands of benchmarks have in common: options, and the file of results."""

import argparse
import json
import pathlib
import platform
from collections.abc import Callable, Iterable
from typing import Any

import jax

Result = dict[str, Any]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Options of every benchmark.

    Args:
      doc: of its module; the first line describes it.
    """
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--machine", default="2cpu", help="kind of machine, for the file's name")
    made.add_argument("--out", type=pathlib.Path, help="result file")
    made.add_argument("--table", type=pathlib.Path, help="print this result file as Markdown")
    return made


def printed(options: argparse.Namespace, table: Callable[[Result], str]) -> bool:
    """Prints the table of a result file, where one was asked for."""
    if options.table:
        print(table(json.loads(options.table.read_text())))
    return bool(options.table)


def result_file(options: argparse.Namespace, name: str) -> pathlib.Path:
    """`--out`, or a file in `benchmarks/results` with the benchmark's and the machine's name."""
    ending = "-quick" if getattr(options, "quick", False) else ""
    named = f"{name}-{options.machine}{ending}.json"
    return options.out or pathlib.Path(__file__).parent / "results" / named


def described(machine: str) -> Result:
    """A result file without its rows."""
    return {
        "machine": machine,
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "dtype": "float32",
        "rows": [],
    }


def written(out: pathlib.Path, result: Result, row: Result) -> None:
    """Shows a row, and writes all that there are."""
    print(json.dumps(row), flush=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def over_sets(
    doc: str | None,
    name: str,
    play: Callable[[str, int], Iterable[Result]],
    table: Callable[[Result], str],
    *,
    sets: int,
    least: int,
) -> None:
    """The command of a benchmark on sets of members: plays it, or prints a result file's table.

    Args:
      doc: of its module.
      name: of its result file, without data and machine.
      play: rows of a data set and a number of sets.
      table: Markdown of a result file.
      sets: how many by default.
      least: how many it needs.
    """
    made = parser(doc)
    made.add_argument("data", nargs="?", default="digits", help="digits or mnist")
    made.add_argument("--sets", type=int, default=sets, help=f"sets of members, at least {least}")
    options = made.parse_args()
    if printed(options, table):
        return
    if options.sets < least:
        made.error(f"--sets={options.sets} must be at least {least}")
    result = described(options.machine)
    out = result_file(options, f"{name}-{options.data}")
    for row in play(options.data, options.sets):
        result["rows"].append(row)
        written(out, result, row)
