"""What each part of the method buys: variants of one publisher in the whole-publisher game.

    python -m benchmarks.method mnist --shadows 16                 # all variants, or some:
    python -m benchmarks.method mnist --shadows 16 --only=method,plain
    python -m benchmarks.method mnist --shadows 16 --only="no ,selection"
    python -m benchmarks.method --table benchmarks/results/method-mnist.jsonl

Every variant is a change of settings. Those that change training have generators of their own;
generators are trained once for each shadow and kept in `--cache` (private data are in them), and
every variant publishes from the same ones. One line of JSON for each variant and run.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import pickle
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from tqdm import tqdm

from curvpub import audit, bilevel, data
from curvpub.config import Config, from_config_dict
from curvpub.publishers.curvature import CurvaturePublisher, Prepared, make_publisher
from curvpub.stages.attacker import attacker_of
from curvpub.types import Dataset, Records

ROOT = pathlib.Path(__file__).parent.parent
ATTACKS = (
    "lira",
    "rmia",
    "nearest_calibrated",
    "density_calibrated",
    "pairs",
    "generator",
    "generator_calibrated",
    "generator_copies",
    "combined",
)

ALL_KEPT = {"lower.left_out": 0.0}
"""Of every variant that does not say otherwise: averages over all records show the other parts."""
LEFT_OUT = {"lower.left_out": 0.1}
NO_DEFORMATION = {"publish.warp": 0.0, "publish.elastic": 0.0}
NO_GUIDANCE = {
    "publish.oversample": 1, "publish.label_spread": 0.0, "publish.drift_steps": 0,
}  # fmt: skip
NO_CURVATURE = {**NO_GUIDANCE, "lower.batch_fraction": 0.0, "publish.rho_exposed": 0.5}
PRIOR = {"publish.rho": 0.0, "publish.rho_exposed": 0.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "method": {},
    # The bar: plain sampling with the same decoder.
    "plain prior": {**NO_DEFORMATION, **NO_GUIDANCE, **PRIOR},
    "plain noise": {**NO_DEFORMATION, **NO_CURVATURE},
    # Part by part.
    "no deformation": NO_DEFORMATION,
    "no curvature": NO_CURVATURE,
    "no label spread": {"publish.label_spread": 0.0},
    "selection": {"publish.oversample": 2},
    "selection by pointwise curvature": {"publish.oversample": 2, "lower.scale": 0.05},
    "from the prior": PRIOR,
    "no discriminator": {"train.adversarial_weight": 0.0},
    "Langevin": {"lower.temperature": 0.02},
    # Noise drowns the gradient: any direction, as far as the trust region goes.
    "random direction": {"lower.temperature": 100.0},
    "no joint label": {"model.label_scale": 0.01},
    "a tenth left out": LEFT_OUT,
    # The generator sees each image deformed anew.
    "trained on deformed images": LEFT_OUT | {"train.warp": 0.16, "train.elastic": 0.2},
    "trained on more deformed ones": LEFT_OUT | {"train.warp": 0.32, "train.elastic": 0.4},
    "trained longer on deformed images": LEFT_OUT | {
        "train.warp": 0.16, "train.elastic": 0.2, "train.steps": 3_000,
    },
    "trained longer on more deformed ones": LEFT_OUT | {
        "train.warp": 0.32, "train.elastic": 0.4, "train.steps": 3_000,
    },
    # Strengths.
    "half deformed": {"publish.warp": 0.25, "publish.elastic": 0.3},
    "half deformed, few": {
        "publish.warp": 0.25, "publish.elastic": 0.3, "publish.copies": 0.5,
    },
    "more deformed": {"publish.warp": 0.75, "publish.elastic": 0.9},
    "pixel noise": {"publish.pixel_noise": 0.1},
    "two copies": {"publish.copies": 2.0},
    # Other decoders, sampled plainly: what blurs or narrows them.
    "blurred prior": {**NO_DEFORMATION, **NO_GUIDANCE, **PRIOR, "model.x_sigma": 0.3},
    "narrow prior": {**NO_DEFORMATION, **NO_GUIDANCE, **PRIOR, "model.hidden": (64, 64)},
    "short prior": {**NO_DEFORMATION, **NO_GUIDANCE, **PRIOR, "train.steps": 300},
    "few from the prior": {**NO_DEFORMATION, **NO_GUIDANCE, **PRIOR, "publish.copies": 0.5},
}  # fmt: skip


def settings(name: str, changes: dict[str, Any]) -> Config:
    """The small configuration of an experiment with some settings changed."""
    path = ROOT / "experiments" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chosen = module.get_config() if name == "digits" else module.get_config("small")
    for key, value in (ALL_KEPT | changes).items():
        section, field = key.split(".")
        chosen[section][field] = value
    return from_config_dict(chosen)


def training_key(config: Config) -> str:
    """Hash of everything that trained generators depend on."""
    parts = [dataclasses.asdict(p) for p in (config.data, config.model, config.lower, config.train)]
    code = "".join(p.read_text() for p in sorted((ROOT / "curvpub").glob("*.py")))
    text = json.dumps([*parts, config.seed, hashlib.sha256(code.encode()).hexdigest()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Game:
    """One data set, one design, one attacker; generators are cached."""

    def __init__(self, name: str, shadows: int, cache: pathlib.Path):
        """Loads the data and puts what the attacker knows on the device."""
        self.name, self.cache = name, cache
        base = settings(name, {})
        self.dataset: Dataset = data.load(base.data, seed=base.seed)
        schema = self.dataset.schema
        self.world = audit.make_world(schema, self.dataset.pool, self.dataset.test)
        self.member = audit.complementary_pairs(
            np.random.default_rng([base.seed, 2]),
            num_shadows=shadows,
            num_records=len(self.dataset.pool),
        )

    def attacker(self, config: Config) -> audit.Attacker:
        """Who knows the method and its settings, as in the audit, with one classifier, no flows."""
        few = dataclasses.replace(config.audit, attackers=(), flow_steps=0)
        return attacker_of(dataclasses.replace(config, audit=few), self.dataset.schema)

    def members(self, shadow: int) -> Records:
        """The records of one shadow."""
        rows, pool = np.flatnonzero(self.member[shadow]), self.dataset.pool
        return Records(x=jnp.asarray(pool.x[rows]), y=jnp.asarray(pool.y[rows]))

    def states(self, publisher: CurvaturePublisher, folder: pathlib.Path) -> list[pathlib.Path]:
        """One file with a trained state for each shadow."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

        @jax.jit
        def train(key: jax.Array, records: Records) -> bilevel.BilevelState:
            prepared = publisher.prepare(records)
            state = bilevel.init_state(key, publisher.problem, len(records))
            steps = publisher.problem.train.steps
            state, _ = bilevel.run_steps(
                publisher.problem, state, prepared.x, prepared.probs, num_steps=steps
            )
            return dataclasses.replace(state, key=jax.random.key_data(state.key))

        paths = [folder / f"{k}.pkl" for k in range(len(self.member))]
        for shadow, path in enumerate(tqdm(paths, "train", leave=False)):
            if not path.exists():
                key = jax.random.fold_in(jax.random.key(7), shadow)
                state = jax.tree.map(np.asarray, train(key, self.members(shadow)))
                path.with_suffix(".part").write_bytes(pickle.dumps(state))
                path.with_suffix(".part").rename(path)
        return paths

    def play(self, changes: dict[str, Any]) -> tuple[dict[str, np.ndarray], float]:
        """Signals of all shadows of a variant, and the seconds that publishing and attack took."""
        config = settings(self.name, changes)
        publisher = make_publisher(config, self.dataset.schema)
        folder = self.cache / f"{self.name}-{training_key(config)}"
        # One decoder for all that publish from it: it trains with the experiment's own way to.
        base = dataclasses.replace(config, publish=settings(self.name, {}).publish)
        trainer = make_publisher(base, self.dataset.schema)
        paths, began = self.states(trainer, folder), time.perf_counter()
        attacker = self.attacker(config)
        prepared_world = attacker.prepare(self.world)

        @jax.jit
        def shadow(key: jax.Array, state: Any, records: Records, world: audit.World) -> Any:
            key_publish, key_attack = jax.random.split(key)
            prepared: Prepared = publisher.prepare(records)
            release, _ = publisher.publish(key_publish, state, prepared)
            return attacker.observe(key_attack, release, world)

        found = []
        for number, path in enumerate(tqdm(paths, "attack", leave=False)):
            state = pickle.loads(path.read_bytes())  # our own file
            state = dataclasses.replace(state, key=jax.random.wrap_key_data(state.key))
            key = jax.random.fold_in(jax.random.key(11), number)
            signals = shadow(key, state, self.members(number), prepared_world)
            found.append(jax.tree.map(np.asarray, signals))
        seconds = time.perf_counter() - began
        return {k: np.stack([f[k] for f in found]) for k in found[0]}, seconds


