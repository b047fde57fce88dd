"""The codec between records and the model's space."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import QuantileTransformer

from curvpub import features
from curvpub.types import Column, Schema

COUNT = 1500


def table(**columns: Column) -> Schema:
    return Schema(
        name="t",
        kind="table",
        shape=(len(columns),),
        classes=("a", "b"),
        columns=tuple(columns.values()),
    )


def one_column(values: np.ndarray, **options) -> tuple[Schema, features.FeatureStats, jax.Array]:
    schema = table(v=Column(name="v", **options))
    x = jnp.asarray(values, jnp.float32)[:, None]
    return schema, features.fit_features(schema, x), x


def round_trip(values: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    schema, fitted, x = one_column(values, **options)
    scores = features.encode_features(schema, fitted, x)
    return np.asarray(scores)[:, 0], np.asarray(features.decode_features(schema, fitted, scores))[
        :, 0
    ]


def inside(values: np.ndarray) -> np.ndarray:
    """Rows that the trim (0.5% on either side) surely leaves alone."""
    low, high = np.quantile(values, [0.01, 0.99])
    return (values >= low) & (values <= high)


def test_images_round_trip_exactly_at_eight_bits():
    schema = Schema(name="i", kind="image", shape=(4, 6, 3), classes=("a", "b"))
    levels = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3))
    x = jnp.asarray(levels / 255.0, jnp.float32)
    fitted = features.fit_features(schema, x)
    encoded = features.encode_features(schema, fitted, x)
    assert encoded.shape == (10, features.feature_dim(schema)) == (10, 72)
    decoded = features.decode_features(schema, fitted, encoded)
    # XLA may divide by 255 as a product with its reciprocal: one unit in the last place.
    np.testing.assert_allclose(decoded, x, rtol=2e-7, atol=0)
    np.testing.assert_array_equal(np.round(np.asarray(decoded) * 255.0), levels)


def test_images_are_cut_and_rounded_to_eight_bits():
    schema = Schema(name="i", kind="image", shape=(1, 3, 1), classes=("a", "b"))
    fitted = features.fit_features(schema, jnp.zeros((1, 1, 3, 1), jnp.float32))
    decoded = features.decode_features(schema, fitted, jnp.asarray([[-0.5, 0.5, 7.0]], jnp.float32))
    np.testing.assert_array_equal(np.asarray(decoded).ravel() * 255.0, [0.0, 128.0, 255.0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(3.0, 2.0, COUNT),
        lambda rng: np.exp(rng.normal(8.0, 3.0, COUNT)),
        lambda rng: rng.standard_cauchy(COUNT),
        lambda rng: np.where(rng.random(COUNT) < 0.6, 0.1, rng.normal(size=COUNT)),
        lambda rng: np.where(rng.random(COUNT) < 0.9, 0.0, np.exp(rng.normal(8.0, 1.0, COUNT))),
        lambda rng: rng.normal(size=COUNT) * 1e-9,
    ],
    ids=["normal", "lognormal", "cauchy", "mass_inside", "mass_at_end", "tiny_units"],
)
def test_numeric_columns_round_trip(draw):
    values = draw(np.random.default_rng(1)).astype(np.float32)
    scores, decoded = round_trip(values)
    keep = inside(values)
    # float32: the score's rounding, about 2e-7 in probability, times the steepest slope of the
    # quantile function there.
    slope = np.diff(np.quantile(values[keep], np.linspace(0, 1, 257))).max() * 257
    np.testing.assert_allclose(decoded[keep], values[keep], rtol=1e-5, atol=1e-6 * slope)
    assert np.abs(scores).max() <= 3.001
    order = np.argsort(values, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    values = np.where(rng.random(COUNT) < 0.4, 2.0, np.exp(rng.normal(0.0, 2.0, COUNT)))
    values = values.astype(np.float32)
    scores, _ = round_trip(values)
    reference = QuantileTransformer(n_quantiles=257, output_distribution="normal", subsample=None)
    expected = reference.fit_transform(values[:, None].astype(np.float64))[:, 0]
    # Between the trimmed ends only float32 differs.
    keep = inside(values)
    np.testing.assert_allclose(scores[keep], expected[keep], atol=2e-4)


def test_point_mass_takes_the_middle_of_its_probabilities_and_comes_back_exactly():
    rng = np.random.default_rng(3)
    values = np.where(rng.random(COUNT) < 0.5, 0.3, rng.normal(0.0, 1.0, COUNT)).astype(np.float32)
    scores, decoded = round_trip(values)
    mass = values == np.float32(0.3)
    middle = 0.5 * ((values < np.float32(0.3)).mean() + (values <= np.float32(0.3)).mean())
    assert len(np.unique(scores[mass])) == 1
    # The grid has steps of 1/256 of probability.
    assert abs(stats.norm.cdf(scores[mass][0]) - middle) < 1.0 / 256
    np.testing.assert_array_equal(decoded[mass], np.float32(0.3))


def test_integer_columns_publish_whole_numbers():
    rng = np.random.default_rng(4)
    values = np.where(rng.random(COUNT) < 0.5, 40, rng.integers(17, 91, COUNT)).astype(np.float32)
    _, decoded = round_trip(values, integer=True)
    np.testing.assert_array_equal(decoded, np.round(decoded))
    keep = inside(values)
    np.testing.assert_array_equal(decoded[keep], values[keep])


@pytest.mark.parametrize("integer", [False, True])
def test_no_value_outside_the_trimmed_range_is_published(integer):
    rng = np.random.default_rng(5)
    values = np.round(rng.standard_cauchy(COUNT) * 20.0)
    schema, fitted, _ = one_column(values, integer=integer)
    anything = jnp.linspace(-50.0, 50.0, 4001, dtype=jnp.float32)[:, None]
    decoded = np.asarray(features.decode_features(schema, fitted, anything))
    # Beyond the five that an end is the mean of lie 0.5% of the members, rounded up, less one.
    beyond = int(np.ceil(0.005 * COUNT)) - 1
    ordered = np.sort(values)
    ends = ordered[beyond : beyond + 5].mean(), ordered[::-1][beyond : beyond + 5].mean()
    ends = np.round(ends) if integer else ends
    np.testing.assert_allclose([decoded.min(), decoded.max()], ends, rtol=1e-6)
    assert ordered[0] < decoded.min() < decoded.max() < ordered[-1]


def test_no_member_s_own_value_is_an_end():
    """Many records take an end as it is, so it must not be anybody's value."""
    values = np.random.default_rng(6).lognormal(10.0, 1.0, COUNT).astype(np.float32)
    _, decoded = round_trip(values)
    for end in (decoded.min(), decoded.max()):
        assert (decoded == end).sum() > 5
        assert end not in values


