"""Surroundings against scikit-learn, and the flows' density ratio on releases of a known kind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from curvpub.audit import (
    FlowObserver,
    SurroundingsObserver,
    auc,
    flow_log_density,
    nearest_published,
)
from curvpub.publishers import RawPublisher
from curvpub.types import Release


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("neighbours", [1, 4, 200])
def test_nearest_published_matches_sklearn(dtype, neighbours):
    rng = np.random.default_rng(0)
    points, release = (rng.normal(size=(n, 12)).astype(dtype) for n in (50, 90))
    far, index = nearest_published(
        jnp.asarray(points), jnp.asarray(release), neighbours=neighbours, block_size=16
    )
    count = min(neighbours, 90)
    expected = NearestNeighbors(n_neighbors=count).fit(release).kneighbors(points)
    assert far.dtype == dtype
    np.testing.assert_allclose(far, expected[0], rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(index, expected[1])
    with pytest.raises(ValueError, match="neighbours=0 must be at least 1"):
        nearest_published(jnp.asarray(points), jnp.asarray(release), neighbours=0)


def other_release(count=50):
    rng = np.random.default_rng(5)
    x = rng.random((count, 4, 4, 1)).astype(np.float32)
    return Release(x=jnp.asarray(x), y=jnp.asarray(rng.dirichlet(np.ones(3), count), jnp.float32))


@pytest.mark.parametrize("neighbours", [1, 5])
def test_surroundings_match_pairwise_distances(world, schema, neighbours):
    release = other_release()
    observer = SurroundingsObserver(schema=schema, label_scale=3.0, neighbours=neighbours)
    found = jax.jit(observer)(jax.random.key(0), release, world)
    x, own = (np.asarray(a).reshape(-1, 16) for a in (release.x, world.pool_x))
    probs, one_hot = np.asarray(release.y), np.eye(3)[world.pool_y]
    joint = cdist(np.hstack([own, 3 * one_hot]), np.hstack([x, 3 * probs]))
    flat = lambda a: (a - np.asarray(world.origin)) @ np.asarray(world.axes)
    axes = cdist(np.hstack([flat(own), one_hot]), np.hstack([flat(x), probs]))
    far = {name: np.sort(d, axis=1)[:, [0, neighbours - 1]] for name, d in
           {"joint": joint, "axes": axes}.items()}  # fmt: skip
    label = probs[joint.argmin(axis=1), world.pool_y]
    np.testing.assert_allclose(found["axes_distance"], far["axes"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(found["axes_ratio"], far["axes"].T[0] / far["axes"].T[1], rtol=1e-4)
    np.testing.assert_allclose(
        found["distance_ratio"], far["joint"].T[0] / far["joint"].T[1], rtol=1e-4
    )
    np.testing.assert_allclose(found["nearest_label"], label, rtol=1e-5)


def test_copies_and_copies_of_copies_stay_finite(world, schema):
    release = RawPublisher(schema=schema)(jax.random.key(0), world.pool)
    many = Release(x=jnp.tile(release.x, (6, 1, 1, 1)), y=jnp.tile(release.y, (6, 1)))
    found = SurroundingsObserver(schema=schema, label_scale=1.0)(jax.random.key(0), many, world)
    for name in ("axes_distance", "axes_ratio", "distance_ratio"):
        np.testing.assert_array_equal(found[name], 0.0)
    np.testing.assert_array_equal(found["nearest_label"], 1.0)


@pytest.fixture(scope="module")
def flow_observer(schema):
    return FlowObserver(schema=schema, steps=150, layers=4, hidden=16)


def test_flow_ratio_is_that_of_two_densities(world, flow_observer):
    """Labels' shares alone where nothing is fitted; and prepared or not is the same."""
    release = other_release()
    idle = jax.jit(dataclasses.replace(flow_observer, steps=0, name="idle"))
    share = (np.asarray(release.y).sum(axis=0) + 1) / 53
    population = (np.bincount(world.test_y, minlength=3) + 1) / 43
    np.testing.assert_allclose(
        idle(jax.random.key(0), release, world)["flow_ratio"],
        np.log(share / population)[world.pool_y],
        atol=1e-4,  # the normal densities cancel to float32
    )
    call = jax.jit(flow_observer)
    unprepared = dataclasses.replace(world, learnt={})
    learnt = {flow_observer.name: jax.jit(flow_observer.prepare)(unprepared)}
    prepared = dataclasses.replace(world, learnt=learnt)
    one = call(jax.random.key(1), release, unprepared)["flow_ratio"]
    two = call(jax.random.key(1), release, prepared)["flow_ratio"]
    np.testing.assert_allclose(one, two, atol=1e-3)  # 300 steps of float32 in other programs
    other = call(jax.random.key(2), release, prepared)["flow_ratio"]
    assert np.abs(np.asarray(one - other)).max() > 1e-2  # batches are the key's


def test_population_flow_is_that_of_the_test_records(world, flow_observer):
    """It finds test records likelier than noise of the same spread, by nats."""
    flow = jax.jit(flow_observer.prepare)(dataclasses.replace(world, learnt={}))
    density = jax.jit(jax.vmap(flow_log_density, in_axes=(None, 0, 0)))
    reach = lambda x: 4 * jnp.arcsinh(x / 4)
    own = density(flow, reach(world.project(world.test_x)), world.test_y)
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.permuted(np.asarray(world.project(world.test_x)), axis=0))
    assert np.mean(own) > np.mean(density(flow, reach(noise), world.test_y)) + 1.0
    share = np.bincount(world.test_y, minlength=3) + 1.0
    np.testing.assert_allclose(np.exp(flow.log_prior), share / share.sum(), rtol=1e-5)


def test_flow_ratio_sees_copies(world, schema, flow_observer, member):
    """Members of a raw release lie where its density has risen above the population's."""
    call, areas = jax.jit(flow_observer), []
    publish = RawPublisher(schema=schema)
    for k in range(4):
        rows = np.flatnonzero(member[k])
        records = jax.tree.map(lambda a, rows=rows: a[rows], world.pool)
        found = call(jax.random.key(k), publish(jax.random.key(0), records), world)
        areas.append(auc(found["flow_ratio"], member[k]))
    assert np.mean(areas) > 0.7


def test_far_features_stay_finite(world, flow_observer):
    """A release far outside the population, as an axis of no variance would show it."""
    release = other_release()
    far = Release(x=1e6 * release.x, y=release.y)
    found = jax.jit(flow_observer)(jax.random.key(0), far, world)["flow_ratio"]
    assert np.isfinite(found).all()
