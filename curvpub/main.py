"""`python -m curvpub.main --config=experiments/digits.py`: the whole main job."""

import logging as stdlib_logging
import pathlib
import sys
import time

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of experiments/, with an argument after a colon: cifar.py:small."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<name>-<time> by default.")


def main(argv: list[str]) -> None:
    """Reads the flags, runs the stages, and says where the results are."""
    from curvpub import config as config_lib
    from curvpub import pipeline

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing; try --config=experiments/digits.py")
    try:
        config = config_lib.from_config_dict(_CONFIG.value)
        workdir = pathlib.Path(
            _WORKDIR.value or f"runs/{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        )
        pipeline.run_stages(config, workdir)
    except (ValueError, FloatingPointError, FileNotFoundError, OSError) as error:
        # What the user can mend is a sentence, not a traceback.
        logging.debug("traceback", exc_info=True)
        print(f"curvpub: {error}\n(--verbosity=1 shows where)", file=sys.stderr)
        sys.exit(2)


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's own parser, but a misspelt or mistyped `--config` field is a sentence."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        print(f"curvpub: --config: {str(error).strip()}", file=sys.stderr)
        sys.exit(2)


def cli() -> None:
    """Entry point."""
    logging.set_verbosity(logging.INFO)
    # Checkpointing writes some twenty lines a save to the same log: ours, and warnings, are enough.
    here = str(pathlib.Path(__file__).parent)
    logging.get_absl_handler().addFilter(
        lambda record: record.levelno > stdlib_logging.INFO or record.pathname.startswith(here)
    )
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    cli()