def test_five_members_reach_the_ends_however_few_there_are():
    values = np.concatenate([[-900.0], np.arange(18.0, 78.0), [5000.0]])
    schema, fitted, _ = one_column(values, integer=True)
    decoded = features.decode_features(schema, fitted, jnp.asarray([[-9.0], [9.0]], jnp.float32))
    np.testing.assert_array_equal(np.asarray(decoded).ravel(), [23.0, 72.0])  # 21 to 25, 70 to 74


def test_constant_column_is_published_as_it_is():
    scores, decoded = round_trip(np.full(50, 0.3, np.float32))
    np.testing.assert_array_equal(scores, 0.0)
    np.testing.assert_array_equal(decoded, np.float32(0.3))
    schema, fitted, _ = one_column(np.full(50, 7.0), integer=True)
    other = features.decode_features(schema, fitted, jnp.asarray([[-2.0], [2.0]], jnp.float32))
    np.testing.assert_array_equal(other, 7.0)


def test_categories_round_trip_and_take_the_largest_entry():
    schema = table(
        n=Column(name="n"), c=Column(name="c", categories=("x", "y", "z")), m=Column(name="m")
    )
    blocks = features.feature_blocks(schema)
    assert [(b.start, b.stop, b.kind, b.column) for b in blocks] == [
        (0, 1, "numeric", 0),
        (1, 4, "categorical", 1),
        (4, 5, "numeric", 2),
    ]
    rng = np.random.default_rng(6)
    x = np.stack([rng.normal(size=40), rng.integers(0, 3, 40), rng.normal(size=40)], axis=1)
    x = jnp.asarray(x, jnp.float32)
    fitted = features.fit_features(schema, x)
    encoded = features.encode_features(schema, fitted, x)
    np.testing.assert_array_equal(encoded[:, 1:4], np.eye(3)[np.asarray(x[:, 1], int)])
    soft = encoded.at[:, 1:4].multiply(0.2).at[:, 1:4].add(0.1)
    decoded = features.decode_features(schema, fitted, soft)
    np.testing.assert_array_equal(decoded[:, 1], x[:, 1])


def test_a_category_with_one_name_is_a_category():
    schema = table(c=Column(name="c", categories=("only",)))
    x = jnp.zeros((5, 1), jnp.float32)
    fitted = features.fit_features(schema, x)
    encoded = features.encode_features(schema, fitted, x)
    np.testing.assert_array_equal(encoded, 1.0)
    np.testing.assert_array_equal(features.decode_features(schema, fitted, encoded), x)


def test_codec_is_float32_and_vmaps_over_sets_of_records():
    schema = table(
        n=Column(name="n"),
        i=Column(name="i", integer=True),
        c=Column(name="c", categories=tuple("xyz")),
    )
    rng = np.random.default_rng(7)
    x = np.stack(
        [rng.normal(size=(3, 60)), rng.integers(0, 9, (3, 60)), rng.integers(0, 3, (3, 60))], -1
    )
    x = jnp.asarray(x, jnp.float32)

    def both(x):
        fitted = features.fit_features(schema, x)
        encoded = features.encode_features(schema, fitted, x)
        return fitted, encoded, features.decode_features(schema, fitted, encoded)

    together = jax.jit(jax.vmap(both))(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(together)} == {jnp.dtype(jnp.float32)}
    for row in range(3):
        # jit and vmap fuse differently: a few float32 roundings of scores up to 3.
        chex.assert_trees_all_close(
            jax.tree.map(lambda a, row=row: a[row], together), both(x[row]), atol=2e-5, rtol=2e-5
        )
