"""Stage 1: train generator, discriminator and perturbations on the members."""

import functools
import json
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import logging

from curvpub import bilevel
from curvpub.publishers import Prepared
from curvpub.runtime import devices, files, progress
from curvpub.runtime.checkpoints import Checkpoints
from curvpub.types import Records
from curvpub.workspace import Run


def train(run: Run) -> None:
    """Trains to the last step, going on from the newest checkpoint.

    Raises:
      FloatingPointError: a loss is not finite; the last good checkpoint is kept.
    """
    problem, settings = run.publisher.problem, run.config.train
    prepared = prepare_members(run)
    checkpoints = Checkpoints(run.state_folder / "train")
    state, start = _restore(run, checkpoints)
    if start >= settings.steps:
        logging.info("train: all %d steps are done already", settings.steps)
        checkpoints.close()
        return
    draw = functools.partial(bilevel.next_batch, problem)
    size = len(jax.eval_shape(draw, state, prepared.x, prepared.probs).index)
    take = jax.jit(draw, out_shardings=devices.split_rows(run.mesh, size))
    batch = take(state, prepared.x, prepared.probs)
    step, seconds = progress.compile_timed(
        bilevel.make_bilevel_step(problem), state, batch, title="train: bilevel step"
    )
    add_timing(run, "train: compile", seconds)
    decision = bilevel.decision_step(problem)
    decide = jax.jit(functools.partial(bilevel.decide_left_out, problem))
    began = time.perf_counter()
    with progress.bar(settings.steps, "train", initial=start) as bar:
        for number in range(start, settings.steps):
            batch = take(state, prepared.x, prepared.probs)
            state, metrics = step(state, batch)
            done = number + 1
            if done == decision:
                state = decide(state, prepared.x, prepared.probs)
            logged = done % settings.log_every == 0 or done == settings.steps
            saved = done % settings.checkpoint_every == 0 or done == settings.steps
            if logged or saved:  # a checkpoint that is not finite would be gone on from
                values = _checked(done, metrics)
            if logged:
                _log(run, done, values, bar)
            bar.update()
            if saved:
                checkpoints.save(done, state)
    checkpoints.close()
    add_timing(run, "train", time.perf_counter() - began)


def prepare_members(run: Run) -> Prepared:
    """The members in the model's space, on every device."""
    members = run.members
    records = Records(x=jax.numpy.asarray(members.x), y=jax.numpy.asarray(members.y))
    return devices.replicate(run.mesh, jax.jit(run.publisher.prepare)(records))


def load_state(run: Run) -> bilevel.BilevelState:
    """The fully trained state.

    Raises:
      ValueError: training has not finished for these settings and data.
    """
    checkpoints = Checkpoints(run.state_folder / "train")
    state, done = _restore(run, checkpoints)
    checkpoints.close()
    if done < run.config.train.steps:
        raise ValueError(
            f"stages={run.config.stages!r}: training is at step {done} of "
            f"{run.config.train.steps} for these settings and data; run the stage 'train' first"
        )
    return state


def target_keys(run: Run) -> tuple[jax.Array, jax.Array]:
    """Keys of training and publication, split as the publisher itself splits its key."""
    key_train, key_publish = jax.random.split(run.stage_key("target"))
    return key_train, key_publish


def history(run: Run) -> dict[str, list[float]]:
    """Logged metrics by name, in the order of steps; `step` holds their numbers."""
    rows = {row["step"]: row for row in _rows(run)}
    steps = sorted(rows)
    names = sorted({name for row in rows.values() for name in row if name != "step"})
    result: dict[str, list[float]] = {"step": [float(s) for s in steps]}
    for name in names:
        result[name] = [float(rows[s].get(name, np.nan)) for s in steps]
    return result


def add_timing(run: Run, name: str, seconds: float) -> None:
    """Adds seconds to a part's account, over restarts."""
    path = run.state_folder / "timings.json"
    timings = json.loads(path.read_text()) if path.exists() else {}
    timings[name] = round(timings.get(name, 0.0) + seconds, 2)
    files.write_json(path, timings)


def timings(run: Run) -> dict[str, float]:
    """Seconds of each part so far."""
    path = run.state_folder / "timings.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _restore(run: Run, checkpoints: Checkpoints) -> tuple[bilevel.BilevelState, int]:
    fresh = bilevel.init_state(target_keys(run)[0], run.publisher.problem, len(run.members))
    fresh = devices.replicate(run.mesh, fresh)
    found = checkpoints.restore(fresh)
    if found is None:
        return fresh, 0
    step, state = found
    logging.info("train: going on from the checkpoint of step %d", step)
    return devices.replicate(run.mesh, state), step


def _checked(step: int, metrics: bilevel.Metrics) -> dict[str, float]:
    """Metrics on the host, all of them finite."""
    values = {name: float(value) for name, value in metrics.items()}
    broken = [name for name, value in values.items() if not np.isfinite(value)]
    if broken:
        raise FloatingPointError(
            f"{broken[0]} is not finite at step {step}: "
            "lower train.learning_rate or lower.step_size, or raise lower.ridge"
        )
    return values


def _log(run: Run, step: int, values: dict[str, float], bar: object) -> None:
    with (run.state_folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")
    bar.set_postfix(  # type: ignore[attr-defined]
        loss=f"{values['generator/loss']:.1f}", refresh=False
    )


def _rows(run: Run) -> Iterator[dict[str, float]]:
    path = run.state_folder / "metrics.jsonl"
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # a kill tore the line
            continue
