"""`python -m curvpub.frontier --config=experiments/frontier/digits.py`: the whole comparison."""

import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from curvpub.runtime.entry import full_precision, mistakes_as_sentences, parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of experiments/frontier/, with an argument after a colon."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/frontier-<name> else.")
_ONLY = flags.DEFINE_string(
    "only",
    "",
    "Play, and judge the quality of, only entries with one of these in their name: regular "
    "expressions, separated by commas (^method$ for one entry alone). Results have all that are "
    "complete.",
)
_PLAN = flags.DEFINE_bool("plan", False, "Check everything and say what there is to do.")


def main(argv: list[str]) -> None:
    """Reads the flags, runs the frontier, and says where the results are."""
    from curvpub.frontier import running, settings

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing; try --config=experiments/frontier/digits.py")
    full_precision()
    with mistakes_as_sentences():
        config = settings.from_frontier_dict(_CONFIG.value)
        workdir = pathlib.Path(_WORKDIR.value or f"runs/frontier-{config.shared.name}")
        if _PLAN.value:
            print(running.describe_plan(config, workdir))
            return
        path = running.run_frontier(config, workdir, only=_ONLY.value)
    print(running.where_things_are(path))


def cli() -> None:
    """Entry point."""
    logging.set_verbosity(logging.INFO)
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    cli()
