"""Tracing images to records and pairs, against all pairs written out with full covariances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from curvpub import deform
from curvpub.audit.nearest import nearest_release_distance
from curvpub.audit.observers import Attacker
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.sources import SourceObserver, plain_mixtures
from curvpub.audit.tangent import TangentObserver, inverse_factor
from curvpub.audit.world import make_world
from curvpub.config import AuditConfig, Config, PublishConfig
from curvpub.stages.attacker import attacker_of
from curvpub.types import Release, Schema
from tests.audit.test_registration import SCHEMA, blobs, deformed

TANGENT = TangentObserver(schema=SCHEMA, warp=0.72, elastic=0.9, sigma=0.1)


def look(observer, release, world):
    ready = Attacker((observer,)).prepare(world)
    return np.asarray(jax.jit(observer)(jax.random.key(0), release, ready)["source_score"])


def game(count, seed):
    """A pool, and who of it is a member."""
    records = blobs(count, seed=seed)
    member = np.random.default_rng(seed).permutation(count) < count // 2
    return records, member, make_world(SCHEMA, records, blobs(50, seed=seed + 100))


def mixtures(records, member, count, seed):
    """Images, labels, and who they are of."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(member)
    first = rng.choice(rows, count)
    second = np.where(first == (other := rng.choice(rows, count)), rows[0], other)
    share = rng.beta(16.0, 16.0, count).astype(np.float32)
    x, one_hot = np.asarray(records.x), np.eye(2, dtype=np.float32)[np.asarray(records.y)]
    mix = lambda a: (share * a[first].T + (1.0 - share) * a[second].T).T
    return jnp.asarray(mix(x)), jnp.asarray(mix(one_hot)), np.stack([first, second])


def test_it_counts_the_images_that_came_from_a_record():
    records, member, world = game(60, 0)
    times = np.where(member, 1 + np.arange(60) % 3, 0)
    rows = np.repeat(np.arange(60), times)
    release = Release(x=records.x[rows], y=jnp.full((len(rows), 2), 0.5))
    found = look(SourceObserver(tangent=TANGENT, steps=1), release, world)
    # A thousandth is added before the logarithm; two smooth blobs in sixty may be much alike.
    np.testing.assert_allclose(np.exp(found) - 1e-3, times, atol=0.1)


def test_it_finds_deformed_copies_that_registration_alone_does_not():
    records, member, world = game(200, 1)
    rows = np.flatnonzero(member)
    release = Release(x=deformed(records.x[rows], 0.9), y=jnp.full((100, 2), 0.5))
    found = roc_auc_score(member, look(SourceObserver(tangent=TANGENT), release, world))
    registration = RegistrationObserver(tangent=TANGENT, coarse_steps=3, steps=3)
    each = jax.jit(registration)(jax.random.key(0), release, world)["registered_score"]
    assert found > 0.9
    assert found > roc_auc_score(member, each)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_the_first_look_is_the_tangent_distance_to_every_record(sigma):
    """Products that all images share, against each image's gaps written down, in float64."""
    tangent = TangentObserver(schema=SCHEMA, warp=0.72, elastic=0.9, sigma=sigma)
    observer = SourceObserver(tangent=tangent, traced=60)
    records, _, world = game(60, 5)
    ready, label = observer.prepare(world), jnp.zeros(60, int)
    image = observer._small(deformed(records.x[:1], 0.9).reshape(1, -1))[0]
    share = jnp.asarray([0.7, 0.3], image.dtype)
    across = observer._whitened(image, observer._whitening(image))
    found = observer._records(image, share, across, ready, label)
    along = np.asarray(tangent.tangents(image), np.float64)
    noise = (sigma / tangent.scale) ** 2
    inverse = np.linalg.inv(noise * np.eye(along.shape[1]) + along.T @ along)
    gaps = np.asarray(image, np.float64)[None] - np.asarray(ready["small"], np.float64)
    expected = np.log(0.7 + 1e-3) - 0.5 * np.einsum("nd,de,ne->n", gaps, inverse, gaps)
    # In float32 squares of images cancel: their rounding over twice the noise's variance.
    rounding = 8 * np.finfo(np.float32).eps * np.square(image).sum() / noise
    np.testing.assert_allclose(found.score, expected[found.first], rtol=1e-4, atol=rounding)
    assert rounding < 0.1
    assert sorted(np.asarray(found.first)) == list(range(60))


