"""Parts of the audit beside the plain ways of computing them: distances, scores, statistics."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit import (
    complementary_pairs,
    delong,
    game_statistics,
    lira,
    lira_target,
    make_world,
    nearest_release_distance,
    standard_attacker,
)
from curvpub.audit.attacks import REGISTRY
from curvpub.audit.roc import rank
from curvpub.models.networks import Mlp
from curvpub.types import Array, Records, Release, Schema

FPRS = (0.01, 0.001)
PLAIN_SHADOWS = 8
BLOCK = 512


def seconds(fun: Callable[[], Any], runs: int = 1) -> float:
    """Least seconds of some calls."""
    best = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(fun())
        best = min(best, time.perf_counter() - began)
    return best


def nearest_ways(points: np.ndarray, release: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Ways to find each point's nearest published record; those that are not installed are absent.

    The bare product computes all inner products and keeps the largest, and nothing else.
    """
    x, r = jnp.asarray(points), jnp.asarray(release)
    ours = jax.jit(nearest_release_distance).lower(x, r).compile()

    def product(x: Array, r: Array) -> Array:
        blocks = x.reshape(-1, BLOCK, x.shape[1])
        return jax.lax.map(lambda b: jnp.max(b @ r.T, axis=1), blocks)

    padded = jnp.pad(x, ((0, -len(x) % BLOCK), (0, 0)))
    bare = jax.jit(product).lower(padded, r).compile()
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: np.asarray(ours(x, r)),
        "bare matrix product": lambda: bare(padded, r),
    }
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(release)
    ways["scikit-learn"] = lambda: search.kneighbors(points)[0][:, 0]
    try:
        import faiss
    except ImportError:
        return ways
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(release)
    ways["faiss"] = lambda: np.sqrt(np.maximum(index.search(points, 1)[0][:, 0], 0))
    return ways


def planted(shadows: int, records: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Signals of a leaky publisher, and who is a member, `[K, N]`."""
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    confidence = rng.normal(size=records) + member + rng.normal(size=member.shape)
    signals = {
        "confidence": confidence,
        "log_prob": -np.logaddexp(0, -confidence),
        "modified_entropy": np.logaddexp(0, -confidence),
        "robustness": np.round(9 / (1 + np.exp(-confidence))) / 9,
        "population_log_prob": -np.logaddexp(0, -rng.normal(size=(shadows, 2000))),
        "distance": np.exp(-confidence),
        "agreement": np.round(5 / (1 + np.exp(-confidence))) / 5,
        "density_ratio": confidence,
        "attribute": confidence,
    }
    return {k: v.astype(np.float32) for k, v in signals.items()}, member


def time_scores(shadows: int, records: int) -> dict[str, float]:
    """Seconds that each attack takes to score all pairs of record and shadow."""
    signals, member = planted(shadows, records)
    return {
        attack.name: seconds(lambda attack=attack: attack.score(signals, member))
        for attack in REGISTRY
        if set(attack.signals) <= set(signals)
    }


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
    """Seconds, and the peak of NumPy's memory in MB (in a second call: tracing takes time)."""
    spent = seconds(fun)
    tracemalloc.start()
    fun()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return spent, peak


def time_statistics(shadows: int, records: int, bootstrap: int) -> list[dict[str, Any]]:
    """Rows of the game's statistics; the plain ways run on a few shadows and are scaled up.

    The bootstrap in proportion to the shadows, leave-one-pair-out to their square.
    """
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    scores = rng.normal(size=member.shape) + 0.5 * member
    few = min(PLAIN_SHADOWS, shadows)
    options = {"fprs": FPRS, "bootstrap": bootstrap, "confidence": 0.95, "seed": 0}
    ways = {
        "intervals of the game": (
            lambda: game_statistics(scores, member, **options),
            lambda: plain_bootstrap(scores[:2], member[:2], bootstrap),
            shadows / 2,
        ),
        "LiRA": (
            lambda: lira(scores, member),
            lambda: plain_lira(scores[:few], member[:few]),
            (shadows / few) ** 2,
        ),
    }
    rows = []
    for name, (ours, plain, scale) in ways.items():
        (own, peak), (theirs, plain_peak) = measure(ours), measure(plain)
        rows.append(
            {"what": name, "against": "plain", "unit": "s", "ours": own, "other": scale * theirs}
            | {"ratio": scale * theirs / own, "ours_mb": peak, "other_mb": plain_peak}
            | {"shadows": shadows, "records": records}
        )
    spent, peak = measure(lambda: delong(scores[0], member[0]))
    rows.append({"what": "AUC of one release with its interval", "unit": "s", "ours": spent}
                | {"ours_mb": peak, "records": records})  # fmt: skip
    return rows


def time_observers(records: int) -> list[dict[str, Any]]:
    """Seconds of each observer, compiled before, on one release of random 28 x 28 images."""
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
    rows = []
    for observer in attacker.observers:
        call = jax.jit(observer).lower(jax.random.key(0), release, world).compile()
        spent = seconds(lambda call=call: call(jax.random.key(1), release, world), runs=3)
        rows.append({"what": f"observer {observer.name}", "unit": "s", "ours": spent}
                    | {"records": records, "published": len(release)})  # fmt: skip
    return rows
