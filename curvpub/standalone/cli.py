"""The command line of a stand-alone audit."""

import argparse
import logging as stdlib_logging
import pathlib
import sys
import time
from typing import Any, NoReturn

from absl import flags, logging

from curvpub.release import report, standalone
from curvpub.runtime import files
from curvpub.runtime.entry import full_precision
from curvpub.standalone import aligning, auditing, reading

_EPILOG = """\
Files are .npz (arrays x and y; images uint8 or in [0, 1], or a numeric table), .csv or .parquet
(with a header; --target names the label), or, for the release, a folder that curvpub wrote. All
three must have the same columns or the same image shape. Nothing leaves the machine; the folder
--out is private (mode 0700) and holds aggregates alone.
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line, like all others of this command."""

    def error(self, message: str) -> NoReturn:
        _fail(f"{message} (--help explains)")


def cli(argv: list[str] | None = None) -> None:
    """Entry point: exits with 2 and one line where the user can mend something."""
    options = _parser().parse_args(argv)
    _log_to_stderr()
    try:
        results, folder = run(options)
    except (ValueError, FloatingPointError, OSError) as error:
        _fail(str(error).replace("\n", " "))
    print(report.terminal_table(results))
    print(standalone.more_tables(results))
    print(f"Page:    {folder / 'audit.html'}")
    print(f"Figures: {folder / 'audit.json'}")
    print("The folder is private (mode 0700).")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], pathlib.Path]:
    """Audits, and writes `audit.json` and `audit.html`.

    Raises:
      ValueError: input or settings are unfit; one line.
      OSError: the folder cannot be written.
    """
    settings = auditing.Settings(
        fpr=options.fpr,
        confidence=options.confidence,
        seed=options.seed,
        max_records=options.max_records,
        steps=options.steps,
        label_scale=options.label_scale,
        deformed=options.deformed,
        mixtures=options.mixtures,
        anonymeter=options.anonymeter,
    )
    auditing.check_settings(settings)
    full_precision()
    folder = options.out or pathlib.Path(f"runs/audit-{time.strftime('%Y%m%d-%H%M%S')}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "audit.json").is_file():
        # It would be closed to all others, whatever it is.
        raise ValueError(f"--out={str(folder)!r} holds other files: give a folder of its own")
    raws = [
        reading.read(getattr(options, name).expanduser(), flag=f"--{name}", target=options.target)
        for name in ("private", "nonmembers", "release")
    ]
    inputs = aligning.align(
        *raws,
        duplicates=options.duplicates,
        max_records=settings.max_records,
        seed=settings.seed,
    )
    files.private_folder(folder)  # before the work, so that a full disk is found out now
    results = auditing.audit(inputs, settings, name=options.release.name)
    files.write_json(folder / "audit.json", results)
    files.write_bytes(folder / "audit.html", standalone.page(results))
    return results, folder


def _parser() -> argparse.ArgumentParser:
    defaults = auditing.Settings()
    parser = _Parser(
        prog="python -m curvpub.audit",
        description="Audit a release that somebody else made: who of its private records can be "
        "recognised, by attacks that do not need the publisher.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    file = {"type": pathlib.Path, "required": True, "metavar": "PATH"}
    add("--private", help="the records that the release was made of, or some of them", **file)
    add("--nonmembers", help="records of the same population that had no part in it", **file)
    add("--release", help="what was published", **file)
    add("--target", default="label", help="label's column in CSV and Parquet (default: label)")
    add("--out", type=pathlib.Path, help="folder for the results (default: runs/audit-<time>)")
    add(
        "--duplicates",
        choices=("error", "keep"),
        default="error",
        help="non-members that are exact copies of private records: refuse them, or take them for "
        "other people (default: error)",
    )
    add(
        "--max_records",
        type=int,
        default=defaults.max_records,
        help="private records, and non-members, to attack; drawn where there are more "
        f"(default: {defaults.max_records})",
    )
    add(
        "--fpr", type=float, default=defaults.fpr, help="share of false accusations (default: 0.01)"
    )
    add(
        "--confidence", type=float, default=defaults.confidence, help="of intervals (default: 0.95)"
    )
    add("--seed", type=int, default=defaults.seed, help="of folds and models (default: 0)")
    add(
        "--steps",
        type=int,
        default=defaults.steps,
        help=f"of training the attacker's model on the release (default: {defaults.steps})",
    )
    add(
        "--label_scale",
        type=float,
        default=defaults.label_scale,
        help="length of the label's axis in distances (default: 10)",
    )
    add(
        "--deformed",
        type=float,
        default=defaults.deformed,
        help="images: look for copies turned, shifted and bent by so much; 0 = don't (default: "
        f"{defaults.deformed})",
    )
    add(
        "--mixtures",
        choices=auditing.MIXTURES,
        default=defaults.mixtures,
        help="images: look for mixtures of two private ones, plain or deformed (default: none)",
    )
    add(
        "--anonymeter",
        action="store_true",
        help="tables: also run the attacks of the package anonymeter, if installed",
    )
    return parser


def _log_to_stderr() -> None:
    """Progress of this package, and warnings of others."""
    flags.FLAGS.mark_as_parsed()  # absl's logging takes its settings from its own flags
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    here = str(pathlib.Path(__file__).parent)
    logging.get_absl_handler().addFilter(
        lambda record: record.levelno > stdlib_logging.INFO or record.pathname.startswith(here)
    )


def _fail(message: str) -> NoReturn:
    print(f"curvpub.audit: {message}", file=sys.stderr)
    sys.exit(2)
