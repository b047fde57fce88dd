"""Which settings does a classifier by DP-SGD want, by records that no frontier has seen?

    python -m benchmarks.dp_classifier mnist [--sets 3]   # writes benchmarks/results/...json
    python -m benchmarks.dp_classifier --table benchmarks/results/dp-classifier-mnist-2cpu.json

Each set has as many members as a shadow of `experiments/frontier/mnist.py`, and further records to
measure accuracy on; all are from the train split, outside the pool of the frontier's first seed, so
that a choice made here costs the frontier's records no privacy and its test records no honesty.
Delta is 1e-5 and the number of records public, as in the frontier.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command
from curvpub import data, dp
from curvpub.config import DataConfig
from curvpub.data import tfds
from curvpub.types import Records, Schema

POOL, MEMBERS, MEASURED = 4_000, 2_000, 4_000
BATCH, DELTA = 1024, 1e-5
EPSILONS = (1.0, 3.0, 10.0)
MODELS = {
    "linear": {"hidden": ()},
    "network": {"hidden": (256,)},
    "oriented": {"hidden": (), "inputs": "oriented", "averaged": True},
}
"""The last is linear in histograms of oriented gradients, and the mean of its later steps."""
SETTINGS = {
    "linear": ((20, 40, 80), ((1.0, 0.0), (2.0, 0.0), (4.0, 0.0), (0.5, 0.9))),
    "network": ((20, 40, 100), ((0.3, 0.9), (1.0, 0.9))),
    "oriented": ((40, 80), ((5.0, 0.0), (15.0, 0.0), (40.0, 0.0))),
}
"""Steps; learning rate and momentum."""


def outside(name: str) -> tuple[Schema, Records]:
    """Records of the train split that are not in the frontier's pool."""
    config = DataConfig(source="tfds", name=name, pool_size=POOL, duplicates="drop")
    pool = data.load(config, seed=0).pool_rows
    source = tfds.open_source(config)
    rest = np.setdiff1d(np.arange(source.train.size), pool)
    rows = np.random.default_rng(1).permutation(rest)
    return source.schema, source.train.read(rows[: 4 * (MEMBERS + MEASURED)])


def sets_of(name: str, count: int) -> tuple[Schema, list[tuple[Records, Records]]]:
    """The schema, and members and further records of so many sets."""
    schema, records = outside(name)
    cut = lambda low, high: Records(
        x=jnp.asarray(records.x[low:high]), y=jnp.asarray(records.y[low:high])
    )
    step = MEMBERS + MEASURED
    return schema, [
        (cut(i * step, i * step + MEMBERS), cut(i * step + MEMBERS, (i + 1) * step))
        for i in range(count)
    ]


def accuracies(schema: Schema, sets: list[tuple[Records, Records]], **settings) -> list[float]:
    """Accuracy of a classifier of each set's members on its other records."""
    classifier = dp.ClippedClassifier(schema=schema, batch_size=BATCH, microbatch=256, **settings)
    run = jax.jit(lambda key, own, x: classifier(key, own, x))
    found = []
    for number, (own, others) in enumerate(sets):
        answer = run(jax.random.key(number), own, others.x)
        found.append(float(jnp.mean(jnp.argmax(answer, axis=1) == others.y)))
    return found


def play(name: str, count: int) -> Iterator[command.Result]:
    """One row for each model, epsilon and setting."""
    schema, sets = sets_of(name, count)
    for model, kind in MODELS.items():
        for epsilon, steps, (rate, momentum) in itertools.product(EPSILONS, *SETTINGS[model]):
            settings = {"steps": steps, "learning_rate": rate, "momentum": momentum}
            budget = dp.Budget(epsilon=epsilon, delta=DELTA)
            found = accuracies(schema, sets, budget=budget, **kind, **settings)
            yield {"data": name, "model": model, "epsilon": epsilon, **settings, "accuracy": found}


def table(result: command.Result) -> str:
    """Markdown: the best setting of each model at each epsilon, and the mean of all settings."""
    lines = [
        "| model | epsilon | best steps, rate, momentum | accuracy | mean of all settings |",
        "|---|---|---|---|---|",
    ]
    for model, epsilon in itertools.product(MODELS, EPSILONS):
        rows = [r for r in result["rows"] if (r["model"], r["epsilon"]) == (model, epsilon)]
        if not rows:
            continue
        best = max(rows, key=lambda r: np.mean(r["accuracy"]))
        every = 100 * np.mean([r["accuracy"] for r in rows])
        lines.append(
            f"| {model} | {epsilon:g} | {best['steps']}, {best['learning_rate']:g}, "
            f"{best['momentum']:g} | {100 * np.mean(best['accuracy']):.1f}% | {every:.1f}% |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.over_sets(__doc__, "dp-classifier", play, table, sets=3, least=1)