def brute_force(image, label, x, y, tangent):
    """Energies of all pairs by full covariance matrices in float64, with who they are."""
    moves = np.asarray(deform.directions(image.shape, warp=tangent.warp, elastic=tangent.elastic))
    picture = np.asarray(image, np.float64)
    slopes = np.gradient(picture, axis=(0, 1))
    along = sum(moves[:, a, :, :, None] * slopes[a][None] for a in range(2))
    along = along.reshape(len(moves), -1).astype(np.float64)
    covariance = tangent.sigma**2 * np.eye(picture.size) + along.T @ along
    order, found = np.argsort(-label), []
    pure = label[order[1]] < 0.02
    for a, b in itertools.permutations(range(len(x)), 2):
        if pure and not (y[a] == y[b] == order[0] and a < b):
            continue
        if not pure and not (y[a] == order[0] and y[b] == order[1]):
            continue
        gaps = picture.ravel()[None] - np.stack([x[a], x[b]])
        inner = gaps @ np.linalg.solve(covariance, gaps.T)
        share = label[order[0]]
        if pure:
            share = (inner[1, 1] - inner[0, 1]) / (inner[0, 0] + inner[1, 1] - 2 * inner[0, 1])
            share = float(np.clip(share, 0.0, 1.0))
        weights = np.asarray([share, 1.0 - share])
        found.append((0.5 * weights @ inner @ weights, frozenset((a, b)), share))
    return sorted(found, key=lambda row: row[0])


@pytest.mark.parametrize("second", [0.0, 0.4])
def test_pairs_are_those_of_an_exhaustive_search(second):
    """The best ones with shares and energies, of one class and of two."""
    shape = (8, 8, 1)  # so small that nothing is shrunk
    schema = Schema(name="s", kind="image", shape=shape, classes=("a", "b"))
    records = blobs(24, seed=2, shape=shape)
    world = make_world(schema, records, blobs(50, seed=3, shape=shape))
    tangent = TangentObserver(schema=schema, warp=0.4, elastic=0.5, sigma=0.1)
    observer = SourceObserver(tangent=tangent, traced=6, steps=0, mixtures=True, spare=2.0)
    ready = observer.prepare(world)
    who, kinds = np.asarray(ready["order"]), world.pool_y[ready["order"]]
    x, y = np.asarray(world.pool_x, np.float64), np.asarray(records.y)
    label = np.asarray([1.0 - second, second], np.float32)
    images, _, _ = mixtures(records, np.ones(24, bool), 4, 5)
    for image in deformed(images, 0.3, seed=4):
        near = image.reshape(-1)
        across = observer._whitened(near, observer._whitening(near))
        found = observer._pairs(near, jnp.asarray(label), across, ready, kinds)
        best = brute_force(image, label, x, y, tangent)[:6]
        pairs = zip(np.asarray(found.first), np.asarray(found.second), strict=True)
        assert [frozenset((int(who[a]), int(who[b]))) for a, b in pairs] == [b[1] for b in best]
        # float32 differences of squares; energies are of gaps over a pixel's 0.1 squared.
        np.testing.assert_allclose(-found.score, [b[0] for b in best], rtol=2e-3, atol=0.05)
        mirrored = np.asarray([b[2] for b in best])
        shares = np.asarray(found.share)
        close = np.minimum(abs(shares - mirrored), abs(1.0 - shares - mirrored))
        np.testing.assert_allclose(close, 0.0, atol=2e-3)


def test_the_inverse_factor_is_that_of_cholesky():
    with jax.enable_x64(True):
        half = np.random.default_rng(0).normal(size=(39, 60))
        matrix = half @ half.T + 0.01 * np.eye(39)
        expected = np.linalg.inv(np.linalg.cholesky(matrix))
        np.testing.assert_allclose(inverse_factor(jnp.asarray(matrix)), expected, atol=1e-10)
    found = inverse_factor(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)  # a condition number of some hundreds


