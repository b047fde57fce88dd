"""Time and memory of the audit's figures, beside the plain ways of computing them.

    python benchmarks/audit.py --shadows=64 --records=60000
    python benchmarks/audit.py --observers --records=4000

Both ways are timed side by side in one run; ratios count. The plain ways are run on a few shadows
and scaled up: the bootstrap in proportion to the shadows, leave-one-pair-out to their square.
Memory is the most that NumPy had allocated at once. `--observers` times each way of looking at one
release of random 28 x 28 images instead: half as many members as records, published twice.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable

import jax
import numpy as np

from curvpub.audit import (
    complementary_pairs,
    delong,
    game_statistics,
    lira,
    lira_target,
    make_world,
    standard_attacker,
)
from curvpub.audit.roc import rank
from curvpub.models.networks import Mlp
from curvpub.types import Records, Release, Schema

FPRS = (0.01, 0.001)
PLAIN_SHADOWS = 8


def plain_bootstrap(scores: np.ndarray, member: np.ndarray, bootstrap: int) -> np.ndarray:
    """AUC and TPR of each shadow under every resample, all weights at once; `[K, 1 + f, B]`."""
    rng = np.random.default_rng(0)
    count = scores.shape[1]
    weights = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap).astype(np.float64)
    rows = []
    for score, inside in zip(scores, member, strict=True):
        ranking = rank(score, inside)
        ranked = weights[:, ranking.order]
        positive = np.add.reduceat(ranked * inside[ranking.order], ranking.start, axis=1)
        negative = np.add.reduceat(ranked * ~inside[ranking.order], ranking.start, axis=1)
        true, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        area = (negative * (true - 0.5 * positive)).sum(axis=1) / true[:, -1] / false[:, -1]
        figures = [area]
        for fpr in FPRS:
            passed = (false <= (fpr + 1e-12) * false[:, -1:]).sum(axis=1)
            hits = np.concatenate([np.zeros((bootstrap, 1)), true], axis=1)
            figures.append(hits[np.arange(bootstrap), passed] / true[:, -1])
        rows.append(figures)
    return np.array(rows)


def plain_lira(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Every shadow against the other pairs, all moments anew; `[K, N]`."""
    rows = []
    for k in range(len(scores)):
        rest = np.delete(np.arange(len(scores)), [k, k ^ 1])
        rows.append(lira_target(scores[k], scores[rest], member[rest]))
    return np.array(rows)


def measure(fun: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the peak of memory in MB (in a second call, since tracing takes time)."""
    began = time.perf_counter()
    fun()
    seconds = time.perf_counter() - began
    tracemalloc.start()
    fun()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


def time_observers(records: int) -> None:
    """Prints the seconds of each observer, compiled before, on one release."""
    schema = Schema(name="noise", kind="image", shape=(28, 28, 1), classes=tuple("0123456789"))
    rng = np.random.default_rng(0)

    def draw(count: int) -> Records:
        x = rng.random((count, *schema.shape), np.float32)
        return Records(x=x, y=rng.integers(0, 10, count).astype(np.int32))

    world = make_world(schema, draw(records), draw(min(records, 10_000)))
    release = draw(records)
    release = Release(x=release.x, y=np.eye(10, dtype=np.float32)[release.y])
    attacker = standard_attacker(
        schema, Mlp((256,), 10), steps=600, batch_size=128, learning_rate=2e-3, label_scale=10.0
    )
    for observer in attacker.observers:
        call = jax.jit(observer).lower(jax.random.key(0), release, world).compile()
        seconds = []
        for seed in range(3):
            began = time.perf_counter()
            jax.block_until_ready(call(jax.random.key(seed), release, world))
            seconds.append(time.perf_counter() - began)
        print(
            f"{observer.name}: {min(seconds):.2f} s ({records} records, {len(release)} published)"
        )


def main() -> None:
    """Prints one line for each figure."""
    parser = argparse.ArgumentParser(description="Time and memory of the audit.")
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--observers", action="store_true")
    args = parser.parse_args()
    if args.observers:
        time_observers(args.records)
        return
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=args.shadows, num_records=args.records)
    scores = rng.normal(size=member.shape) + 0.5 * member
    few = min(PLAIN_SHADOWS, args.shadows)
    factor = args.shadows / few
    print(f"{args.shadows} shadows x {args.records} records, {args.bootstrap} resamples")

    def statistics() -> object:
        return game_statistics(
            scores, member, fprs=FPRS, bootstrap=args.bootstrap, confidence=0.95, seed=0
        )

    rows = {
        "intervals of the game": (
            statistics,
            lambda: plain_bootstrap(scores[:2], member[:2], args.bootstrap),
            args.shadows / 2,
        ),
        "LiRA": (
            lambda: lira(scores, member),
            lambda: plain_lira(scores[:few], member[:few]),
            factor**2,
        ),
    }
    for name, (ours, plain, scale) in rows.items():
        (seconds, peak), (plain_seconds, plain_peak) = measure(ours), measure(plain)
        print(
            f"{name}: {seconds:.2f} s, {peak:.0f} MB; plain {scale * plain_seconds:.2f} s, "
            f"{plain_peak:.0f} MB; {scale * plain_seconds / seconds:.1f} times as fast"
        )
    seconds, peak = measure(lambda: delong(scores[0], member[0]))
    print(f"AUC of one release with its interval: {seconds:.3f} s, {peak:.0f} MB")


if __name__ == "__main__":
    main()
