"""Publishers that work on features: noise, mixup, SMOTE; and what all such have in common."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from curvpub import deform, features, publishers
from curvpub.publishers import encoding
from curvpub.publishers.smote import nearest_of_class
from curvpub.types import Publisher, Records

COUNT = 60
MAKERS = {
    "noise": publishers.NoisePublisher,
    "mixup": publishers.MixupPublisher,
    "smote": publishers.SmotePublisher,
    "ksame": publishers.KSamePublisher,
}
OWN = {"noise": 0.2, "mixup": 1.0, "smote": 5, "ksame": 5}  # defaults of the strengths
STRENGTH = {"noise": 0.3, "mixup": 0.5, "smote": 3, "ksame": 4}
# Images whose pixels are nowhere near the ends of [0, 1], so that nothing is cut.
GREY = dataclasses.replace(IMAGE, shape=(2, 2, 1), classes=("a", "b", "c"))


def grey_records(count, seed=0):
    rng = np.random.default_rng(seed)
    x = 0.5 + 0.05 * rng.normal(size=(count, 2, 2, 1))
    return Records(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(rng.integers(0, 3, count), "int32"))


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    publisher: object
    records: Records
    call: object  # jitted; takes the strength as data


@pytest.fixture(
    scope="module",
    params=[(name, s) for name in MAKERS for s in (IMAGE, TABLE)],
    ids=lambda p: f"{p[0]}-{p[1].kind}",
)
def case(request):
    name, schema = request.param
    publisher = MAKERS[name](schema=schema)
    call = jax.jit(publisher)
    return Case(
        name,
        publisher,
        make_records(schema, COUNT),
        lambda key, records, strength=OWN[name]: call(key, records, jnp.asarray(strength)),
    )


def test_release_has_the_records_layout(case):
    records, schema = case.records, case.publisher.schema
    release = case.call(jax.random.key(0), records)
    assert release.x.shape == records.x.shape
    assert release.y.shape == (COUNT, schema.num_classes)
    assert release.x.dtype == release.y.dtype == jnp.float32
    assert np.isfinite(release.x).all()
    np.testing.assert_allclose(release.y.sum(axis=1), 1.0, atol=1e-5)
    assert (release.y >= 0).all()
    x = np.asarray(release.x, np.float64)
    if schema.kind == "image":
        np.testing.assert_allclose(x * 255, np.round(x * 255), atol=1e-4)
    else:
        np.testing.assert_array_equal(x[:, 1], np.round(x[:, 1]))
        assert set(x[:, 2]) <= {0.0, 1.0, 2.0}


def test_same_key_same_release_other_key_another(case):
    first, again, other = (case.call(jax.random.key(k), case.records) for k in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    assert np.array_equal(first.x, other.x) == (case.name == "ksame")  # deterministic


def test_vmap_over_shadows_equals_separate_runs(case):
    keys = jax.random.split(jax.random.key(3), 2)
    sets = [make_records(case.publisher.schema, COUNT, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *sets)
    together = jax.jit(jax.vmap(case.publisher))(keys, stacked)
    for row in range(2):
        release = case.call(keys[row], sets[row])  # the default strength, as data
        # Sums in another order: a pixel may round to the next of 256 levels, a column by 1e-5.
        np.testing.assert_allclose(together.x[row], release.x, rtol=1e-4, atol=1.01 / 255)
        np.testing.assert_allclose(together.y[row], release.y, atol=1e-5)


def test_strength_as_data_equals_the_publishers_own(case):
    """A sweep compiles once."""
    field = {"noise": "sigma", "mixup": "alpha", "smote": "neighbours", "ksame": "size"}[case.name]
    assert getattr(case.publisher, field) == OWN[case.name]
    own = dataclasses.replace(case.publisher, **{field: STRENGTH[case.name]})
    expected = jax.jit(own)(jax.random.key(4), case.records)
    traced = case.call(jax.random.key(4), case.records, STRENGTH[case.name])
    # A scale folded into a constant rounds otherwise.
    np.testing.assert_allclose(traced.x, expected.x, rtol=1e-4, atol=1.01 / 255)
    np.testing.assert_allclose(traced.y, expected.y, atol=1e-5)
    default = case.call(jax.random.key(4), case.records)
    assert not np.array_equal(default.x, traced.x)  # the strength did something


def test_publishers_are_hashable_and_fit_the_protocol(case):
    checked: Publisher = case.publisher
    assert hash(checked) == hash(dataclasses.replace(case.publisher))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (make_records(TABLE, 9), "shape"),
        (Records(x=jnp.zeros((9, 8, 8)), y=jnp.zeros(9, jnp.int32)), "shape"),
        (Records(x=jnp.zeros((9, 8, 8, 1)), y=jnp.zeros(8, jnp.int32)), "integers"),
        (Records(x=jnp.zeros((9, 8, 8, 1)), y=jnp.zeros(9)), "integers"),
        (Records(x=jnp.zeros((0, 8, 8, 1)), y=jnp.zeros(0, jnp.int32)), "too few"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_unfit_records_are_refused(name, records, message):
    with pytest.raises(ValueError, match=message):
        MAKERS[name](schema=IMAGE)(jax.random.key(0), records)


@pytest.mark.parametrize("name", ["mixup", "smote"])
def test_one_record_cannot_be_mixed(name):
    with pytest.raises(ValueError, match="1 records are too few"):
        MAKERS[name](schema=IMAGE)(jax.random.key(0), make_records(IMAGE, 1))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("noise", {"sigma": -0.1}),
        ("noise", {"sigma": float("nan")}),
        ("noise", {"sigma": float("inf")}),
        ("mixup", {"alpha": 0.0}),
        ("mixup", {"alpha": float("nan")}),
        ("mixup", {"copies": 0.0}),
        ("smote", {"neighbours": 0}),
        ("smote", {"neighbours": 2.5}),
        ("smote", {"copies": -1.0}),
        ("ksame", {"size": 0}),
        ("ksame", {"size": True}),
    ],
)
def test_absurd_settings_are_refused(name, settings):
    ((setting, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{setting}={value!r}"):
        MAKERS[name](schema=IMAGE, **settings)


@pytest.mark.parametrize(("copies", "expected"), [(0.001, 1), (0.5, 30), (1.26, 76), (2.0, 120)])
@pytest.mark.parametrize("name", ["mixup", "smote"])
def test_number_of_copies(name, copies, expected):
    publisher = MAKERS[name](schema=IMAGE, copies=copies)
    release = jax.eval_shape(publisher, jax.random.key(0), make_records(IMAGE, COUNT))
    assert release.x.shape[0] == release.y.shape[0] == expected


def test_parents_are_drawn_equally_often_and_in_no_order():
    for wanted, times in ((30, {0, 1}), (90, {1, 2})):
        rows = np.asarray(encoding.draw_parents(jax.random.key(0), COUNT, wanted=wanted))
        assert set(np.bincount(rows, minlength=COUNT)) == times
        assert abs(stats.spearmanr(rows, np.arange(wanted)).statistic) < 0.5
        # Two copies of a record stand at unrelated places.
        assert not np.array_equal(rows[: wanted // 2], rows[wanted // 2 :])


def test_pixel_noise_has_its_law():
    records = grey_records(4000)
    release = jax.jit(publishers.NoisePublisher(schema=GREY, sigma=0.07))(
        jax.random.key(0), records
    )
    noise = np.asarray(release.x - records.x, np.float64).reshape(4000, -1)
    # Rounding to 8 bits adds a variance of 1 / (12 255^2); 16,000 values know theirs to 1.1%.
    spread = np.sqrt(0.07**2 + 1 / (12 * 255**2))
    assert abs(noise.std() / spread - 1) < 0.03
    assert abs(noise.mean()) < 5 * spread / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 5 / np.sqrt(4000)
    np.testing.assert_array_equal(release.y, np.eye(3)[np.asarray(records.y)])


def test_no_noise_is_the_record_to_the_releases_precision():
    records = make_records(IMAGE, COUNT)
    release = publishers.NoisePublisher(schema=IMAGE, sigma=0.0)(jax.random.key(0), records)
    np.testing.assert_allclose(release.x, records.x, atol=0.51 / 255)


def test_noise_changes_a_category_as_often_as_theory_says():
    """P(own one-hot entry stays the largest) = E Phi(e + 1/sigma)^2 over standard normal e."""
    records, sigma = make_records(TABLE, 5000), 0.8
    release = jax.jit(publishers.NoisePublisher(schema=TABLE, sigma=sigma))(
        jax.random.key(1), records
    )
    kept = np.mean(np.asarray(release.x[:, 2]) == np.asarray(records.x[:, 2]))
    expected = stats.norm.expect(lambda e: stats.norm.cdf(e + 1 / sigma) ** 2)
    assert abs(kept - expected) < 5 * np.sqrt(expected * (1 - expected) / 5000)


def test_mixtures_have_the_beta_law_and_label_goes_with_features():
    """Two records: every mixture is a point between them, whose place is its weight."""
    x = jnp.stack([jnp.full((2, 2, 1), 0.1), jnp.full((2, 2, 1), 0.9)]).astype(jnp.float32)
    records = Records(x=x, y=jnp.asarray([0, 2], jnp.int32))
    publisher = publishers.MixupPublisher(schema=GREY, alpha=0.4, copies=2000.0)
    release = jax.jit(publisher)(jax.random.key(0), records)
    weight = np.asarray(release.y[:, 0], np.float64)
    np.testing.assert_allclose(release.y[:, 1], 0.0)
    np.testing.assert_allclose(
        np.asarray(release.x)[:, 0, 0, 0], 0.9 - 0.8 * weight, atol=0.51 / 255
    )
    # Beta(a, a) is symmetric, so which parent comes first does not matter.
    assert stats.kstest(weight, "beta", (0.4, 0.4)).pvalue > 1e-3


def test_mixtures_never_have_one_parent_alone():
    records = grey_records(5)
    publisher = publishers.MixupPublisher(schema=GREY, alpha=1e4, copies=200.0)
    release = jax.jit(publisher)(jax.random.key(0), records)  # equal parts
    pixels = np.asarray(release.x).reshape(1000, -1)
    pairs = [(records.x[i] + records.x[j]) / 2 for i in range(5) for j in range(i)]
    near = np.abs(pixels[:, None] - np.reshape(pairs, (1, 10, -1))).max(axis=2)
    assert (near.min(axis=1) < 0.01).all()
    # Every pair occurs, about equally often: chi-square of 1,000 draws of 10 pairs.
    assert stats.chisquare(np.bincount(near.argmin(axis=1), minlength=10)).pvalue > 1e-3


def test_a_mixed_category_is_drawn_with_the_weights():
    """Parents of different regions: which one is published follows the label's weight."""
    x = jnp.asarray([[100.0, 40.0, 0.0], [100.0, 40.0, 1.0]], jnp.float32)
    records = Records(x=x, y=jnp.asarray([0, 1], jnp.int32))
    publisher = publishers.MixupPublisher(schema=TABLE, alpha=1.0, copies=3000.0)
    release = jax.jit(publisher)(jax.random.key(0), records)
    weight = np.asarray(release.y[:, 1], np.float64)
    second = np.asarray(release.x[:, 2])
    assert set(second) == {0.0, 1.0}
    for low in np.arange(0, 1, 0.25):
        inside = (weight >= low) & (weight < low + 0.25)
        expected = weight[inside].mean()
        error = np.sqrt(expected * (1 - expected) / inside.sum())
        assert abs(second[inside].mean() - expected) < 5 * error


