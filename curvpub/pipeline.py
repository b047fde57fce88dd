"""Runs the stages of the main job in their order."""

import pathlib
import time

from absl import logging

from curvpub import workspace
from curvpub.config import STAGES, Config
from curvpub.runtime import devices, files
from curvpub.stages import audit, canaries, publish, report, train
from curvpub.types import Schema


def _audit(run: workspace.Run) -> None:
    programs = audit.Programs(run)
    audit.audit(run, programs)
    if run.config.audit.canaries:
        canaries.play(run, programs)


_STAGES = {
    "train": train.train,
    "publish": publish.publish,
    "audit": _audit,
    "report": report.report,
}


def run_stages(config: Config, workdir: pathlib.Path) -> workspace.Run:
    """Loads and checks everything, then runs the stages that the configuration names.

    Each stage goes on from what an earlier run with the same settings, data and code left in
    `workdir`, also after a kill.

    Args:
      config: checked settings.
      workdir: folder of the run.

    Returns:
      The run, whose folders hold the results.

    Raises:
      ValueError: data, settings or the order of stages are unfit.
      FloatingPointError: training or an attack diverged.
      OSError: a file cannot be read or written.
    """
    run = workspace.open_run(config, workdir)
    if config.audit.canaries:
        canaries.plant(run)  # what the data do not allow is refused before any work
    pool, test = run.dataset.pool, run.dataset.test
    logging.info(
        "%s: %d pool records (%d members are published), %d test records, on %s",
        config.name, len(pool), int(run.member.sum()), len(test), devices.describe(run.mesh),
    )  # fmt: skip
    for caution in cautions(config, run.dataset.schema):
        logging.warning(caution)
    files.write_json(run.private / "settings.json", workspace.public_settings(config))
    began = time.perf_counter()
    for name in STAGES:
        if name in config.stages:
            logging.info("stage %s", name)
            _STAGES[name](run)
    logging.info("done in %.0f s", time.perf_counter() - began)
    print(where_things_are(run))
    return run


def cautions(config: Config, schema: Schema) -> list[str]:
    """What is allowed and yet seldom meant, as sentences that name the settings."""
    if schema.kind != "image" or config.publish.warp or config.publish.elastic:
        return []
    return [
        "publish.warp=0 and publish.elastic=0: images are published without deformations, which "
        "protect most; experiments/own.py:images and :npz_images have settings to begin with"
    ]


def where_things_are(run: workspace.Run) -> str:
    """What a run left where, and what to do next."""
    audited = (run.release / "report.html").exists()
    state = "audited: read its report first" if audited else "NOT audited: do not share"
    lines = ["", f"release ({state}):  {run.release}", f"private (never share it):  {run.private}"]
    if audited:
        lines += [
            f"Read first:  {run.release / 'report.html'}",
            f"Yours only:  {run.private / 'report.html'}",
            "Load it:     datasets.load_dataset('parquet', "
            f"data_files='{run.release / 'data'}/*.parquet')",
        ]
    else:
        rest = [s for s in STAGES if s not in run.config.stages]
        lines.append(
            f"Next: run again with --workdir={run.workdir} --config.stages={','.join(rest)}"
        )
    return "\n".join(lines)
