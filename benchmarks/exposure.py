"""What would it take to rank records by exposure? One model or many, seen or held out.

    python -m benchmarks.exposure mnist --shadows 16
    python -m benchmarks.exposure --table benchmarks/results/exposure.jsonl

The truth is LiRA's exposure in the raw data's game. Each score comes from one shadow, about the
records that it was trained on (`seen`) or the others (`held out`), or is a record's mean over all
shadows that saw it, or that did not. An owner has one generator that saw them all; what the others
add says what is in the way. The generators are those of `benchmarks.method` (`--cache`).
"""

import argparse
import json
import os
import pathlib
import pickle
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.method import ROOT, Game, settings, training_key
from curvpub import features, joint, obfuscate
from curvpub.audit import game as play
from curvpub.audit.uncertainty import exposure_intervals
from curvpub.publishers import RawPublisher, make_publisher
from curvpub.types import Array

TITLES = {
    "curvature_at_scale": "curvature at scale, from the record",
    "label_of_neighbourhood": "loss of the label that the neighbourhood decodes to",
    "loss": "a classifier's loss",
}
PROBES = 16


def raw_game(game: Game) -> tuple[np.ndarray, np.ndarray]:
    """LiRA's exposure of every pool record `[N]`, and the classifiers' losses `[K, N]`."""
    config = settings(game.name, {"audit.adaptive_steps": 0})
    attacker = game.attacker(config)
    publisher = RawPublisher(schema=game.dataset.schema)
    world, key = attacker.prepare(game.world), jax.random.key(config.seed)
    played: Iterator = play.play(
        publisher, attacker, key, game.member, world, shadows_per_call=1, calls_at_once=2
    )
    found = dict(tqdm(played, "raw game", total=len(game.member), leave=False))
    confidence = np.stack([found[k]["confidence"] for k in range(len(game.member))])
    return exposure_intervals(confidence, game.member, confidence=0.95).value, -confidence


def generator_scores(game: Game) -> dict[str, np.ndarray]:
    """Every generator's scores of all pool records, `[K, N]` each."""
    config = settings(game.name, {})
    publisher = make_publisher(config, game.dataset.schema)
    gen, space = publisher.problem.generator, publisher.problem.generator.space
    pool, scale = game.dataset.pool, config.lower.scale

    @jax.jit
    def scores(params, stats, x: Array, y: Array) -> dict[str, Array]:
        x = features.encode_features(game.dataset.schema, stats, x)
        probs = jax.nn.one_hot(y, game.dataset.schema.num_classes, dtype=x.dtype)
        fun = gen.decoder_fn(params)

        def one(args: tuple[Array, Array, Array]) -> dict[str, Array]:
            key, x, p = args
            code, record = gen.encode(params, x, p)[0], joint.joint_point(space, x, p)
            seen = obfuscate.exposure(key, fun, code, record, scale=scale, num_probes=PROBES)
            steps = scale * jax.random.normal(key, (PROBES, code.shape[0]), code.dtype)
            heads = jax.vmap(lambda e: gen.decode_heads(params, code + e))(steps)
            label = jnp.mean(jax.nn.softmax(heads[:, space.num_features :]), axis=0)
            loss = -jnp.log(jnp.maximum(label @ p, 1e-9))
            return {"curvature_at_scale": seen, "label_of_neighbourhood": loss}

        keys = jax.random.split(jax.random.key(0), x.shape[0])
        return jax.lax.map(one, (keys, x, probs), batch_size=256)

    paths = game.states(publisher, game.cache / f"{game.name}-{training_key(config)}")
    rows = []
    for shadow, path in enumerate(tqdm(paths, "scores", leave=False)):
        state = pickle.loads(path.read_bytes())  # our own file
        prepared = publisher.prepare(game.members(shadow))
        found = scores(state.generator, prepared.stats, jnp.asarray(pool.x), jnp.asarray(pool.y))
        rows.append(jax.tree.map(np.asarray, found))
    return {name: np.stack([r[name] for r in rows]) for name in rows[0]}


def correlations(score: np.ndarray, member: np.ndarray, exposure: np.ndarray) -> dict[str, float]:
    """Spearman's correlation with exposure, of one shadow (mean of all) and of many."""
    result = {}
    for name, who in (("seen", member), ("held_out", ~member)):
        each = [stats.spearmanr(s[w], exposure[w])[0] for s, w in zip(score, who, strict=True)]
        mean = np.where(who, score, 0.0).sum(axis=0) / who.sum(axis=0)
        result[f"one_{name}"] = float(np.mean(each))
        result[f"many_{name}"] = float(stats.spearmanr(mean, exposure)[0])
    return result


def table(path: pathlib.Path) -> str:
    """Markdown of a result file."""
    lines = [
        "| data: score | one model that saw the record | one that did not "
        "| mean of all that saw it | mean of all that did not |",
        "|---|---|---|---|---|",
    ]
    for text in path.read_text().splitlines():
        row = json.loads(text)
        for name, found in row["scores"].items():
            order = ("one_seen", "one_held_out", "many_seen", "many_held_out")
            cells = [f"{row['data']}: {TITLES[name]}", *(f"{found[k]:.2f}" for k in order)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Computes a data set's row, or prints the table of a result file."""
    parser = argparse.ArgumentParser(description="What ranks records by exposure")
    parser.add_argument("data", nargs="?", default="mnist", help="name of an experiment")
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "runs" / "method")
    default = pathlib.Path(__file__).parent / "results" / "exposure.jsonl"
    parser.add_argument("--out", type=pathlib.Path, default=default, help="lines are added to it")
    parser.add_argument("--table", type=pathlib.Path, help="print this result file as Markdown")
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        return
    game = Game(options.data, options.shadows, options.cache)
    exposure, loss = raw_game(game)
    scores = generator_scores(game) | {"loss": loss}
    row = {
        "data": options.data, "shadows": options.shadows,
        "scores": {k: correlations(v, game.member, exposure) for k, v in scores.items()},
        "machine": f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}",
    }  # fmt: skip
    with options.out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(table(options.out))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
