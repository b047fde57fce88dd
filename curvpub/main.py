"""`python -m curvpub.main --config=experiments/digits.py`: the whole main job."""

import logging as stdlib_logging
import pathlib
import time

from absl import app, flags, logging
from ml_collections import config_flags

from curvpub.runtime.entry import full_precision, mistakes_as_sentences, parse_flags

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
    full_precision()
    with mistakes_as_sentences():
        config = config_lib.from_config_dict(_CONFIG.value)
        workdir = pathlib.Path(
            _WORKDIR.value or f"runs/{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        )
        pipeline.run_stages(config, workdir)


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