def naive_neighbours(x, y, count):
    """Same-class neighbours by scikit-learn, nearest first."""
    found = {}
    for c in np.unique(y):
        rows = np.flatnonzero(y == c)
        if len(rows) > 1:
            want = min(count, len(rows) - 1)
            search = NearestNeighbors(n_neighbors=want + 1).fit(x[rows])
            near = search.kneighbors(x[rows], return_distance=False)
            for row, mine in zip(rows, near, strict=True):
                found[row] = [r for r in rows[mine] if r != row][:want]
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_of_a_class_equal_scikit_learns(dtype):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(50, 4)) + 30.0).astype(dtype)  # far from the origin
    y = rng.choice(4, 50, p=(0.5, 0.4, 0.06, 0.04))
    y[:1] = 5  # alone
    near, found = jax.jit(lambda x, y: nearest_of_class(x, y, neighbours=6))(x, y)
    expected = naive_neighbours(x.astype(float), y, 6)
    assert set(np.bincount(y)) > {1}
    for row in range(50):
        mine = expected.get(row, [])
        assert found[row] == len(mine)
        np.testing.assert_array_equal(near[row, : len(mine)], mine)
    distance = np.linalg.norm(x.astype(float) - x[0].astype(float), axis=1)
    assert int(near[0, 0]) == np.argsort(distance)[1]


