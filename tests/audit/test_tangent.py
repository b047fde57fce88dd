"""Tangent distances against full covariances, and against copies that were deformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from curvpub import deform
from curvpub.audit.observers import Attacker
from curvpub.audit.tangent import (
    TangentObserver,
    shrink,
    squared_distance,
    tangents,
    whitening,
)
from curvpub.audit.world import make_world
from curvpub.config import AuditConfig, Config, PublishConfig
from curvpub.stages.attacker import attacker_of
from curvpub.types import Column, Records, Release, Schema

SHAPE = (12, 12, 1)
SCHEMA = Schema(name="blobs", kind="image", shape=SHAPE, classes=("a", "b"))


def blobs(count, seed=0):
    """Smooth pictures: sums of bumps, so that derivatives mean something."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(12.0),) * 2, indexing="ij"), -1)
    middle = rng.uniform(2.0, 9.0, (count, 3, 1, 1, 2))
    bumps = np.exp(-np.sum((grid - middle) ** 2, axis=-1) / 8.0).sum(axis=1)
    x = np.clip(bumps / bumps.max(axis=(1, 2), keepdims=True), 0.0, 1.0)[..., None]
    return Records(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(rng.integers(0, 2, count), "int32"))


def deformed(x, strength, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(x))
    return jax.vmap(lambda k, i: deform.deform(k, i, warp=strength, elastic=strength))(keys, x)


def far(gap, along, sigma):
    return squared_distance(gap, along, whitening(along, sigma=sigma), sigma=sigma)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_distance_is_that_of_the_full_covariance(dtype, rtol):
    """Float32: the remainder of a difference of sums that are some hundred times as large."""
    with jax.enable_x64(dtype == np.float64):
        rng = np.random.default_rng(1)
        gap, along = rng.normal(size=(5, 30)), rng.normal(size=(4, 30))
        found = far(jnp.asarray(gap, dtype), jnp.asarray(along, dtype), 0.3)
        assert found.dtype == dtype
        covariance = 0.09 * np.eye(30) + along.T @ along
        expected = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(covariance), gap)
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_without_tangents_it_is_euclidean():
    gap = np.random.default_rng(2).normal(size=(6, 10)).astype(np.float32)
    found = far(jnp.asarray(gap), jnp.zeros((3, 10), jnp.float32), 0.5)
    np.testing.assert_allclose(found, 4.0 * np.sum(gap**2, axis=1), rtol=1e-5)


def test_a_deformed_copy_is_near_its_record_along_tangents():
    records = blobs(60)
    x, copies = records.x, deformed(records.x, 0.15)
    moves = deform.directions(SHAPE, warp=0.15, elastic=0.15)
    flat, moved = x.reshape(60, -1), copies.reshape(60, -1)

    def distances(own, image):
        return far(moved - own[None], tangents(image, moves), 0.02)

    matrix = np.asarray(jax.vmap(distances)(flat, x))
    own = np.diag(matrix)
    # What first-order deformations explain costs the squares of 39 normal numbers at most; the
    # same difference in pixel noise costs several times as much.
    plain = np.sum(np.square(np.asarray(moved - flat)), axis=1) / 0.02**2
    assert np.median(own) < 39.0
    assert np.median(plain / own) > 5.0
    assert (np.argmin(matrix, axis=1) == np.arange(60)).mean() > 0.95


def test_observer_is_the_naive_sum():
    records = blobs(40)
    world = make_world(SCHEMA, records, blobs(30, seed=5))
    probs = np.random.default_rng(3).dirichlet((1.0, 1.0), 25).astype(np.float32)
    release = Release(x=deformed(records.x[:25], 0.5), y=jnp.asarray(probs))
    observer = TangentObserver(schema=SCHEMA, warp=0.4, elastic=0.5, sigma=0.2, candidates=25)
    found = jax.jit(observer)(jax.random.key(0), release, world)["tangent_score"]
    moves = np.asarray(deform.directions(SHAPE, warp=0.4, elastic=0.5), np.float64)
    for row in range(0, 40, 7):
        image = np.asarray(records.x[row, ..., 0], np.float64)
        slopes = np.stack(np.gradient(image))
        along = np.einsum("kahw,ahw->khw", moves, slopes).reshape(len(moves), -1)
        inverse = np.linalg.inv(0.04 * np.eye(144) + along.T @ along)
        gap = np.asarray(release.x, np.float64).reshape(25, -1) - image.reshape(1, -1)
        logs = np.log(probs[:, records.y[row]] + 1e-3)
        logs = logs - 0.5 * np.einsum("ni,ij,nj->n", gap, inverse, gap)
        # Float32: see above.
        np.testing.assert_allclose(found[row], np.logaddexp.reduce(logs), rtol=5e-3, atol=5e-2)


