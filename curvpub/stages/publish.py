"""Stage 2: turn the trained state into a release on disk."""

import secrets
import time
from typing import Any

import jax
import numpy as np
from absl import logging

from curvpub import workspace
from curvpub.release import bundle
from curvpub.runtime import files, progress
from curvpub.stages import train
from curvpub.types import Release
from curvpub.workspace import Run


def publish(run: Run) -> None:
    """Makes and writes the release, or keeps the one of these settings that is there already.

    One that was made before and is in the folder no more is written again as it was: it is what
    the audit attacked.

    Raises:
      ValueError: training is unfinished, or the release came out not finite.
    """
    known = load_published(run)
    if known is None:
        known = _make(run)
    elif _on_disk(run, str(known[1]["release_id"])):
        logging.info("publish: the release of these settings is there already")
        return
    release, name = known[0], str(known[1]["release_id"])
    bundle.write_release(
        run.release,
        release=release,
        schema=run.dataset.schema,
        metadata=metadata(run, release, name),
    )


def _make(run: Run) -> tuple[Release, dict[str, np.ndarray]]:
    """Publishes, and keeps release and private facts."""
    state = train.load_state(run)
    prepared = train.prepare_members(run)
    key = train.target_keys(run)[1]
    call, seconds = progress.compile_timed(
        jax.jit(run.publisher.publish), key, state, prepared, title="publish"
    )
    train.add_timing(run, "publish: compile", seconds)
    began = time.perf_counter()
    with progress.bar(1, "publish", unit="release") as bar:
        release, info = jax.tree.map(np.asarray, call(key, state, prepared))
        bar.update()
    if not (np.isfinite(release.x).all() and np.isfinite(release.y).all()):
        raise ValueError(
            "the release holds values that are not finite: nothing was written; "
            "lower train.learning_rate or lower.step_size"
        )
    # The private record of the publication first: it is what a restart looks for.
    # A random name, not a hash of anything private: a hash would let an outsider test guesses.
    name = secrets.token_hex(6)
    arrays = {"x": release.x, "y": release.y, **info._asdict(), "release_id": np.asarray(name)}
    files.write_arrays(run.state_folder / "publish.npz", arrays)
    train.add_timing(run, "publish", time.perf_counter() - began)
    return release, {k: v for k, v in arrays.items() if k not in ("x", "y")}


def require_published(run: Run) -> tuple[Release, dict[str, np.ndarray]]:
    """The release of these settings, which must be the one in the release folder.

    Raises:
      ValueError: there is none, or the folder holds another one, whose audit this would not be.
    """
    found = load_published(run)
    if found is None:
        raise ValueError(
            f"stages={run.config.stages!r}: there is no release of these settings and data yet; "
            "run the stages 'train' and 'publish' first"
        )
    if not _on_disk(run, str(found[1]["release_id"])):
        raise ValueError(
            f"stages={run.config.stages!r}: {run.release} holds no undamaged release of these "
            "settings and data, though one was made; run the stage 'publish' to write it there, or "
            "give the settings of the release that is there"
        )
    return found


def load_published(run: Run) -> tuple[Release, dict[str, np.ndarray]] | None:
    """The release of these settings and its private facts, or None."""
    arrays = files.read_arrays(run.state_folder / "publish.npz")
    if arrays is None:
        return None
    return Release(x=arrays.pop("x"), y=arrays.pop("y")), arrays


def metadata(run: Run, release: Release, release_id: str) -> dict[str, Any]:
    """What `release.json` says about the release before it is audited."""
    return {
        "name": run.config.name,
        "release_id": release_id,
        "mode": run.config.publish.mode,
        "seed": run.config.seed,
        "configuration": workspace.public_settings(run.config),
        "sizes": {"members": len(run.members), "released": len(release)},
    }


def _on_disk(run: Run, release_id: str) -> bool:
    """Whether the release folder holds this run's release, undamaged."""
    try:
        bundle.verify_release(run.release)
        return bundle.read_metadata(run.release).get("release_id") == release_id
    except (ValueError, OSError):
        return False
