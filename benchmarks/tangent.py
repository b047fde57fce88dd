"""Does an attack that registers deformations find more than the audit's attacks?

    python -m curvpub.frontier --config=experiments/frontier/digits.py --workdir=runs/digits
    python -m benchmarks.tangent --config=experiments/frontier/digits.py --workdir=runs/digits \
        --points deformed:0.9 method:0.6
    python -m benchmarks.tangent --table benchmarks/results/tangent.jsonl

Takes the releases and signals of a finished frontier's shadows, looks every pool record up along
the tangents of its deformations (`curvpub.audit.tangent`), and attacks by that alone and together
with all other signals. Entries whose images are not deformed have no tangents.
"""

import argparse
import dataclasses
import json
import pathlib
import runpy
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from curvpub.audit import attacks
from curvpub.audit.observers import Attacker
from curvpub.audit.statistics import game_statistics
from curvpub.audit.tangent import TangentObserver
from curvpub.audit.world import make_world
from curvpub.frontier import results, store
from curvpub.frontier.games import Game, open_game
from curvpub.frontier.planning import Play, plan
from curvpub.frontier.play import Player
from curvpub.frontier.settings import from_frontier_dict

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGMAS = (0.1, 0.3)
ALONE, TOGETHER = (
    next(a for a in attacks.REGISTRY if a.name == name) for name in ("tangent", "combined")
)
ATTACKS = (ALONE, dataclasses.replace(TOGETHER, name="combined, tangent"))
BESIDE = ("nearest_calibrated", "generator_copies", "combined")


def open_run(config: str, workdir: pathlib.Path) -> Game:
    """The first seed's game of a frontier."""
    path, _, argument = config.partition(":")
    made = runpy.run_path(path)["get_config"](*([argument] if argument else []))
    settings = from_frontier_dict(made)
    seed = settings.shared.seeds[0]
    return open_game(settings, seed, workdir / "private" / f"seed-{seed}")


def measure(game: Game, player: Player, play: Play) -> Iterator[dict[str, Any]]:
    """Lines of one point: each attack's AUC and TPR with intervals."""
    publish, schema = play.point.config.publish, game.dataset.schema
    world = make_world(schema, game.dataset.pool, game.dataset.test)
    shadows = range(game.shadows)
    releases = [player.release(play, k) for k in tqdm(shadows, play.entry.name, leave=False)]
    known = store.load_signals(play.folder, game.shadows)
    known.pop(ALONE.signals[0], None)  # of the audit's own attack, with its one sigma

    def line(attack: Any, signals: dict[str, np.ndarray], sigma: float | None) -> dict[str, Any]:
        audit = game.config.base.audit
        found = game_statistics(
            attack.score(signals, game.member), game.member, fprs=[audit.fpr],
            bootstrap=audit.bootstrap, confidence=audit.confidence, seed=game.seed,
        )  # fmt: skip
        tpr = found.tpr[0]
        return {
            "data": game.config.shared.name, "entry": play.entry.name,
            "strength": play.point.strength, "attack": attack.name, "sigma": sigma,
            "auc": list(found.auc), "tpr": None if tpr is None else list(tpr),
            "shadows": game.shadows, "machine": results.machine(),
        }  # fmt: skip

    for attack in attacks.REGISTRY:
        if attack.name in BESIDE and attack.signals[0] in known:
            yield line(attack, known, None)
    for sigma in SIGMAS:
        observer = TangentObserver(
            schema=schema, warp=publish.warp, elastic=publish.elastic, sigma=sigma
        )
        ready, look = Attacker((observer,)).prepare(world), jax.jit(observer)
        signals = [look(jax.random.key(0), r, ready)["tangent_score"] for r in releases]
        for attack in ATTACKS:
            yield line(attack, {**known, "tangent_score": np.stack(signals)}, sigma)


def table(path: pathlib.Path) -> str:
    """Markdown of a result file."""
    lines = ["| data: entry | attack | sigma | AUC | TPR |", "|---|---|---|---|---|"]
    for text in path.read_text().splitlines():
        row = json.loads(text)
        show = lambda v, form: (
            "" if v is None else "{} [{}, {}]".format(*(form.format(x) for x in v))
        )
        sigma = "" if row["sigma"] is None else f"{row['sigma']:g}"
        lines.append(
            f"| {row['data']}: {row['entry']}, {row['strength']:g} | {row['attack']} | {sigma} | "
            f"{show(row['auc'], '{:.3f}')} | {show(row['tpr'], '{:.1%}')} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, or writes a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="of the finished frontier")
    parser.add_argument("--workdir", type=pathlib.Path, help="of the finished frontier")
    parser.add_argument(
        "--points", nargs="+", default=["deformed:0.9", "method:0.6"], help="entry:strength"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "benchmarks/results/tangent.jsonl"
    )
    parser.add_argument("--table", type=pathlib.Path)
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return
    if not args.config or not args.workdir:
        parser.error("--config and --workdir of a finished frontier are needed")
    game = open_run(args.config, args.workdir)
    player = Player(game)
    plays = {f"{p.entry.name}:{p.point.strength:g}": p for p in plan(game)}
    for point in args.points:
        if point not in plays or store.missing_shadows(plays[point].folder, game.shadows):
            parser.error(f"--points {point}: not played; known points: {' '.join(plays)}")
    with args.out.open("a") as file:
        for point in args.points:
            for row in measure(game, player, plays[point]):
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(table(args.out))


if __name__ == "__main__":
    main()