def test_smote_publishes_points_between_near_records_of_a_class():
    records = grey_records(40)
    x = np.asarray(records.x, np.float64).reshape(40, -1)
    y = np.asarray(records.y)
    publisher = publishers.SmotePublisher(schema=GREY, neighbours=3, copies=5.0)
    release = jax.jit(publisher)(jax.random.key(0), records)
    near = naive_neighbours(x, y, 3)
    starts = np.array([x[i] for i in near for _ in near[i]])
    ends = np.array([x[j] for i in near for j in near[i]])
    segment_class = np.array([y[i] for i in near for _ in near[i]])
    published = np.asarray(release.x, np.float64).reshape(200, -1)
    label = np.asarray(release.y).argmax(axis=1)
    np.testing.assert_array_equal(np.sort(release.y, axis=1)[:, :2], 0.0)
    along = ends - starts
    for point, c in zip(published, label, strict=True):
        place = ((point - starts) * along).sum(axis=1) / (along**2).sum(axis=1)
        foot = starts + np.clip(place, 0, 1)[:, None] * along
        gap = np.abs(point - foot).max(axis=1)
        assert gap[segment_class == c].min() < 1 / 255
    counts = np.bincount(label, minlength=3)
    np.testing.assert_array_equal(counts, 5 * np.bincount(y, minlength=3))


