"""Scores of exposure that need no shadows, and their comparison with the game.

Private throughout. All are taken over the members of the target run: the generator's scores exist
only for records that it was trained on, and an owner who asks which of the records are exposed has
no others. The exposure that they are compared with is the game's, over shadows that hold a record
and shadows that don't.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit import bakeoff, traces, uncertainty
from curvpub.models import make_classifier
from curvpub.publishers import generator_scores, neighbour_scores
from curvpub.runtime import files
from curvpub.stages import train
from curvpub.workspace import Run

TITLES = {
    "curvature_at_scale": "curvature at scale, from the record",
    "pointwise_curvature": "pointwise mean curvature of the decoder",
    "nearest_record": "distance to the nearest other record",
    "label_disagreement": "neighbours with another label",
    "reconstruction_error": "reconstruction error",
    "loss_trace_spread": "spread of the loss over one training",
    "loss_curvature": "curvature of one model's loss in the features",
    "loss": "one model's loss",
}
"""What the scores are called, in the order that they are shown in."""

_POINTS = 40  # losses of each record along a training
_SEED = 7  # of the bootstrap; fixed, so that a report can be made again


def compute(run: Run, folder: pathlib.Path) -> None:
    """Computes and keeps the scores that the game's signals do not hold already.

    Args:
      run: with a trained state.
      folder: private folder of the audit.
    """
    path = folder / "scores.npz"
    if files.read_arrays(path) is not None:
        return
    prepared = train.prepare_members(run)
    found = jax.jit(lambda *a: generator_scores(run.publisher, *a))(train.load_state(run), prepared)
    found |= jax.jit(lambda p: neighbour_scores(run.publisher, p))(prepared)
    settings, schema = run.config.audit, run.dataset.schema
    model = make_classifier(
        schema, kind=settings.classifier, hidden=settings.hidden, channels=settings.channels
    )

    def spread(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        losses = traces.loss_traces(
            key,
            model.init,
            lambda params, x: jnp.asarray(model.apply(params, x)),
            x,
            y,
            num_classes=schema.num_classes,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            points=min(_POINTS, settings.steps),
        )
        return traces.trace_spread(losses)

    found["loss_trace_spread"] = jax.jit(spread)(
        run.stage_key("scores"), prepared.x, jnp.asarray(run.members.y)
    )
    arrays = {name: np.asarray(value) for name, value in found.items()}
    broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if broken:
        raise FloatingPointError(
            f"the score {broken[0]!r} is not finite for some members; "
            "raise lower.ridge or lower audit.learning_rate"
        )
    files.write_arrays(path, arrays)


def load(
    run: Run,
    folder: pathlib.Path,
    target: Mapping[str, np.ndarray],
    info: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """All scores of the target run's members by name, each `[n]`, higher = more exposed.

    Args:
      run: says who the members are.
      folder: private folder of the audit.
      target: signals of one model trained on the members as they are.
      info: private facts about the publication.

    Raises:
      ValueError: the audit has not finished for these settings and data.
    """
    found = files.read_arrays(folder / "scores.npz")
    if found is None:
        raise ValueError("scores of exposure are missing; run the stage 'audit' first")
    found["curvature_at_scale"] = info["exposure"]
    found["loss_curvature"] = target["loss_curvature"][run.member]
    found["loss"] = -target["confidence"][run.member]
    return {name: found[name] for name in TITLES}


def compare(
    scores: Mapping[str, np.ndarray],
    intervals: Mapping[str, uncertainty.RecordIntervals],
    member: np.ndarray,
    *,
    bootstrap: int,
    confidence: float,
) -> list[dict[str, Any]]:
    """The comparison as JSON-able rows: one for each game and score; aggregates alone.

    Args:
      scores: of the members, `[n]` each.
      intervals: exposure of every pool record, `[N]`, in each game.
      member: the members, bool `[N]`.
      bootstrap: resamples of the members.
      confidence: coverage of the intervals.
    """
    rows = []
    for game, found in intervals.items():
        value = found.value[member]
        share = bakeoff.reliability(value, found.error[member])
        for result in bakeoff.compare_exposure_scores(
            scores, value, bootstrap=bootstrap, confidence=confidence, seed=_SEED
        ):
            row = dataclasses.asdict(result) | {"title": TITLES[result.score]}
            rows.append(row | {"publisher": game, "ceiling": share**0.5})
    return rows
