"""How much curvature does the least curved half of a generator's draws have, by number of probes?

    python -m benchmarks.selection digits [--sets 2]    # writes benchmarks/results/...json
    python -m benchmarks.selection --table benchmarks/results/selection-digits-2cpu.json

Codes are drawn as a publication draws them, around the codes of members, and the less curved half
of each decoded class is kept, by curvature at scale with some number of probes. The figures: rank
correlation within classes of two such estimates, and the mean curvature of the kept half over that
of all, as the estimate that selected it has it, and as other probes, many of them, do.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks import command
from benchmarks.method import settings
from curvpub import bilevel, data
from curvpub.publishers import decoding, rank_within_class
from curvpub.publishers.curvature import CurvaturePublisher, make_publisher
from curvpub.publishers.latent import encode_codes
from curvpub.types import Array, Records

PROBES, MANY, DRAWN = (8, 32, 64), 256, 2_000


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def measured(publisher: CurvaturePublisher, key: Array, records: Records) -> list[list[float]]:
    """For each number of probes: correlation, share as selected, share by other probes."""
    problem = publisher.problem
    own = jax.jit(publisher.prepare)(records)
    key_train, key_parent, key_noise, key_many = jax.random.split(key, 4)
    state = bilevel.init_state(key_train, problem, len(records))
    steps = problem.train.steps
    run = jax.jit(lambda s: bilevel.run_steps(problem, s, own.x, own.probs, num_steps=steps)[0])
    state = run(state)
    params, law = state.generator, problem.law(state.generator, None)
    code = jax.jit(lambda s: encode_codes(problem, s, own))(state)
    parent = jax.random.randint(key_parent, (DRAWN,), 0, len(records))
    noise = jax.random.normal(key_noise, (DRAWN, law.num_noise, code.shape[1]), code.dtype)
    share = jnp.full(DRAWN, 0.5 * (problem.publish.rho + problem.publish.rho_exposed))
    codes = jax.jit(jax.vmap(law.redraw))(noise, code[parent], share)
    heads = jax.jit(jax.vmap(lambda z: problem.generator.decode_heads(params, z)))(codes)
    label = jnp.argmax(heads[:, problem.generator.space.num_features :], axis=1)
    classes = publisher.schema.num_classes

    def seen(key: Array, probes: int) -> np.ndarray:
        publish = dataclasses.replace(problem.publish, curvature_probes=probes)
        asked = dataclasses.replace(problem, publish=publish)
        find = jax.jit(lambda k: decoding.curvature_of_codes(k, asked, params, law, codes))
        return np.asarray(find(key))

    truth, found = seen(key_many, MANY), []
    for number, probes in enumerate(PROBES):
        one, other = (seen(jax.random.fold_in(key_many, 2 * number + i), probes) for i in (2, 3))
        kept = np.asarray(rank_within_class(jnp.asarray(one), label, num_classes=classes)) < 0.5
        alike = [
            rank_correlation(one[label == c], other[label == c])
            for c in range(classes)
            if np.sum(label == c) > 20
        ]
        ratios = (values[kept].mean() / values.mean() for values in (one, truth))
        found.append([float(np.mean(alike)), *map(float, ratios)])
    return found


def play(name: str, sets: int) -> list[command.Result]:
    """One row for each number of probes."""
    config = settings(name, {"lower.left_out": 0.0})
    dataset = data.load(config.data, seed=config.seed)
    publisher = make_publisher(config, dataset.schema)
    rng, found = np.random.default_rng(config.seed), []
    for number in tqdm(range(sets), "sets of members"):
        rows = rng.permutation(len(dataset.pool))[: len(dataset.pool) // 2]
        own = Records(x=jnp.asarray(dataset.pool.x[rows]), y=jnp.asarray(dataset.pool.y[rows]))
        found.append(measured(publisher, jax.random.key(number), own))
    figures = np.asarray(found)  # [sets, probes, 3]
    names = ("correlation", "as_selected", "by_others")
    return [
        {"data": name, "probes": probes, "drawn": DRAWN, "sets": sets}
        | {k: figures[:, place, i].tolist() for i, k in enumerate(names)}
        for place, probes in enumerate(PROBES)
    ]


def table(result: command.Result) -> str:
    """Markdown of a result file."""
    lines = [
        "| probes | rank correlation of two estimates | kept half's curvature, as selected | by "
        f"{MANY} other probes |",
        "|---|---|---|---|",
    ]
    for r in result["rows"]:
        cells = [f"{np.mean(r[k]):.2f}" for k in ("correlation", "as_selected", "by_others")]
        lines.append(f"| {r['probes']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    command.over_sets(__doc__, "selection", play, table, sets=2, least=1)
