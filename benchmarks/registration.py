"""How many published images must an attacker register to find deformed records?

    python -m curvpub.frontier --config=experiments/frontier/digits.py --workdir=runs/digits
    python -m benchmarks.registration --config=experiments/frontier/digits.py \
        --workdir=runs/digits --points deformed:0.9 method:0.6 --shadows 8
    python -m benchmarks.registration --table benchmarks/results/registration.jsonl

Takes the releases and signals of some of a finished frontier's shadows, deforms every pool record
into its nearest published images (`curvpub.audit.registration`), more and more of them, and
attacks by that alone and together with all other signals.
"""

import argparse
import dataclasses
import json
import pathlib
import runpy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from curvpub.audit import attacks
from curvpub.audit.observers import Attacker
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.statistics import game_statistics
from curvpub.audit.tangent import TangentObserver
from curvpub.audit.world import make_world
from curvpub.frontier import results, store
from curvpub.frontier.games import Game, open_game
from curvpub.frontier.planning import Play, plan
from curvpub.frontier.play import Player
from curvpub.frontier.settings import from_frontier_dict

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALONE, TOGETHER = (
    next(a for a in attacks.REGISTRY if a.name == name) for name in ("registration", "combined")
)
ATTACKS = (ALONE, dataclasses.replace(TOGETHER, name="combined with it"))
BESIDE = ("nearest_calibrated", "tangent", "generator_copies", "combined")


def open_run(config: str, workdir: pathlib.Path) -> Game:
    """The first seed's game of a frontier."""
    path, _, argument = config.partition(":")
    made = runpy.run_path(path)["get_config"](*([argument] if argument else []))
    settings = from_frontier_dict(made)
    seed = settings.shared.seeds[0]
    return open_game(settings, seed, workdir / "private" / f"seed-{seed}")


def measure(
    game: Game, player: Player, play: Play, *, shadows: int, counts: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Lines of one point: each attack's AUC and TPR with intervals."""
    publish, schema = play.point.config.publish, game.dataset.schema
    world = make_world(schema, game.dataset.pool, game.dataset.test)
    played = tqdm(range(shadows), play.entry.name, leave=False)
    releases = [player.release(play, k) for k in played]
    known = {k: v[:shadows] for k, v in store.load_signals(play.folder, game.shadows).items()}
    known.pop(ALONE.signals[0], None)  # of the audit's own attack, with its one count
    member = game.member[:shadows]

    def line(attack: Any, signals: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
        audit = game.config.base.audit
        found = game_statistics(
            attack.score(signals, member), member, fprs=[audit.fpr],
            bootstrap=audit.bootstrap, confidence=audit.confidence, seed=game.seed,
        )  # fmt: skip
        tpr = found.tpr[0]
        return {
            "data": game.config.shared.name, "entry": play.entry.name,
            "strength": play.point.strength, "attack": attack.name,
            "auc": list(found.auc), "tpr": None if tpr is None else list(tpr), **more,
            "shadows": shadows, "machine": results.machine(),
        }  # fmt: skip

    for attack in attacks.REGISTRY:
        if attack.name in BESIDE and attack.signals[0] in known:
            yield line(attack, known)
    tangent = TangentObserver(schema=schema, warp=publish.warp, elastic=publish.elastic)
    for count in counts:
        observer = RegistrationObserver(tangent=tangent, registered=count)
        ready, look = Attacker((observer,)).prepare(world), jax.jit(observer)
        signals, seconds = [], []
        for release in tqdm(releases, f"{count} registered", leave=False):
            began = time.perf_counter()
            signals.append(np.asarray(look(jax.random.key(0), release, ready)["registered_score"]))
            seconds.append(time.perf_counter() - began)
        for attack in ATTACKS:
            yield line(
                attack,
                {**known, "registered_score": np.stack(signals)},
                registered=count,
                seconds=round(float(np.median(seconds)), 2),
            )


def table(path: pathlib.Path) -> str:
    """Markdown of a result file."""
    lines = [
        "| data: entry | attack | registered | AUC | TPR | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for text in path.read_text().splitlines():
        row = json.loads(text)
        show = lambda v, form: (
            "" if v is None else "{} [{}, {}]".format(*(form.format(x) for x in v))
        )
        lines.append(
            f"| {row['data']}: {row['entry']}, {row['strength']:g} | {row['attack']} | "
            f"{row.get('registered', '')} | {show(row['auc'], '{:.3f}')} | "
            f"{show(row['tpr'], '{:.1%}')} | {row.get('seconds', '')} |"
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
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 4, 16, 64], help="registered")
    parser.add_argument("--shadows", type=int, default=8, help="how many, in whole pairs")
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "benchmarks/results/registration.jsonl"
    )
    parser.add_argument("--table", type=pathlib.Path)
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return
    if not args.config or not args.workdir:
        parser.error("--config and --workdir of a finished frontier are needed")
    game = open_run(args.config, args.workdir)
    if not 4 <= args.shadows <= game.shadows or args.shadows % 2:
        parser.error(f"--shadows={args.shadows} must be even, from 4 to {game.shadows}")
    player = Player(game)
    plays = {f"{p.entry.name}:{p.point.strength:g}": p for p in plan(game)}
    for point in args.points:
        if point not in plays or store.missing_shadows(plays[point].folder, game.shadows):
            parser.error(f"--points {point}: not played; known points: {' '.join(plays)}")
    with args.out.open("a") as file:
        for point in args.points:
            for row in measure(
                game, player, plays[point], shadows=args.shadows, counts=args.counts
            ):
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(table(args.out))


if __name__ == "__main__":
    main()
