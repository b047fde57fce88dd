"""Which part of the formal mode earns what, by records that no frontier has seen?

    python -m benchmarks.formal mnist [--sets 2]   # writes benchmarks/results/...json
    python -m benchmarks.formal --table benchmarks/results/formal-mnist-2cpu.json

Sets of members are those of `benchmarks.dp_classifier`, so that settings that are chosen here cost
the frontier's records nothing. A user's multilayer perceptron is trained on the release, like that
of `experiments/frontier/mnist.py`, and asked about real records. A set's variants share their key.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command, dp_classifier
from curvpub import dp, evaluate
from curvpub.publishers import DPMerfPublisher, FormalMerfPublisher
from curvpub.types import Records, Release, Schema

SMOOTH = {"smooth": 1.0}
SEEN = SMOOTH | {"oriented": 0.5}
TAUGHT = {"share": 0.5}
LONG = {"steps": 1500}
VARIANTS = {
    "nothing": ({}, False),
    "a filter": (SMOOTH, False),
    "a filter, descriptors": (SEEN, False),
    "a teacher": (TAUGHT, True),
    "a teacher, a filter": (SMOOTH | TAUGHT, True),
    "a teacher, a filter, descriptors": (SEEN | TAUGHT, True),
    "a teacher, a filter, few descriptors": (SMOOTH | TAUGHT | {"oriented": 0.2}, True),
    "the same, a wide filter": ({"smooth": 1.5, "oriented": 0.2} | TAUGHT, True),
    "the same, three tenths for the teacher": (SMOOTH | {"oriented": 0.2, "share": 0.7}, True),
    "nothing, 1,500 steps as in the frontier": (LONG, False),
}
"""Settings of the generator (600 steps where none are said), and whether a teacher labels."""

TEACHER = {
    "kind": "mlp", "hidden": (), "inputs": "oriented", "averaged": True, "steps": 60,
    "learning_rate": 15.0, "momentum": 0.0, "batch_size": dp_classifier.BATCH, "microbatch": 256,
}  # fmt: skip
PUBLISHED = {"warp": 0.48, "elastic": 0.6, "vote": 1.0}
USER = evaluate.UserModel(kind="mlp", steps=600)


def publisher(schema: Schema, epsilon: float, variant: str) -> FormalMerfPublisher:
    """One variant's publisher; four records for each private one."""
    settings, taught = VARIANTS[variant]
    budget = dp.Budget(epsilon=epsilon, delta=dp_classifier.DELTA)
    base = DPMerfPublisher(schema=schema, budget=budget, copies=4.0, **({"steps": 600} | settings))
    teacher = dp.ClippedClassifier(schema=schema, budget=budget, **TEACHER) if taught else None
    return FormalMerfPublisher(base=base, teacher=teacher, **PUBLISHED)


def accuracy(schema: Schema, release: Release, test: Records) -> float:
    """Of a user's model, on real records."""
    found = evaluate.utility(jax.random.key(1), schema, release, test, models=(USER,))
    return found["mlp"].accuracy.value


def play(name: str, count: int) -> Iterator[command.Result]:
    """One row for each variant and epsilon."""
    schema, sets = dp_classifier.sets_of(name, count)
    for variant, epsilon in itertools.product(VARIANTS, dp_classifier.EPSILONS):
        made = publisher(schema, epsilon, variant)
        run = jax.jit(made.train)
        release = jax.jit(lambda k, t, made=made: made.release(k, t, records=dp_classifier.MEMBERS))
        found, taught = [], []
        for number, (own, others) in enumerate(sets):
            key_train, key_release = jax.random.split(jax.random.key(number))
            trained = run(key_train, own)
            found.append(accuracy(schema, release(key_release, trained), others))
            if made.teacher:
                said = made.teacher.log_probs(trained.teacher, others.x)
                taught.append(float(jnp.mean(jnp.argmax(said, axis=1) == others.y)))
        yield {
            "data": name, "variant": variant, "epsilon": epsilon, "accuracy": found,
            "teacher": taught, "share": made.base.share,
        }  # fmt: skip


def table(result: command.Result) -> str:
    """Markdown: accuracy by variant and epsilon, mean of the sets."""
    percent = lambda values: f"{100 * np.mean(values):.1f}"
    heads = " | ".join(f"epsilon {e:g}" for e in dp_classifier.EPSILONS)
    lines = [f"| the method in formal mode with | {heads} |", "|---|---|---|---|"]
    for variant in VARIANTS:
        cells = []
        for epsilon in dp_classifier.EPSILONS:
            rows = [r for r in result["rows"] if (r["variant"], r["epsilon"]) == (variant, epsilon)]
            cell = f"{percent(rows[0]['accuracy'])}%" if rows else ""
            if rows and rows[0]["teacher"]:
                cell += f" (teacher {percent(rows[0]['teacher'])}%)"
            cells.append(cell)
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    command.over_sets(__doc__, "formal", play, table, sets=2, least=1)
