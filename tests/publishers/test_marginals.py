"""MST: binning, the tree, its noise, and whole publications where `mbi` is installed."""

import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_config, make_records
from scipy.sparse import csgraph

from curvpub import dp
from curvpub.dp import concentrated
from curvpub.frontier import registry
from curvpub.publishers import MstPublisher, marginals, spanning_tree
from curvpub.types import Column, Records, Schema

BOUNDS = ((0.0, 50_000.0), (0.0, 100.0))
CUTS = ((1_000.0, 3_000.0, 8_000.0, 20_000.0), ())
needs_mbi = pytest.mark.skipif(
    not marginals.is_installed(), reason="mbi, of the extra marginals, is not installed"
)


@pytest.fixture
def present(monkeypatch):
    """Publishers can be made; nothing is inferred."""
    monkeypatch.setattr(marginals, "is_installed", lambda: True)


def make(schema=TABLE, epsilon=3.0, bounds=BOUNDS, **settings):
    budget = dp.Budget(epsilon=epsilon, delta=1e-4, bounds=bounds)
    return MstPublisher(schema=schema, budget=budget, **settings)


def test_values_fall_into_their_bins_and_come_back(present):
    publisher = make(cuts=CUTS, bins=10)
    assert publisher.sizes == (5, 10, 3, 2)
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, s, 500) for s in publisher.sizes], axis=1)
    release = publisher.values(jax.random.key(0), jnp.asarray(codes, jnp.int32))
    y = jnp.argmax(release.y, axis=1).astype(jnp.int32)
    again = publisher.codes(Records(x=release.x, y=y))
    np.testing.assert_array_equal(again, codes)
    x = np.asarray(release.x)
    np.testing.assert_array_equal(x[:, 1], np.round(x[:, 1]))
    for column, (low, high) in enumerate(BOUNDS):
        assert low <= x[:, column].min() <= x[:, column].max() <= high
    first = x[codes[:, 0] == 1, 0]  # uniform between 1,000 and 3,000
    np.testing.assert_allclose(first.mean(), 2_000, atol=5 * 2_000 / np.sqrt(12 * len(first)))


def test_whole_numbers_of_few_values_keep_them(present):
    schema = Schema(
        name="grades", kind="table", shape=(1,), classes=("a", "b"),
        columns=(Column(name="grade", integer=True),),
    )  # fmt: skip
    publisher = make(schema, bounds=((1.0, 16.0),))
    x = jnp.arange(-1.0, 19.0, dtype=jnp.float32)[:, None]  # beyond the bounds too
    codes = publisher.codes(Records(x=x, y=jnp.zeros(20, jnp.int32)))
    assert publisher.sizes == (16, 2)
    expected = np.clip(np.asarray(x), 1, 16)
    np.testing.assert_array_equal(publisher.values(jax.random.key(0), codes).x, expected)
    wide = make(schema, bounds=((17.0, 90.0),), bins=7)
    edges = wide.edges[0]
    assert len(edges) == 8
    ends = itertools.pairwise((*edges[:-1], 91.0))  # the last bin has the upper bound
    counts = [sum(a <= v < b for v in range(17, 91)) for a, b in ends]
    assert max(counts) - min(counts) <= 1


def test_rare_values_are_merged_and_told_apart_again():
    noisy = np.array([50.0, 2.0, 30.0, -1.0, 0.5])
    mapping = spanning_tree.merge_rare(noisy, 3.0)
    np.testing.assert_array_equal(mapping, [0, 2, 1, 2, 2])
    np.testing.assert_array_equal(spanning_tree.merge_rare(noisy, 60.0), np.arange(5))
    np.testing.assert_array_equal(spanning_tree.merge_rare(noisy, -9.0), np.arange(5))
    sums, scale = spanning_tree._merged(noisy, mapping)
    np.testing.assert_allclose(sums, [50.0, 30.0, 1.5 / np.sqrt(3)])
    np.testing.assert_allclose(scale, [1.0, 1.0, 1 / np.sqrt(3)])
    codes = np.repeat([0, 1, 2], 3000)
    back = spanning_tree._unmerge(np.random.default_rng(0), codes, mapping)
    np.testing.assert_array_equal(mapping[back], codes)
    share = np.bincount(back[6000:], minlength=5)[[1, 3, 4]] / 3000
    np.testing.assert_allclose(share, 1 / 3, atol=0.04)


def test_the_tree_is_the_heaviest_where_privacy_is_no_matter():
    rng = np.random.default_rng(0)
    weight = rng.uniform(1.0, 2.0, (8, 8))
    scores = {(a, b): weight[a, b] for a, b in itertools.combinations(range(8), 2)}
    found = spanning_tree.choose_tree(rng, scores, 8, epsilon=1e6)
    tree = csgraph.minimum_spanning_tree(-np.triu(weight, 1))
    assert sorted(found) == sorted(zip(*(i.tolist() for i in tree.nonzero()), strict=True))