def test_it_tells_members_whose_deformed_copies_are_published():
    records = blobs(200)
    world = make_world(SCHEMA, records, blobs(50, seed=6))
    member = np.random.default_rng(4).permutation(200) < 100
    x = deformed(records.x[member], 0.2)
    release = Release(x=x, y=jax.nn.one_hot(records.y[member], 2))
    observer = TangentObserver(schema=SCHEMA, warp=0.2, elastic=0.2, sigma=0.05)
    found = observer(jax.random.key(0), release, world)["tangent_score"]
    assert roc_auc_score(member, found) > 0.95


def test_it_takes_several_releases_and_few_records():
    records = blobs(10)
    world = make_world(SCHEMA, records, blobs(20, seed=7))
    observer = TangentObserver(
        schema=SCHEMA, warp=0.3, elastic=0.3
    )  # more candidates than there are
    release = Release(x=jnp.stack([records.x[:4]] * 2), y=jnp.full((2, 4, 2), 0.5))
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.vmap(lambda k, r: observer(k, r, world)["tangent_score"])(keys, release)
    np.testing.assert_array_equal(both[0], both[1])
    assert np.isfinite(both).all()


def test_what_is_prepared_once_gives_the_same_signal():
    records = blobs(30)
    world = make_world(SCHEMA, records, blobs(20, seed=8))
    observer = TangentObserver(schema=SCHEMA, warp=0.3, elastic=0.3)
    release = Release(x=deformed(records.x[:15], 0.3), y=jax.nn.one_hot(records.y[:15], 2))
    ready = Attacker((observer,)).prepare(world)
    assert ready.learnt["tangent"]["whitening"].shape == (30, 39, 39)
    plain, quick = (
        observer(jax.random.key(0), release, w)["tangent_score"] for w in (world, ready)
    )
    np.testing.assert_allclose(plain, quick, rtol=1e-4)  # compiled apart, so rounded apart


@pytest.mark.parametrize(
    ("shape", "scale"),
    [((8, 8, 1), 1), ((13, 28, 1), 1), ((14, 20, 3), 2), ((28, 28, 1), 4), ((64, 64, 3), 4)],
)
def test_candidates_are_looked_up_at_a_low_resolution(shape, scale):
    schema = Schema(name="s", kind="image", shape=shape, classes=("a", "b"))
    assert TangentObserver(schema=schema, warp=0.5, elastic=0.5).scale == scale
    flat = jnp.full(np.prod(shape), 0.25)
    small = shrink(flat, shape, scale)
    assert small.shape == (shape[0] // scale, shape[1] // scale, shape[2])
    np.testing.assert_allclose(small, 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("warp", "elastic", "sigma", "there"),
    [
        (0.5, 0.0, 0.3, True),
        (0.0, 0.5, 0.3, True),
        (0.0, 0.0, 0.3, False),
        (0.5, 0.5, 0.0, False),
    ],
)
def test_the_audit_uses_it_where_images_are_deformed(warp, elastic, sigma, there):
    config = Config(
        publish=PublishConfig(warp=warp, elastic=elastic),
        audit=AuditConfig(tangent_sigma=sigma, registered=0, adaptive_steps=0),
    )
    found = {o.name: o for o in attacker_of(config, SCHEMA).observers}
    assert ("tangent" in found) == there
    if there:
        assert (found["tangent"].warp, found["tangent"].elastic) == (warp, elastic)
        assert found["tangent"].sigma == sigma


def test_tables_have_no_tangents():
    columns = (Column(name="age"), Column(name="income"))
    table = Schema(name="t", kind="table", shape=(2,), classes=("a", "b"), columns=columns)
    config = Config(publish=PublishConfig(warp=0.5), audit=AuditConfig(adaptive_steps=0))
    assert "tangent" not in {o.name for o in attacker_of(config, table).observers}