def figures(signals: dict[str, np.ndarray], member: np.ndarray) -> dict[str, Any]:
    """Accuracy with its standard error, and every attack's figures with 95% intervals."""
    scores, accuracy = audit.attack_scores(signals, member), signals["accuracy"]
    error = float(accuracy.std(ddof=1) / len(accuracy) ** 0.5)
    row: dict[str, Any] = {"accuracy": float(accuracy.mean()), "accuracy_se": error}
    for name in ATTACKS:
        if name not in scores:  # nothing was deformed
            row[name] = None
            continue
        found = audit.game_statistics(
            scores[name], member, fprs=[0.01], bootstrap=200, confidence=0.95, seed=0
        )
        row[name] = {"auc": list(found.auc), "tpr": list(found.tpr[0]) if found.tpr[0] else None}
    return row


SHOWN = {
    "combined": "all signals",
    "generator_calibrated": "own generator",
    "rmia": "RMIA",
    "nearest_calibrated": "nearest, calibrated",
}


def table(path: pathlib.Path) -> str:
    """Markdown of a result file: AUC, and the strongest's TPR at 1% FPR, with 95% intervals."""
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    first, *others = SHOWN.values()
    head = ["variant", "accuracy", f"{first}: AUC", "TPR", *(f"{name}: AUC" for name in others)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
    for row in sorted(rows, key=lambda r: list(VARIANTS).index(r["variant"])):
        half = 100 * stats.t.ppf(0.975, row["shadows"] - 1) * row["accuracy_se"]
        cells = [row["variant"], f"{100 * row['accuracy']:.1f} ± {half:.1f}%"]
        for name in SHOWN:
            cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*row[name]["auc"]))
            if name == "combined":
                cells.append(
                    "{:.1f} [{:.1f}, {:.1f}]%".format(*(100 * t for t in row[name]["tpr"]))
                )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Plays the variants, or prints the table of a result file."""
    parser = argparse.ArgumentParser(description="Variants of the method in the game")
    parser.add_argument("data", nargs="?", default="mnist", help="name of an experiment")
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--only", default="", help="variants with one of these texts in their name")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "runs" / "method")
    parser.add_argument("--out", type=pathlib.Path, help="result file, lines are added to it")
    parser.add_argument("--table", type=pathlib.Path, help="print this result file as Markdown")
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        return
    out = options.out or pathlib.Path(__file__).parent / "results" / f"method-{options.data}.jsonl"
    game = Game(options.data, options.shadows, options.cache)
    for name, changes in VARIANTS.items():
        if not any(part in name for part in options.only.split(",")):
            continue
        signals, seconds = game.play(changes)
        row = {
            "data": options.data, "variant": name, "changes": changes, "shadows": options.shadows,
            **figures(signals, game.member), "seconds": round(seconds, 1),
            "machine": f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}",
        }  # fmt: skip
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name}: {row['accuracy']:.2%}, all signals {row['combined']}", flush=True)
    print(f"written to {out}; python -m benchmarks.method --table {out}")


if __name__ == "__main__":
    main()