def test_mixtures_give_away_both_their_sources():
    records, member, world = game(80, 4)
    x, y, who = mixtures(records, member, 120, 5)
    found = look(plain_mixtures(SCHEMA), Release(x=x, y=y), world)
    times = np.bincount(who.ravel(), minlength=80)
    assert np.corrcoef(np.exp(found), times)[0, 1] > 0.99
    # Who is in no mixture cannot be told from a non-member: chance alone leaves some out.
    assert roc_auc_score(times > 0, found) > 0.99


def test_deformed_mixtures_are_traced_where_the_nearest_image_says_little():
    records, member, world = game(80, 6)
    x, y, _ = mixtures(records, member, 200, 7)
    release = Release(x=deformed(x, 0.5, seed=8), y=y)
    tangent = TangentObserver(schema=SCHEMA, warp=0.4, elastic=0.5, sigma=0.1)
    found = look(SourceObserver(tangent=tangent, mixtures=True), release, world)
    distance = nearest_release_distance(world.pool_x, release.x.reshape(len(x), -1), block_size=64)
    assert roc_auc_score(member, found) > 0.85
    assert roc_auc_score(member, found) > roc_auc_score(member, -np.asarray(distance)) + 0.1


@pytest.mark.parametrize("mixed", [False, True])
def test_records_that_nobody_published_are_not_told_apart(mixed):
    """The null: membership says nothing about a release of other records."""
    _, member, world = game(400, 9)
    others = blobs(100, seed=10)
    x, y, _ = mixtures(others, np.ones(100, bool), 100, 11)
    release = Release(x=deformed(x if mixed else others.x, 0.6), y=y)
    tangent = TangentObserver(schema=SCHEMA, warp=0.5, elastic=0.6)
    observer = SourceObserver(tangent=tangent, mixtures=mixed, traced=4, steps=2)
    found = look(observer, release, world)
    # The standard error of an AUC of 200 against 200 is 0.029.
    assert abs(roc_auc_score(member, found) - 0.5) < 0.1


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 16, 3), (28, 28, 1)])
def test_it_takes_colours_sizes_several_releases_and_few_records(shape, mixed):
    schema = Schema(name="s", kind="image", shape=shape, classes=("a", "b", "c"))
    records = blobs(10, shape=shape)  # none of the third class, and fewer than are asked for
    world = make_world(schema, records, blobs(20, seed=7, shape=shape))
    tangent = TangentObserver(schema=schema, warp=0.3, elastic=0.3)
    observer = SourceObserver(tangent=tangent, traced=16, mixtures=mixed)
    label = jnp.asarray([[0.0, 0.0, 1.0]] + [[0.5, 0.4, 0.1]] * 3)
    release = Release(x=jnp.stack([records.x[:4]] * 2), y=jnp.stack([label] * 2))
    ready = Attacker((observer,)).prepare(world)
    both = jax.vmap(lambda r: observer(jax.random.key(0), r, ready)["source_score"])(release)
    np.testing.assert_array_equal(both[0], both[1])
    assert np.isfinite(both).all()


def test_the_audit_traces_images_unless_told_not_to():
    publish = PublishConfig(warp=0.5, elastic=0.6)

    def names(publish=publish, mixtures="none", **settings):
        audit = AuditConfig(adaptive_steps=0, **settings)
        config = Config(publish=publish, audit=audit)
        return {o.name: o for o in attacker_of(config, SCHEMA, mixtures).observers}

    assert not names()["sources"].mixtures
    assert names(traced=3)["sources"].traced == 3
    assert "sources" not in names(traced=0)
    assert "sources" not in names(publish=PublishConfig(warp=0.0, elastic=0.0))
    bent = names(mixtures="deformed")
    assert bent["sources"].mixtures
    assert bent["sources"].tangent.elastic == 0.6
    assert "registration" in bent
    plain = names(mixtures="plain")
    assert plain["sources"] == plain_mixtures(SCHEMA)
    assert "registration" not in plain
    assert "sources" not in names(mixtures="plain", traced=0)
