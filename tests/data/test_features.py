"""Loaded tables pass through the model's codec and come back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub import data, features
from curvpub.config import DataConfig


def check_round_trip(dataset):
    schema, x = dataset.schema, jnp.asarray(dataset.pool.x)
    stats = features.fit_features(schema, x)
    encoded = jax.jit(features.encode_features, static_argnums=0)(schema, stats, x)
    assert encoded.shape == (len(x), features.feature_dim(schema))
    assert encoded.dtype == jnp.float32
    assert bool(jnp.isfinite(encoded).all())
    back = np.asarray(features.decode_features(schema, stats, encoded))
    assert back.dtype == np.float32
    for index, column in enumerate(schema.columns):
        old, new = dataset.pool.x[:, index], back[:, index]
        if column.categories:
            np.testing.assert_array_equal(new, old)
            continue
        # At least five members and 0.5% of them lie at or beyond either end.
        beyond = max(5, int(np.ceil(0.005 * len(old))))
        assert new.min() >= np.sort(old)[beyond - 1]
        assert new.max() <= np.sort(old)[-beyond]
        # Inside, a value comes back within one knot's share of the records.
        rank = np.searchsorted(np.sort(old), np.stack([new, old])) / len(old)
        upper = np.searchsorted(np.sort(old), np.stack([new, old]), side="right") / len(old)
        apart = np.maximum(rank[0] - upper[1], rank[1] - upper[0])
        inside = (old > np.sort(old)[beyond - 1]) & (old < np.sort(old)[-beyond])
        assert apart[inside].max(initial=0.0) <= 1 / 256 + 1 / len(old)
        if column.integer:
            np.testing.assert_array_equal(new, np.rint(new))


def test_csv(tmp_path):
    rng = np.random.default_rng(0)
    jobs = rng.choice(["cook", "clerk", ""], 600)
    lines = ["age,income,job,flag,rich"] + [
        f"{rng.integers(18, 90)},{rng.lognormal(10, 1):.2f},{job},{i % 2},{'ny'[i % 3 > 1]}"
        for i, job in enumerate(jobs)
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    config = DataConfig(source="csv", path=str(tmp_path / "a.csv"), target="rich")
    check_round_trip(data.load(config, seed=0))


@pytest.mark.tfds
def test_adult():
    config = DataConfig(source="tfds", name="adult", pool_size=4000, duplicates="drop")
    check_round_trip(data.load(config, seed=0))
