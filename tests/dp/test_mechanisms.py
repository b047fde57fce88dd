"""Poisson batches, clipping, noise and normalisation, against naive NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records
from scipy import stats

from curvpub import dp, features
from curvpub.dp import normalise

BOUNDS = ((0.0, 50_000.0), (0.0, 100.0))


def influence(row):
    """A gradient-like tree of one row `(x [3], y [])`."""
    x, y = row
    return {"outer": x[:, None] * x[None] * y, "line": jnp.sin(x) + y}


def naive_clipped_sum(x, y, weight, clip):
    total = {"outer": np.zeros((3, 3)), "line": np.zeros(3)}
    for a, b, w in zip(x, y, weight, strict=True):
        one = {"outer": np.outer(a, a) * b, "line": np.sin(a) + b}
        norm = math.sqrt(sum((v**2).sum() for v in one.values()))
        for name, value in one.items():
            total[name] += w * value * min(1.0, clip / norm)
    return total


def linear(params, row):
    """A loss whose gradient is the influence."""
    parts = jax.tree.map(lambda p, a: jnp.sum(p * a), params, influence(row))
    return parts["outer"] + parts["line"]


def by_influence(args, weight, **settings):
    return dp.clipped_sum(influence, args, weight, **settings)


def by_gradient(args, weight, **settings):
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), influence([a[0] for a in args]))
    return dp.clipped_gradient(linear, zero, args, weight, **settings)


SUMS = pytest.mark.parametrize("clipped", [by_influence, by_gradient])


def rows(count=23, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(count, 3)), rng.normal(size=count)


@pytest.mark.parametrize("microbatch", [1, 5, 64])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@SUMS
def test_clipped_sum_equals_a_loop(clipped, microbatch, dtype):
    x, y = rows()
    weight = (np.arange(23) % 3 > 0).astype(float)
    args = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
    found = clipped(args, jnp.asarray(weight, dtype), clip=1.3, microbatch=microbatch)
    expected = naive_clipped_sum(x, y, weight, 1.3)
    for name, value in expected.items():
        # Clipped lengths are 0.01% short on purpose.
        np.testing.assert_allclose(found[name], value, atol=23 * 1.3 * 1.1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e18, 1e30])
@SUMS
def test_one_record_moves_the_sum_by_the_clip_at_most(clipped, scale):
    """Added, removed; of any size, overflowing ones included."""
    x, y = rows(scale=scale)
    x[:5] = rows(5, seed=1)[0]
    full = jnp.ones(23, jnp.float32)
    args = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    call = jax.jit(lambda w: clipped(args, w, clip=0.7, microbatch=8))
    total = call(full)
    for row in (0, 7, 22):
        less = call(full.at[row].set(0.0))
        moved = sum(float(jnp.sum(jnp.square(total[k] - less[k]))) for k in total)
        # Sums of 23 float32 terms of length 0.7 round by a few 1e-7.
        assert math.sqrt(moved) <= 0.7 + 3e-6
        assert np.isfinite(moved)


def test_two_passes_clip_a_networks_gradients_as_one_does():
    """Of a network with a hidden layer; rows that are not finite leave the others as they are."""
    x, y = (jnp.asarray(a, jnp.float32) for a in rows())
    draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape, jnp.float32)
    params = {"in": draw(0, 3, 6), "out": draw(1, 6)}

    def loss(params, row):
        return jnp.square(jnp.tanh(row[0] @ params["in"]) @ params["out"] - row[1])

    settings = {"clip": 0.9, "microbatch": 8}
    of_row = lambda row: jax.grad(loss)(params, row)
    run = jax.jit(lambda a, w: dp.clipped_gradient(loss, params, a, w, **settings))
    one_pass = jax.jit(lambda a, w: dp.clipped_sum(of_row, a, w, **settings))
    weight = jnp.ones(23, jnp.float32)
    broken = jnp.asarray([0, *range(8, 16)])  # one row of the first block, all of the second
    for bad in (math.nan, math.inf):
        spoilt = x, y.at[broken].set(bad)
        for args, w in (((x, y), weight), (spoilt, weight)):
            found, expected = run(args, w), one_pass(args, w)
            for name, value in expected.items():
                # Sums of 23 float32 terms of length 0.9.
                np.testing.assert_allclose(found[name], value, atol=1e-5)
        without = one_pass((x, y), weight.at[broken].set(0.0))
        np.testing.assert_allclose(run(spoilt, weight)["out"], without["out"], atol=1e-5)
    np.testing.assert_array_equal(run((x, y), 0.0 * weight)["in"], 0.0)


def test_clipping_keeps_short_and_cuts_long_and_drops_what_is_not_finite():
    short = {"a": jnp.asarray([0.3, 0.4])}
    np.testing.assert_array_equal(dp.clip_by_norm(short, 1.0)["a"], short["a"])
    long = dp.clip_by_norm({"a": jnp.asarray([30.0, 40.0])}, 1.0)["a"]
    assert 0.999 < float(jnp.linalg.norm(long)) <= 1.0
    np.testing.assert_allclose(long[1] / long[0], 4.0 / 3.0, rtol=1e-12)
    for bad in (math.nan, math.inf):
        np.testing.assert_array_equal(dp.clip_by_norm({"a": jnp.asarray([bad, 1.0])}, 1.0)["a"], 0)


def test_batches_are_independent_coins():
    count, rate = 40, dp.sampling_rate(8, 40)
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = lambda k: dp.poisson_batch(k, count=count, rate=rate, places=25)
    index, weight = (np.asarray(a) for a in jax.jit(jax.vmap(draw))(keys))
    inside = np.zeros((4000, count))
    for k in range(4000):
        chosen = index[k][weight[k] > 0]
        assert len(set(chosen)) == len(chosen)
        inside[k, chosen] = 1.0
    size = inside.sum(axis=1)
    # Binomial, not fixed: the amplification by sampling holds for that law alone.
    observed = np.bincount(size.astype(int), minlength=count + 1)[3:15]
    expected = 4000 * stats.binom.pmf(np.arange(3, 15), count, 0.2)
    assert ((observed - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.9999, 12)
    assert (np.abs(inside.mean(axis=0) - 0.2) < 5 * 0.4 / math.sqrt(4000)).all()
    pairs = np.corrcoef(inside.T)[np.triu_indices(count, 1)]
    assert np.abs(pairs).max() < 5.5 / math.sqrt(4000)


def test_sampling_rate_is_on_the_coins_grid():
    for batch, count in ((7, 50), (256, 4000), (1, 3), (5, 5)):
        rate = dp.sampling_rate(batch, count)
        assert rate >= batch / count
        assert rate == pytest.approx(batch / count, rel=1e-5)
        assert float(np.float32(rate)) == rate
        assert (rate * 2**23).is_integer()


def test_an_overflowing_batch_loses_records_and_counts_none_twice():
    index, weight = dp.poisson_batch(jax.random.key(0), count=10, rate=1.0, places=4)
    np.testing.assert_array_equal(index, range(4))
    np.testing.assert_array_equal(weight, 1.0)
    _, none = dp.poisson_batch(jax.random.key(0), count=10, rate=0.0, places=4)
    np.testing.assert_array_equal(none, 0.0)


def test_noise_has_its_law_and_depends_on_no_other_leaf():
    tree = {"a": jnp.zeros((200, 100), jnp.float32), "b": jnp.ones(2000, jnp.float32)}
    noisy = dp.add_noise(jax.random.key(3), tree, deviation=2.5)
    a, b = np.asarray(noisy["a"]).ravel(), np.asarray(noisy["b"]) - 1.0
    assert stats.kstest(a, "norm", (0.0, 2.5)).pvalue > 1e-3
    assert stats.kstest(b, "norm", (0.0, 2.5)).pvalue > 1e-3
    assert abs(np.corrcoef(a[:2000], b)[0, 1]) < 0.1


def test_noisy_mean_is_sum_plus_noise_over_the_expected_size():
    x, y = rows()
    batch = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    weight = jnp.ones(23, jnp.float32)
    sgd = dp.SgdConfig(batch_size=10, clip=0.5, microbatch=7)
    total = dp.clipped_sum(influence, batch, weight, clip=0.5, microbatch=7)
    start = jax.tree.map(jnp.zeros_like, total)
    mean = lambda k, noise=3.0: dp.noisy_mean(
        k, linear, start, batch, weight, sgd=sgd, expected=10.0, noise_multiplier=noise
    )
    found = jax.jit(jax.vmap(mean))(jax.random.split(jax.random.key(1), 2000))
    noise = np.asarray(found["line"] - total["line"][None] / 10.0)
    for column in noise.T:
        assert stats.kstest(column, "norm", (0.0, 3.0 * 0.5 / 10.0)).pvalue > 1e-3
    silent = mean(jax.random.key(1), 0.0)
    np.testing.assert_allclose(silent["outer"], total["outer"] / 10.0, rtol=1e-5, atol=1e-7)
    for wrong in (-1.0, float("nan")):  # neither is silence
        with pytest.raises(ValueError, match=f"noise_multiplier={wrong}"):
            mean(jax.random.key(1), wrong)


def sums_of(x, noise, seed=0):
    return dp.private_features(
        jax.random.key(seed), TABLE, jnp.asarray(x, jnp.float32), BOUNDS,
        noise_multiplier=noise, count=len(x),
    )  # fmt: skip


def test_without_noise_columns_have_clipped_mean_and_spread():
    x = np.array(make_records(TABLE, 200).x, np.float64)
    x[0, 0], x[1, 1] = 1e9, -5.0  # beyond the bounds
    quantiles = np.asarray(sums_of(x, 1e-9).quantiles)
    for column, (low, high) in enumerate(BOUNDS):
        clipped = np.clip(x[:, column], low, high)
        assert quantiles[column].min() >= low
        assert quantiles[column].max() <= high
        curve = clipped.mean() + clipped.std() * stats.norm.ppf(np.linspace(0, 1, 257)[100:157])
        np.testing.assert_allclose(quantiles[column, 100:157], np.clip(curve, low, high), rtol=1e-3)
    encoded = features.encode_features(TABLE, sums_of(x, 1e-9), jnp.asarray(x, jnp.float32))
    assert np.isfinite(encoded).all()


def test_one_record_moves_normalisation_within_its_sensitivity():
    """The record at the corner of the bounds reaches it: `sqrt(2 d)` with d = 2."""
    x = np.tile([25_000.0, 50.0, 0.0], (50, 1))
    worst = np.concatenate([x, [[50_000.0, 100.0, 0.0]]])
    unit = lambda x: (x[:, :2] - [25_000.0, 50.0]) / [25_000.0, 50.0]
    moved = [(unit(worst) ** p).sum(axis=0) - (unit(x) ** p).sum(axis=0) for p in (1, 2)]
    assert np.linalg.norm(moved) == pytest.approx(math.sqrt(2 * 2))


def test_normalisation_noise_has_the_deviation_it_states():
    x = np.tile([25_000.0, 50.0, 0.0], (400, 1))
    keys = jax.random.split(jax.random.key(0), 500)
    fit = lambda k: dp.private_features(
        k, TABLE, jnp.asarray(x, jnp.float32), BOUNDS, noise_multiplier=3.0, count=400
    )
    quantiles = np.asarray(jax.jit(jax.vmap(fit))(keys).quantiles)
    mean = (quantiles[:, 0, 128] - 25_000.0) / 25_000.0
    assert stats.kstest(mean, "norm", (0.0, 3.0 * 2.0 / 400)).pvalue > 1e-3


def test_images_have_nothing_to_fit_and_tables_need_bounds():
    records = make_records(IMAGE, 5)
    stats_ = dp.private_features(
        jax.random.key(0), IMAGE, records.x, (), noise_multiplier=math.inf, count=5
    )
    x, probs = dp.encode(IMAGE, stats_, records.x, records.y)
    np.testing.assert_array_equal(x, records.x.reshape(5, -1))
    assert probs.shape == (5, 3)
    with pytest.raises(ValueError, match="2 numeric columns of 'mixed'"):
        dp.check_columns(TABLE, ((0.0, 1.0),))
    with pytest.raises(ValueError, match="0 numeric columns of 'blobs'"):
        dp.check_columns(IMAGE, ((0.0, 1.0),))


def test_normalisation_is_finite_whatever_the_column():
    x = np.array(make_records(TABLE, 20).x)
    x[:, 0], x[3, 1] = np.nan, np.inf
    fitted = sums_of(x, 2.0)
    assert np.isfinite(fitted.quantiles).all()
    assert (np.diff(np.asarray(fitted.quantiles), axis=1) >= 0).all()


@pytest.mark.parametrize("low", [1.7e9, 0.0, -1e38])
def test_no_record_makes_normalisation_infinite(low):
    """The narrowest bounds at their magnitude, or the widest, and any record beside others."""
    high = {1.7e9: 1.7e9 + 6e4, 0.0: 3e-38, -1e38: 1e38}[low]
    others = np.tile([0.5 * low + 0.5 * high, 50.0, 0.0], (5, 1))
    for value in (low, high, 3e38, -3e38, np.nan, np.inf):
        x = np.concatenate([others, [[value, 1.0, 0.0]]])
        fitted = dp.private_features(
            jax.random.key(0), TABLE, jnp.asarray(x, jnp.float32), ((low, high), (0.0, 100.0)),
            noise_multiplier=0.1, count=6,
        )  # fmt: skip
        assert np.isfinite(fitted.quantiles).all()


def test_what_is_no_number_does_not_reach_the_sums(monkeypatch):
    """Even without the check of bounds, which are one number in float32."""
    monkeypatch.setattr(normalise, "check_bounds", lambda bounds: None)
    x = np.tile([1.7e9, 50.0, 0.0], (5, 1))
    fitted = dp.private_features(
        jax.random.key(0), TABLE, jnp.asarray(x, jnp.float32),
        ((1.7e9, 1.7e9 + 50.0), (0.0, 100.0)), noise_multiplier=0.1, count=5,
    )  # fmt: skip
    assert np.isfinite(fitted.quantiles).all()


def test_normalisation_refuses_bounds_that_float32_takes_for_one():
    with pytest.raises(ValueError, match=r"bounds\[0\].* too close for float32"):
        dp.private_features(
            jax.random.key(0), TABLE, make_records(TABLE, 5).x, ((1.7e9, 1.7e9 + 50.0), (0.0, 1.0)),
            noise_multiplier=1.0, count=5,
        )  # fmt: skip
