"""Microaggregation: sizes, classes, and the greedy rule itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records

from curvpub.publishers import KSamePublisher
from curvpub.publishers.ksame import group_mean, microaggregate
from curvpub.types import Records

CLASSES = 4


def grouped(x, y, size):
    call = jax.jit(lambda x, y, k: microaggregate(x, y, size=k, num_classes=CLASSES))
    return np.asarray(call(jnp.asarray(x), jnp.asarray(y), size))


def naive_groups(x, y, size):
    """The rule of the docstring with lists; every class has at least `size` members."""
    group = np.full(len(x), -1)
    for c in np.unique(y):
        free = list(np.flatnonzero(y == c))
        outlying = ((x - x[y == c].mean(axis=0)) ** 2).sum(axis=1)
        while free:
            seed = max(free, key=lambda row: outlying[row])
            near = sorted(free, key=lambda row: ((x[row] - x[seed]) ** 2).sum())
            taken = near if len(free) < 2 * size else near[:size]
            group[taken] = seed
            free = [row for row in free if row not in taken]
    return group


def random_case(count, seed=0, p=(0.4, 0.3, 0.2, 0.1), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)).astype(dtype), rng.choice(CLASSES, count, p=p)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_groups_equal_a_naive_implementation(size, dtype):
    x, y = random_case(100, dtype=dtype)
    assert np.bincount(y).min() >= 7
    np.testing.assert_array_equal(grouped(x, y, size), naive_groups(x, y, size))


@pytest.mark.parametrize("count", [8, 9, 40, 101])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("p", [(1, 0, 0, 0), (0.4, 0.3, 0.2, 0.1), (0.85, 0.05, 0.05, 0.05)])
def test_every_group_has_at_least_k_members(count, size, p):
    """Whatever the classes, small ones and empty ones included."""
    x, y = random_case(count, seed=count + size, p=p)
    group = grouped(x, y, size)
    assert (group >= 0).all()
    sizes = np.unique(group, return_counts=True)[1]
    assert sizes.min() >= size
    assert sizes.max() < 2 * size or len(sizes) == 1
    np.testing.assert_array_equal(group[group], group)  # named after a member
    big = np.flatnonzero(np.bincount(y, minlength=CLASSES) >= size)
    mixed = {c for g in np.unique(group) if len(set(y[group == g])) > 1 for c in set(y[group == g])}
    assert len(mixed & set(big)) <= 1  # at most one class is asked to host the small ones


def test_exact_copies_stay_within_bounds():
    """Ties everywhere: 30 copies of one point, and of another."""
    x = np.repeat([[0.0, 1.0], [5.0, 1.0]], 30, axis=0)
    group = grouped(x, np.zeros(60, int), 4)
    sizes = np.unique(group, return_counts=True)[1]
    assert sizes.min() >= 4
    assert sizes.max() < 8


def test_more_asked_for_than_there_are_is_one_group():
    x, y = random_case(6)
    assert len(set(grouped(x, y, 50))) == 1


def test_not_a_number_ends_the_procedure():
    x, y = random_case(20, p=(1, 0, 0, 0))
    x[3] = np.nan
    assert (grouped(x, y, 3) >= 0).all()


def test_group_mean_equals_a_naive_one():
    rng = np.random.default_rng(0)
    values, group = rng.normal(size=(30, 4)), rng.choice([2, 5, 17], 30)
    mean = group_mean(jnp.asarray(values), jnp.asarray(group))
    for g in (2, 5, 17):
        expected = np.broadcast_to(values[group == g].mean(axis=0), values[group == g].shape)
        np.testing.assert_allclose(mean[group == g], expected, rtol=1e-12)


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=lambda s: s.kind)
def test_every_published_row_stands_for_k_records(schema):
    """The guarantee, read off the release: equal rows come at least k times."""
    records = make_records(schema, 97)
    release = jax.jit(KSamePublisher(schema=schema, size=6))(jax.random.key(0), records)
    rows = np.concatenate([np.asarray(release.x).reshape(97, -1), np.asarray(release.y)], axis=1)
    assert np.unique(rows, axis=0, return_counts=True)[1].min() >= 6


def test_images_are_means_of_their_groups():
    records = make_records(IMAGE, 60)
    release = jax.jit(KSamePublisher(schema=IMAGE, size=5))(jax.random.key(0), records)
    x = np.asarray(records.x, np.float64).reshape(60, -1)
    group = naive_groups(x, np.asarray(records.y), 5)
    for g in np.unique(group):
        mean = x[group == g].mean(axis=0)
        published = np.asarray(release.x)[group == g].reshape((group == g).sum(), -1)
        np.testing.assert_allclose(published, np.broadcast_to(mean, published.shape), atol=1 / 255)
    np.testing.assert_array_equal(release.y, np.eye(3)[np.asarray(records.y)])


def test_a_table_publishes_the_most_frequent_category():
    x = jnp.asarray([[10.0, 30.0, 2.0]] * 4 + [[10.0, 30.0, 0.0]] * 3, jnp.float32)
    records = Records(x=x, y=jnp.ones(7, jnp.int32))
    release = jax.jit(KSamePublisher(schema=TABLE, size=4))(jax.random.key(0), records)
    np.testing.assert_array_equal(release.x[:, 2], 2.0)


def test_a_rare_class_is_published_with_soft_labels():
    records = make_records(IMAGE, 30)
    y = jnp.asarray([2, 2] + [0] * 8 + [1] * 20, jnp.int32)
    publisher = jax.jit(KSamePublisher(schema=IMAGE, size=4))
    release = publisher(jax.random.key(0), Records(x=records.x, y=y))
    assert (np.asarray(release.y[10:]) == np.eye(3)[1]).all()  # the larger class is left alone
    assert np.isclose(release.y[:10].sum(axis=0), [8, 0, 2], atol=1e-5).all()
    assert ((release.y[:2, 2] > 0) & (release.y[:2, 2] <= 0.5)).all()


def test_fewer_records_than_k_are_refused():
    with pytest.raises(ValueError, match="3 records are too few: this publisher needs 5"):
        KSamePublisher(schema=IMAGE, size=5)(jax.random.key(0), make_records(IMAGE, 3))