def test_an_edge_is_drawn_by_the_exponential_mechanism():
    scores, epsilon, draws = {(0, 1): 0.0, (0, 2): 2.0, (1, 2): 3.0}, 0.8, 4000
    rng = np.random.default_rng(0)
    first = [spanning_tree.choose_tree(rng, scores, 3, epsilon)[0] for _ in range(draws)]
    chance = np.exp(epsilon * np.array(list(scores.values())) / 2)
    chance /= chance.sum()
    found = np.array([first.count(e) for e in scores]) / draws
    np.testing.assert_allclose(found, chance, atol=5 * np.sqrt(0.25 / draws))


def test_a_record_moves_a_score_by_one_at_most():
    rng = np.random.default_rng(0)
    sizes = np.array([4, 3, 5])
    codes = np.stack([rng.integers(0, s, 30) for s in sizes], axis=1)
    alone = [rng.dirichlet(np.ones(s)) * 30 for s in sizes]
    full = spanning_tree._scores(codes, sizes, alone, 30.0)
    for row in range(30):
        less = spanning_tree._scores(np.delete(codes, row, axis=0), sizes, alone, 30.0)
        assert max(abs(full[e] - less[e]) for e in full) <= 1.0 + 1e-9


def test_marginals_have_the_noise_that_the_guarantee_states(present, monkeypatch):
    """The inference is left out: what it is given is compared with the records."""
    sizes, rho = np.array([300, 200, 400]), 0.5
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, s, 200_000) for s in sizes], axis=1)
    seen = []

    class Model:
        def project(self, names):
            size = sizes[int(names[0][1:])]
            uniform = np.full(size, 200_000 / size)
            return type("Factor", (), {"datavector": lambda self: uniform})()

        def synthetic_data(self, rows):
            made = {f"c{j}": codes[:rows, j] for j in range(3)}
            return type("Data", (), {"to_dict": lambda self: made})()

    def fit(merged, measured, total, iterations):
        np.testing.assert_array_equal(merged, sizes)  # no value is rare
        seen.append(list(measured))
        return Model()

    monkeypatch.setattr(spanning_tree, "_fit", fit)
    made = spanning_tree.synthesise(
        np.arange(4), codes, sizes=sizes, rho=rho, total=2e5, rows=10, iterations=1
    )
    assert sorted(map(tuple, made)) == sorted(map(tuple, codes[:10]))
    first, second = seen
    assert [m[0] for m in first] == [(0,), (1,), (2,)]
    assert len(second) == 5
    spent = rho / 3
    for where, noisy, scale, deviation in second:
        true = np.zeros(sizes[list(where)])
        np.add.at(true, tuple(codes[:, j] for j in where), 1)
        noise = noisy - true.reshape(-1)
        np.testing.assert_allclose(noise.std(), deviation, rtol=5 / np.sqrt(2 * noise.size))
        assert abs(noise.mean()) < 5 * deviation / np.sqrt(noise.size)
        np.testing.assert_array_equal(scale, 1.0)
        spent += 1 / (2 * deviation**2)
    np.testing.assert_allclose(spent, rho)  # the third is what the choice of the tree takes


def test_what_is_published_is_not_drawn_from_the_noise(monkeypatch):
    """More noise, and another choice of tree, and still the same draws of mbi, values and order."""

    class Model:
        def project(self, names):
            return type("Factor", (), {"datavector": lambda self: np.full(2, 50.0)})()

        def synthetic_data(self, rows):
            made = {f"c{j}": np.random.randint(0, 2, rows) for j in range(3)}
            return type("Data", (), {"to_dict": lambda self: made})()

    monkeypatch.setattr(spanning_tree, "_fit", lambda *args: Model())
    # Three values of each column share a code, and are told apart again by draws.
    monkeypatch.setattr(spanning_tree, "merge_rare", lambda noisy, least: np.array([0, 1, 1, 1]))
    codes = np.random.default_rng(0).integers(0, 4, (100, 3))
    settings = {"sizes": np.full(3, 4), "total": 100.0, "rows": 200, "iterations": 1}
    choose, extra = spanning_tree.choose_tree, 0

    def choose_after(rng, *args):
        rng.normal(size=extra)
        return choose(rng, *args)

    monkeypatch.setattr(spanning_tree, "choose_tree", choose_after)
    make = lambda seed: spanning_tree.synthesise(np.arange(4) + seed, codes, rho=1.0, **settings)
    first, other = make(0), make(1)
    extra = 7
    np.testing.assert_array_equal(make(0), first)
    assert not np.array_equal(other, first)


def test_purposes_have_seeds_of_their_own():
    seeds = [np.array([1, 2, 3, 2**32 - 1]), np.array([1, 2, 3, 4], np.uint32)]
    found = [spanning_tree.stream_seed(s, p) for s in seeds for p in ("noise", "order")]
    assert all(f.shape == (8,) for f in found)
    assert len({f.tobytes() for f in found}) == 4
    np.testing.assert_array_equal(found[0], spanning_tree.stream_seed(seeds[0], "noise"))


