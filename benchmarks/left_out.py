"""Who is left out: does an early measurement find the records that stick out in the end?

    python -m benchmarks.left_out digits [--sets 4]    # writes benchmarks/results/...json
    python -m benchmarks.left_out --table benchmarks/results/left-out-digits-2cpu.json

Generators are trained on sets of members of which nobody is left out. At several shares of training
the most exposed tenth is chosen as the method decides it (`bilevel.decide_left_out`), and by what
single visits saw last (`BilevelState.exposure`); the truth is the most exposed tenth by the decoder
that training ends with, with many probes. Shares found, and their standard deviation over sets.
"""

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks import command
from benchmarks.method import settings
from curvpub import bilevel, data
from curvpub.blocks import map_blocks
from curvpub.publishers.curvature import CurvaturePublisher, Prepared, make_publisher
from curvpub.types import Array, Records

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
PROBES, BLOCK, PART = 1024, 64, 0.1


def most_exposed(values: Array) -> set[int]:
    """Rows of the tenth with the largest values."""
    return set(np.argsort(values)[-round(PART * len(values)) :].tolist())


def true_exposure(
    publisher: CurvaturePublisher, state: bilevel.BilevelState, own: Prepared
) -> Array:
    """Exposure of each record with the state's decoder, `[n]`."""
    problem = publisher.problem
    law = problem.law(state.generator, None)
    scale = problem.lower.scale
    see = lambda a: bilevel.see_record(
        problem, state.generator, law, *a, scale=scale, num_probes=PROBES
    )[1]  # fmt: skip
    keys = jax.random.split(jax.random.key(3), own.x.shape[0])
    return map_blocks(see, (keys, own.x, own.probs), block_size=BLOCK)


def measured(publisher: CurvaturePublisher, key: Array, records: Records) -> dict[str, list[float]]:
    """Shares of the truly most exposed that are found at each share of one training."""
    problem, steps = publisher.problem, publisher.problem.train.steps
    own = jax.jit(publisher.prepare)(records)
    run = jax.jit(
        lambda s, n: bilevel.run_steps(problem, s, own.x, own.probs, num_steps=n)[0],
        static_argnums=1,
    )
    decide = jax.jit(lambda s: bilevel.decide_left_out(problem, s, own.x, own.probs).decided)
    state, chosen = bilevel.init_state(key, problem, len(records)), {"visits": [], "decided": []}
    for share in SHARES:
        state = run(state, round(share * steps) - int(state.step))
        chosen["visits"].append(most_exposed(state.exposure))
        chosen["decided"].append(most_exposed(decide(state)))
    truth = most_exposed(jax.jit(lambda s: true_exposure(publisher, s, own))(state))
    share = lambda found: len(found & truth) / len(truth)
    return {how: [share(found) for found in sets] for how, sets in chosen.items()}


def play(name: str, sets: int) -> list[command.Result]:
    """One row for each share of training."""
    config = settings(name, {"lower.left_out": 0.0})
    dataset = data.load(config.data, seed=config.seed)
    publisher = make_publisher(config, dataset.schema)
    rng, found = np.random.default_rng(config.seed), []
    for number in tqdm(range(sets), "sets of members"):
        rows = rng.permutation(len(dataset.pool))[: len(dataset.pool) // 2]
        own = Records(x=jnp.asarray(dataset.pool.x[rows]), y=jnp.asarray(dataset.pool.y[rows]))
        found.append(measured(publisher, jax.random.key(number), own))
    made = []
    for place, share in enumerate(SHARES):
        row: command.Result = {"data": name, "share": share, "records": len(own), "sets": sets}
        for how in ("decided", "visits"):
            values = [one[how][place] for one in found]
            row[how] = [float(np.mean(values)), float(np.std(values, ddof=1))]
        made.append(row)
    return made


def table(result: command.Result) -> str:
    """Markdown of a result file."""
    lines = [
        "| share of training | found by measuring all | by last visits |",
        "|---|---|---|",
    ]
    for r in result["rows"]:
        cells = [f"{r[how][0]:.2f} ± {r[how][1]:.2f}" for how in ("decided", "visits")]
        lines.append(f"| {r['share']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    command.over_sets(__doc__, "left-out", play, table, sets=4, least=2)