def test_smote_does_not_publish_the_only_member_of_a_class():
    records = grey_records(12)
    records = Records(x=records.x, y=jnp.asarray([2] + [0] * 11, jnp.int32))
    publisher = publishers.SmotePublisher(schema=GREY, copies=20.0)
    release = jax.jit(publisher)(jax.random.key(0), records)
    of_lone = np.asarray(release.y[:, 2])
    mixed = of_lone[of_lone > 0]
    assert len(mixed) == 20
    assert len(np.unique(mixed)) == 20  # the label tells the place on the segment
    other = np.linalg.norm(np.asarray(records.x - records.x[:1]).reshape(12, -1), axis=1)
    end = np.asarray(records.x[np.argsort(other)[1]])
    expected = end + of_lone[of_lone > 0, None, None, None] * np.asarray(records.x[0] - end)
    np.testing.assert_allclose(np.asarray(release.x)[of_lone > 0], expected, atol=0.51 / 255)


def test_table_columns_return_to_their_units():
    """Decoding undoes the encoding where nothing was changed, up to the trimmed ends."""
    records = make_records(TABLE, 300)
    prepared = encoding.encode_records(TABLE, records)
    release = encoding.decode_records(TABLE, prepared.stats, prepared.x, prepared.probs)
    inside = np.argsort(np.argsort(records.x[:, 0]))
    inside = (inside > 10) & (inside < 290)
    np.testing.assert_allclose(release.x[inside, 0], records.x[inside, 0], rtol=2e-2)
    np.testing.assert_array_equal(release.x[:, 2], records.x[:, 2])
    stats_of = features.fit_features(TABLE, records.x)
    np.testing.assert_array_equal(prepared.stats.quantiles, stats_of.quantiles)


def deformed_publisher(base, **settings):
    return publishers.DeformedPublisher(base=base, schema=GREY_LARGE, **settings)


GREY_LARGE = dataclasses.replace(IMAGE, shape=(9, 7, 2), classes=("a", "b", "c"))


def large_records(count=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, 9, 7, 2)) / 255.0
    return Records(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(rng.integers(0, 3, count), "int32"))


def test_deformed_by_nothing_is_several_times_the_base():
    records = large_records()
    raw = publishers.RawPublisher(schema=GREY_LARGE)
    publisher = deformed_publisher(raw, warp=0.0, elastic=0.0, copies=3)
    found = jax.jit(publisher)(jax.random.key(0), records)
    once = raw(jax.random.key(0), records)
    np.testing.assert_allclose(found.x, np.concatenate([once.x] * 3), atol=1e-6)  # k / 255
    np.testing.assert_array_equal(found.y, np.concatenate([once.y] * 3))


def test_each_copy_is_deformed_as_the_method_deforms():
    """Each published image is `deform` of its record, and no two copies are alike."""
    records = large_records()
    publisher = deformed_publisher(
        publishers.RawPublisher(schema=GREY_LARGE), warp=0.6, elastic=0.7, copies=2
    )
    found = np.asarray(jax.jit(publisher)(jax.random.key(1), records).x)
    assert found.shape == (24, 9, 7, 2)
    assert np.abs(found[:12] - found[12:]).max(axis=(1, 2, 3)).min() > 0.05
    one = lambda key, image: deform.deform(key, image, warp=0.6, elastic=0.7)
    keys = jax.random.split(jax.random.key(7), 400)
    again = np.asarray(jax.jit(jax.vmap(one, (0, None)))(keys, records.x[0]))
    # Moments of 400 deformations bound those of 24: each lies within five deviations.
    gap = np.abs(found[0] - again.mean(axis=0)) / (again.std(axis=0) + 0.02)
    assert gap.max() < 5.0
    np.testing.assert_allclose(found * 255, np.round(found * 255), atol=1e-4)  # eight bits


def test_deformed_passes_the_strength_on_and_draws_the_base_anew():
    records = large_records()
    noise = publishers.NoisePublisher(schema=GREY_LARGE)
    publisher = deformed_publisher(noise, warp=0.0, elastic=0.0, copies=2)
    call = jax.jit(publisher)
    still = call(jax.random.key(2), records, jnp.float32(0.0))
    np.testing.assert_array_equal(still.x[:12], still.x[12:])
    moved = call(jax.random.key(2), records, jnp.float32(0.1))
    assert not np.array_equal(moved.x[:12], moved.x[12:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"warp": -1.0}, "warp=-1.0"), ({"copies": 0}, "copies=0"), ({"schema": TABLE}, "is a table")],
)
def test_deformed_refuses_what_makes_no_sense(settings, message):
    base = publishers.RawPublisher(schema=GREY_LARGE)
    with pytest.raises(ValueError, match=message):
        publishers.DeformedPublisher(**({"base": base, "schema": GREY_LARGE} | settings))