def test_the_guarantee_spends_the_budget(present):
    stated = make(epsilon=2.0).guarantee(100)
    assert (stated.epsilon, stated.delta) == (2.0, 1e-4)
    assert len(stated.mechanisms) == 3
    rho = concentrated.concentrated_rho(2.0, 1e-4)
    np.testing.assert_allclose(stated.noise_multiplier, np.sqrt(3 / (2 * rho)))
    assert any("cut points" in fact for fact in stated.public)
    with pytest.raises(ValueError, match="delta"):
        make().guarantee(10**5)


def test_bad_settings_are_refused(present):
    for settings, message in (
        ({"schema": IMAGE, "bounds": ()}, "must be 'table'"),
        ({"bounds": ()}, "bounds"),
        ({"bins": 0}, "bins=0"),
        ({"copies": 0.0}, "copies"),
        ({"iterations": 0}, "iterations"),
        ({"cuts": ((),)}, "one tuple for each of 2 bounds"),
        ({"cuts": ((2.0, 1.0), ())}, r"cuts\[0\]"),
        ({"cuts": ((), (100.0,))}, r"cuts\[1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**settings)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(marginals, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"curvpub\[marginals\]"):
        make()


def test_the_registry_builds_it_and_traces_it(present):
    options = {"bounds": BOUNDS, "cuts": CUTS, "copies": 2.0}
    config = make_config()
    asked = registry.Asked(TABLE, config, config, options, 3.0)
    built = registry.build("mst", asked)
    like = jax.eval_shape(lambda: make_records(TABLE, 30))
    assert registry.check_traceable(built, like).shape == (60, 3)


def test_a_process_that_fails_shows_no_record():
    with pytest.raises(RuntimeError) as error:
        spanning_tree.synthesise_apart(
            np.arange(4, dtype=np.uint32), np.full((5, 2), 987), sizes=np.array([2, 2]), rho=1.0,
            total=5, rows=3, iterations=1,
        )  # fmt: skip
    assert "987" not in str(error.value)
    assert "Error" in str(error.value)


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import jax, numpy as np
from mock_problems import TABLE, make_records
from curvpub.publishers import marginals
import test_marginals
marginals.is_installed = lambda: True
marginals.synthesise_apart = lambda seed, codes, **more: np.asarray(codes, np.int32)
publisher = test_marginals.make(epsilon=3.0)
records = make_records(TABLE, 9_000)
key = jax.random.key(0)
run = jax.jit(publisher).lower(key, records).compile()
# Records that are still being computed: the program starts on a thread of XLA's, not on this one.
slow = jax.jit(lambda r, a: jax.tree.map(lambda l: l + (0 * (a @ a @ a).sum()).astype(l.dtype), r))
release = run(key, slow(records, np.ones((1500, 1500), np.float32)))
assert publisher.codes(records).nbytes > 100_000
y = np.argmax(np.asarray(release.y), axis=1)
np.testing.assert_array_equal(y, records.y)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be pinned")
def test_codes_reach_the_process_in_blocks_and_in_order_on_one_core():
    """A frontier was seen to wait for ever there; this smaller program was not, in one block."""
    paths = [*sys.path, str(pathlib.Path(__file__).parent)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p or "." for p in paths)}
    subprocess.run([sys.executable, "-c", ON_ONE_CORE], env=env, check=True, timeout=240)


@needs_mbi
def test_a_publication_with_little_noise_keeps_marginals_and_pairs():
    count = 400
    records = make_records(TABLE, count)
    publisher = make(epsilon=1e4, cuts=CUTS, bins=5, iterations=2000)
    run = jax.jit(publisher)
    release = jax.tree.map(np.asarray, run(jax.random.key(0), records))
    assert release.x.shape == (count, 3)
    np.testing.assert_array_equal(run(jax.random.key(0), records).x, release.x)
    other = run(jax.random.key(1), records)
    assert not np.array_equal(other.x, release.x)
    y = release.y.argmax(axis=1).astype(np.int32)
    real = np.asarray(publisher.codes(records))
    made = np.asarray(publisher.codes(Records(x=jnp.asarray(release.x), y=jnp.asarray(y))))
    for column in range(4):
        size = publisher.sizes[column]
        shares = [np.bincount(c[:, column], minlength=size) / count for c in (real, made)]
        np.testing.assert_allclose(*shares, atol=0.02)
    pair = [np.histogram2d(c[:, 0], c[:, 3], bins=(5, 2))[0] / count for c in (real, made)]
    np.testing.assert_allclose(*pair, atol=0.03)  # income and class are the strongest pair


@needs_mbi
def test_shadows_side_by_side_are_those_alone():
    publisher = dataclasses.replace(make(cuts=CUTS, bins=4, iterations=50), copies=0.5)
    sets = [make_records(TABLE, 60, seed) for seed in (0, 1)]
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *sets)
    together = jax.jit(jax.vmap(publisher))(keys, stacked)
    for row in range(2):
        alone = jax.jit(publisher)(keys[row], sets[row])
        np.testing.assert_array_equal(together.x[row], alone.x)
    assert alone.x.shape == (30, 3)
