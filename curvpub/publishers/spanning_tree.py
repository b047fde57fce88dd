"""MST on the host: noisy marginals of a table of codes, along a tree, and records that fit them.

Source: McKenna, Miklau and Sheldon, "Winning the NIST Contest: A scalable and general approach to
differentially private synthetic data" (arXiv 2108.04978), Section 4. Inference is that of `mbi`
(Private-PGM; McKenna, Sheldon and Miklau, arXiv 1901.09136).

It runs as a process of its own, `python -m curvpub.publishers.spanning_tree`, since it is asked for
from within a JAX program, and `mbi` is JAX itself: a program that waits for another one on the same
device may wait for ever. Records go through pipes and are never written down.
"""

import hashlib
import io
import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np

from curvpub.dp import concentrated

_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "true", "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_NUMPY_RANK_PROMOTION": "allow",
}  # fmt: skip
"""Of the process: what `mbi` is written for, whatever this one has."""
_LEAST = 3.0  # noise deviations that a value's count must reach to be kept apart


def synthesise_apart(seed: np.ndarray, codes: np.ndarray, **settings: Any) -> np.ndarray:
    """`synthesise` in a process of its own; nothing of its traceback is passed on.

    Raises:
      RuntimeError: it failed; the message has the kind of the error alone.
    """
    given = io.BytesIO()
    np.savez(given, seed=seed, codes=codes, **settings)
    done = subprocess.run(
        [sys.executable, "-m", "curvpub.publishers.spanning_tree"],
        input=given.getvalue(),
        capture_output=True,
        check=False,
        env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        kind = next((t for t in lines if t.startswith(_FAILED)), f"status {done.returncode}")
        raise RuntimeError(f"the marginals' process failed: {kind.removeprefix(_FAILED)}")
    return np.load(io.BytesIO(done.stdout), allow_pickle=False)


def synthesise(
    seed: np.ndarray,
    codes: np.ndarray,
    *,
    sizes: np.ndarray,
    rho: float,
    total: float,
    rows: int,
    iterations: int,
) -> np.ndarray:
    """Synthetic codes `[rows, d]`.

    Formal guarantees:
      rho-zCDP under adding or removing one record, with `total` public: a third goes to the d
      one-way marginals, a third to d - 1 exponential mechanisms that choose a tree of pairs, a
      third to the tree's d - 1 two-way marginals. Each marginal is a histogram that one record
      moves by 1; the score of a pair, the L1 distance of its marginal to what the noisy one-way
      marginals say, moves by at most 1. Everything else is post-processing.

    Args:
      seed: whole numbers of all randomness, each less than 2^32.
      codes: private records, int `[n, d]`, column j in [0, sizes[j]).
      sizes: int `[d]`, d at least 2.
      rho: the budget.
      total: public number of records.
      rows: how many to make.
      iterations: of mirror descent.
    """
    rng = np.random.default_rng(stream_seed(seed, "noise and choice"))
    columns = len(sizes)
    deviation = concentrated.gaussian_deviation(rho / 3.0, queries=columns)
    count = lambda j: np.bincount(codes[:, j], minlength=sizes[j])
    single = [count(j) + rng.normal(0.0, deviation, sizes[j]) for j in range(columns)]
    maps = [merge_rare(s, _LEAST * deviation) for s in single]
    codes = np.stack([m[codes[:, j]] for j, m in enumerate(maps)], axis=1)
    merged = np.array([m.max() + 1 for m in maps])
    measured: list[Any] = [((j,), *_merged(single[j], maps[j]), deviation) for j in range(columns)]
    model = _fit(merged, measured, total, iterations)
    alone = [np.asarray(model.project((_name(j),)).datavector()) for j in range(columns)]
    epsilon = concentrated.exponential_epsilon(rho / 3.0, rounds=columns - 1)
    pairs = choose_tree(rng, _scores(codes, merged, alone, total), columns, epsilon)
    deviation = concentrated.gaussian_deviation(rho / 3.0, queries=columns - 1)
    for a, b in pairs:
        noisy = _pair(codes, merged, a, b).reshape(-1)
        noisy = noisy + rng.normal(0.0, deviation, noisy.size)
        measured.append(((a, b), noisy, np.ones(noisy.size), deviation))
    model = _fit(merged, measured, total, iterations)
    np.random.seed(stream_seed(seed, "mbi"))  # what it draws with
    rng = np.random.default_rng(stream_seed(seed, "values and order"))  # these show
    made = model.synthetic_data(rows=rows).to_dict()
    drawn = [_unmerge(rng, np.asarray(made[_name(j)]), maps[j]) for j in range(columns)]
    return rng.permutation(np.stack(drawn, axis=1).astype(np.int32))


def stream_seed(seed: np.ndarray, purpose: str) -> np.ndarray:
    """Seed of one purpose's generator, eight whole numbers.

    Generators of NumPy can be inverted: what shows, such as the order of rows, may tell the state
    that it was drawn from. SHA-256 cannot, so that no purpose tells another's; the spawned seeds of
    `np.random.SeedSequence` are mixed by steps that may be undone.

    Args:
      seed: whole numbers of all randomness, each less than 2^32.
      purpose: what the generator is for.
    """
    digest = hashlib.sha256(np.asarray(seed, "<u4").tobytes() + purpose.encode()).digest()
    return np.frombuffer(digest, "<u4")


def merge_rare(noisy: np.ndarray, least: float) -> np.ndarray:
    """New code of each value `[s]`: those with noisy counts below `least` share the last one."""
    kept = noisy >= least
    if kept.all() or not kept.any():
        return np.arange(len(noisy))
    return np.where(kept, np.cumsum(kept) - 1, kept.sum())


def choose_tree(
    rng: np.random.Generator, scores: dict[tuple[int, int], float], columns: int, epsilon: float
) -> list[tuple[int, int]]:
    """A spanning tree, each edge by an `epsilon`-DP exponential mechanism; scores move by 1."""
    group = np.arange(columns)
    chosen: list[tuple[int, int]] = []
    for _ in range(columns - 1):
        free = [e for e in scores if group[e[0]] != group[e[1]]]
        logits = 0.5 * epsilon * np.array([scores[e] for e in free])
        chance = np.exp(logits - logits.max())
        a, b = free[rng.choice(len(free), p=chance / chance.sum())]
        group[group == group[a]] = group[b]
        chosen.append((a, b))
    return chosen


def _scores(
    codes: np.ndarray, sizes: np.ndarray, alone: list[np.ndarray], total: float
) -> dict[tuple[int, int], float]:
    """Private L1 distance of each pair's marginal to independence."""
    found = {}
    for a, b in itertools.combinations(range(len(sizes)), 2):
        expected = np.outer(alone[a], alone[b]) / total
        found[a, b] = float(np.abs(_pair(codes, sizes, a, b) - expected).sum())
    return found


def _pair(codes: np.ndarray, sizes: np.ndarray, a: int, b: int) -> np.ndarray:
    cell = codes[:, a] * sizes[b] + codes[:, b]
    return np.bincount(cell, minlength=sizes[a] * sizes[b]).reshape(sizes[a], sizes[b])


def _merged(noisy: np.ndarray, mapping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over merged values, scaled so that each has the noise of one value, and the scales."""
    scale = 1.0 / np.sqrt(np.bincount(mapping))
    return np.bincount(mapping, weights=noisy) * scale, scale


def _unmerge(rng: np.random.Generator, codes: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """Original codes; of values that share one, each is as likely."""
    members = np.argsort(mapping, kind="stable")
    count = np.bincount(mapping)
    start = np.cumsum(count) - count
    return members[start[codes] + rng.integers(count[codes])]


def _fit(sizes: np.ndarray, measured: list[Any], total: float, iterations: int) -> Any:
    import mbi  # pyright: ignore[reportMissingImports]

    def query(scale: np.ndarray) -> Any:
        return lambda factor: factor.datavector() * scale

    domain = mbi.Domain([_name(j) for j in range(len(sizes))], [int(s) for s in sizes])
    losses = [
        mbi.LinearMeasurement(noisy, tuple(_name(j) for j in where), deviation, query(scale))
        for where, noisy, scale, deviation in measured
    ]
    return mbi.estimation.mirror_descent(
        domain,
        losses,
        known_total=float(total),
        iters=iterations,
        marginal_oracle=mbi.marginal_oracles.message_passing_stable,
    )


def _name(column: int) -> str:
    return f"c{column}"


_FAILED = "failed: "


def main() -> None:
    """Reads arrays from standard input and writes the codes to standard output."""
    given = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    try:
        made = synthesise(
            given["seed"],
            given["codes"],
            sizes=given["sizes"],
            rho=float(given["rho"]),
            total=float(given["total"]),
            rows=int(given["rows"]),
            iterations=int(given["iterations"]),
        )
    except Exception as error:  # no message: it could show a record
        print(f"{_FAILED}{type(error).__name__}", file=sys.stderr)
        sys.exit(1)
    np.save(sys.stdout.buffer, made)


if __name__ == "__main__":
    main()
