"""How many published images must an attacker register, or trace back, to find records?

    python -m curvpub.frontier --config=experiments/frontier/digits.py --workdir=runs/digits
    python -m benchmarks.registration --config=experiments/frontier/digits.py \
        --workdir=runs/digits --points deformed:0.9 method:0.6 --counts 1 8 --traced 8 --shadows 8
    python -m benchmarks.registration --table benchmarks/results/registration.jsonl

Takes the releases and signals of some of a finished frontier's shadows, deforms every pool record
into its nearest published images (`curvpub.audit.registration`), more and more of them, or traces
every published image to more and more records or pairs (`curvpub.audit.sources`), and attacks by
that alone and together with all other signals.
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
from curvpub.audit.sources import SourceObserver, plain_mixtures
from curvpub.audit.statistics import game_statistics
from curvpub.audit.tangent import TangentObserver
from curvpub.audit.world import make_world
from curvpub.frontier import results, store
from curvpub.frontier.games import Game, open_game
from curvpub.frontier.planning import Play, plan
from curvpub.frontier.play import Player
from curvpub.frontier.registry import PUBLISHERS
from curvpub.frontier.settings import from_frontier_dict
from curvpub.types import Schema

ROOT = pathlib.Path(__file__).resolve().parent.parent
REGISTRATION, SOURCES, TOGETHER = (
    next(a for a in attacks.REGISTRY if a.name == name)
    for name in ("registration", "sources", "combined")
)
WITH_IT = dataclasses.replace(TOGETHER, name="combined with it")
BESIDE = ("nearest_calibrated", "tangent", "generator_copies", "combined")


def open_run(config: str, workdir: pathlib.Path) -> Game:
    """The first seed's game of a frontier."""
    path, _, argument = config.partition(":")
    made = runpy.run_path(path)["get_config"](*([argument] if argument else []))
    settings = from_frontier_dict(made)
    seed = settings.shared.seeds[0]
    return open_game(settings, seed, workdir / "private" / f"seed-{seed}")


def observers(
    play: Play, schema: Schema, counts: Sequence[int], traced: Sequence[int]
) -> Iterator[tuple[attacks.Attack, str, int, RegistrationObserver | SourceObserver]]:
    """What looks at a point's releases: attack, name of its count, the count, and how."""
    publish, mixtures = play.point.config.publish, PUBLISHERS[play.entry.kind].mixtures
    tangent = TangentObserver(schema=schema, warp=publish.warp, elastic=publish.elastic)
    for count in counts if mixtures != "plain" else ():
        yield (
            REGISTRATION,
            "registered",
            count,
            RegistrationObserver(tangent=tangent, registered=count),
        )
    for count in traced:
        tracing = SourceObserver(tangent=tangent, traced=count, mixtures=mixtures == "deformed")
        plain = plain_mixtures(schema, traced=count)
        yield SOURCES, "traced", count, plain if mixtures == "plain" else tracing


def measure(
    game: Game, player: Player, play: Play, *, shadows: int, counts: Sequence[int],
    traced: Sequence[int],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Lines of one point: each attack's AUC and TPR with intervals."""
    schema = game.dataset.schema
    world = make_world(schema, game.dataset.pool, game.dataset.test)
    played = tqdm(range(shadows), play.entry.name, leave=False)
    releases = [player.release(play, k) for k in played]
    known = {k: v[:shadows] for k, v in store.load_signals(play.folder, game.shadows).items()}
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
    for attack, name, count, observer in observers(play, schema, counts, traced):
        ready, look = Attacker((observer,)).prepare(world), jax.jit(observer)
        signals, seconds = [], []
        for release in tqdm(releases, f"{count} {name}", leave=False):
            began = time.perf_counter()
            found = look(jax.random.key(0), release, ready)
            signals.append(np.asarray(found[attack.signals[0]]))
            seconds.append(time.perf_counter() - began)
        # Of the audit's own attack with its one count, the signal is replaced.
        own = {**known, attack.signals[0]: np.stack(signals)}
        for one in (attack, WITH_IT):
            yield line(one, own, **{name: count}, seconds=round(float(np.median(seconds)), 2))


def table(path: pathlib.Path) -> str:
    """Markdown of a result file."""
    lines = [
        "| data: entry | attack | registered | traced | AUC | TPR | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for text in path.read_text().splitlines():
        row = json.loads(text)
        show = lambda v, form: (
            "" if v is None else "{} [{}, {}]".format(*(form.format(x) for x in v))
        )
        lines.append(
            f"| {row['data']}: {row['entry']}, {row['strength']:g} | {row['attack']} | "
            f"{row.get('registered', '')} | {row.get('traced', '')} | "
            f"{show(row['auc'], '{:.3f}')} | {show(row['tpr'], '{:.1%}')} | "
            f"{row.get('seconds', '')} |"
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
    parser.add_argument("--counts", nargs="*", type=int, default=[1, 4, 16, 64], help="registered")
    parser.add_argument("--traced", nargs="*", type=int, default=[8], help="records or pairs")
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
                game, player, plays[point], shadows=args.shadows, counts=args.counts,
                traced=args.traced,
            ):  # fmt: skip
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(table(args.out))


if __name__ == "__main__":
    main()
