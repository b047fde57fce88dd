"""Attribute inference against a plain re-implementation, and where its advantage is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from curvpub import features
from curvpub.audit import (
    Attacker,
    AttributeObserver,
    attack_scores,
    complementary_pairs,
    game_statistics,
    make_world,
    play,
    release_attributes,
    standard_attacker,
    summarise_attributes,
)
from curvpub.audit.attributes import guess_columns, table_cells
from curvpub.models.networks import Mlp
from curvpub.publishers import RawPublisher
from curvpub.types import Column, Records, Release, Schema

SCHEMA = Schema(
    name="people",
    kind="table",
    shape=(4,),
    classes=("no", "yes"),
    columns=(
        Column(name="age", integer=True),
        Column(name="job", categories=("a", "b", "c", "d", "e")),
        Column(name="income"),
        Column(name="city", categories=("x", "y", "z")),
    ),
)
OPTIONS = {"bootstrap": 20, "confidence": 0.99, "seed": 0}


def draw(seed, count):
    """The job follows the age, the label the income; the city is noise."""
    rng = np.random.default_rng(seed)
    age = np.rint(rng.uniform(18, 80, count))
    job = np.where(rng.random(count) < 0.7, (age - 18) // 12.5, rng.integers(0, 5, count))
    income = np.exp(rng.normal(size=count) + age / 80)
    x = np.stack([age, job, income, rng.integers(0, 3, count)], axis=1)
    return Records(x=x.astype(np.float32), y=(income > 2).astype(np.int32))


def publish(records):
    return Release(x=jnp.asarray(records.x), y=jax.nn.one_hot(records.y, 2))


@dataclasses.dataclass(frozen=True)
class FreshPublisher:
    """New records of the same law, whoever the members are."""

    def __call__(self, key, records):
        age_key, job_key, city_key, income_key = jax.random.split(key, 4)
        count = records.x.shape[0]
        age = jnp.round(jax.random.uniform(age_key, (count,), minval=18.0, maxval=80.0))
        columns = [
            age,
            jax.random.randint(job_key, (count,), 0, 5).astype(jnp.float32),
            jnp.exp(jax.random.normal(income_key, (count,), jnp.float32)),
            jax.random.randint(city_key, (count,), 0, 3).astype(jnp.float32),
        ]
        x = jnp.stack([c.astype(jnp.float32) for c in columns], axis=1)
        return Release(x=x, y=jax.nn.one_hot((x[:, 2] > 2).astype(jnp.int32), 2))


def plainly(stats_, records, release, *, tolerance, bandwidth):
    """One cell at a time, in float64: probability of the true value, and whether it was guessed."""

    def cells(x):
        scores = features.encode_features(SCHEMA, stats_, jnp.asarray(x))
        return np.stack([scores[:, 0], x[:, 1], scores[:, 6], x[:, 3]], axis=1).astype(float)

    mine, theirs = cells(np.asarray(records.x)), cells(np.asarray(release.x))
    probs, labels = np.asarray(release.y, float), np.eye(2)[np.asarray(records.y)]
    probability, hits = np.zeros(mine.shape), np.zeros(mine.shape, bool)
    for i, row in enumerate(mine):
        gaps = np.square(theirs - row)
        for c in (1, 3):
            gaps[:, c] = 2.0 * (theirs[:, c] != row[c])
        for c in range(4):
            far = np.delete(gaps, c, axis=1).sum(axis=1) + np.square(labels[i] - probs).sum(axis=1)
            weight = np.exp(-(far - far.min()) / bandwidth**2)
            weight /= weight.sum()
            if c in (1, 3):
                values, truth, reach = theirs[:, c], row[c], 0.0
                tried = np.arange(len(SCHEMA.columns[c].categories))
            else:
                values, truth, reach = stats.norm.cdf(theirs[:, c]), stats.norm.cdf(row[c]), None
                reach, tried = tolerance, np.linspace(0, 1, 41)
            mass = [weight[np.abs(values - v) <= reach].sum() for v in tried]
            probability[i, c] = weight[np.abs(values - truth) <= reach].sum()
            hits[i, c] = np.abs(tried[int(np.argmax(mass))] - truth) <= reach
    return probability, hits


@pytest.fixture(scope="module")
def people():
    return make_world(SCHEMA, draw(0, 120), draw(1, 80))


@pytest.mark.parametrize("release", ["members", "others", "soft"])
def test_guesses_match_plain_ones(people, release):
    """Tolerance in float32: a weight is good to 1e-5, and a near tie may fall either way."""
    published = publish(draw(0, 120) if release == "members" else draw(2, 90))
    if release == "soft":
        probs = np.random.default_rng(3).dirichlet(np.ones(2), 90).astype(np.float32)
        published = Release(x=published.x, y=jnp.asarray(probs))
    options = {"tolerance": 0.05, "bandwidth": 0.5}
    found, hits = guess_columns(
        SCHEMA,
        table_cells(SCHEMA, people.stats, people.pool.x),
        jax.nn.one_hot(people.pool_y, 2),
        table_cells(SCHEMA, people.stats, published.x),
        published.y,
        **options,
    )
    expected, right = plainly(people.stats, people.pool, published, **options)
    assert found.dtype == jnp.float32
    assert (
        np.mean(np.abs(np.asarray(found) - expected) > 2e-4) < 0.01
    )  # a value on the edge of the tolerance
    assert np.mean(np.asarray(hits) != right) < 0.01


def test_learns_what_the_release_says_of_anybody(people):
    """Guesses about people who are not in the release are right where columns depend, else not."""
    found = AttributeObserver(schema=SCHEMA)(jax.random.key(0), publish(draw(2, 2000)), people)
    accuracy = np.asarray(found["attribute_hits"]).mean(axis=0)
    # Job: at best 0.7 + 0.3 / 5. City: a third, with a standard error of 0.043.
    assert 0.5 < accuracy[1] < 0.9
    assert abs(accuracy[3] - 1 / 3) < 4 * 0.043
    assert found["attribute"].shape == (120,)
    assert found["attribute_hits"].dtype == bool


def test_copies_are_guessed_and_others_are_not(people):
    """Raw data: nearly every hidden cell of a member is found; the advantage is the difference."""
    member = np.arange(120) < 60
    half = Records(x=draw(0, 120).x[member], y=draw(0, 120).y[member])
    found = AttributeObserver(schema=SCHEMA)(jax.random.key(0), publish(half), people)
    target = {k: np.asarray(v) for k, v in found.items()}
    rows = release_attributes("raw", SCHEMA, target, member, confidence=0.95)
    assert [r.column for r in rows] == ["age", "job", "income", "city"]
    for index, row in enumerate(rows):
        hits = target["attribute_hits"][:, index]
        assert row.members == hits[member].mean()
        assert row.nonmembers == hits[~member].mean()
        assert row.advantage == pytest.approx(row.members - row.nonmembers)
        assert row.advantage_low <= row.advantage <= row.advantage_high
    assert rows[3].members > 0.8
    assert rows[3].advantage_low > 0.3
    assert release_attributes("raw", SCHEMA, {}, member, confidence=0.95) == []


def run_game(publisher, world, shadows=12):
    member = complementary_pairs(np.random.default_rng(5), num_shadows=shadows, num_records=120)
    attacker = Attacker((AttributeObserver(schema=SCHEMA),))
    found = dict(play(publisher, attacker, jax.random.key(1), member, world, shadows_per_call=4))
    return {k: np.stack([found[s][k] for s in sorted(found)]) for k in found[0]}, member


def test_game_on_raw_data(people):
    signals, member = run_game(RawPublisher(schema=SCHEMA), people)
    assert signals["attribute_hits"].shape == (12, 120, 4)
    rows = summarise_attributes(
        "raw", SCHEMA, signals, {k: v[0] for k, v in signals.items()}, member, member[0], **OPTIONS
    )
    assert [r.scope for r in rows] == ["game"] * 4 + ["this release"] * 4
    for row, hits in zip(rows, np.moveaxis(signals["attribute_hits"], 2, 0), strict=False):
        assert row.members - row.nonmembers == pytest.approx(row.advantage)
        assert row.members == pytest.approx(hits[member].mean())
        assert row.advantage_low > 0.2, row
    score = attack_scores(signals, member)["attributes"]
    assert game_statistics(score, member, fprs=[], **OPTIONS).auc.low > 0.9


def test_game_on_a_publisher_that_ignores_its_data(people):
    signals, member = run_game(FreshPublisher(), people)
    rows = summarise_attributes("fresh", SCHEMA, signals, {}, member, member[0], **OPTIONS)
    assert len(rows) == 4
    for row in rows:
        assert row.advantage_low <= 0.0 <= row.advantage_high, row
    score = attack_scores(signals, member)["attributes"]
    area = game_statistics(score, member, fprs=[], **OPTIONS).auc
    assert area.low <= 0.5 <= area.high


def test_interval_covers_the_advantage():
    """Guesses with known success, 0.7 of members and 0.6 of others: 400 releases of 200 and 300."""
    rng, covered = np.random.default_rng(6), 0
    member = np.arange(500) < 200
    schema = dataclasses.replace(SCHEMA, columns=SCHEMA.columns[:1], shape=(1,))
    for _ in range(400):
        hits = rng.random(500) < np.where(member, 0.7, 0.6)
        target = {"attribute_hits": hits[:, None]}
        (row,) = release_attributes("raw", schema, target, member, confidence=0.95)
        covered += row.advantage_low <= 0.1 <= row.advantage_high
    assert 0.95 - 4 * 0.011 < covered / 400 <= 0.99


def test_only_tables_have_columns(schema, world):
    with pytest.raises(ValueError, match=r"schema\.kind='image': only tables have columns to hide"):
        AttributeObserver(schema=schema)
    options = {"steps": 1, "batch_size": 1, "learning_rate": 0.1, "label_scale": 1.0}
    assert "attributes" not in {
        o.name for o in standard_attacker(schema, Mlp((2,), 3), **options).observers
    }
    assert "attributes" in {
        o.name for o in standard_attacker(SCHEMA, Mlp((2,), 2), **options).observers
    }
    assert summarise_attributes("raw", schema, {}, {}, None, None, **OPTIONS) == []


@pytest.mark.parametrize("setting", ["tolerance", "bandwidth", "smoothing"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=rf"{setting}={value!r} must be positive and finite"):
        AttributeObserver(schema=SCHEMA, **{setting: value})


def test_nothing_published(people):
    cells = table_cells(SCHEMA, people.stats, people.pool.x)
    with pytest.raises(ValueError, match=r"records \(120, 4\) and published \(0, 4\) cannot be"):
        guess_columns(
            SCHEMA,
            cells,
            jax.nn.one_hot(people.pool_y, 2),
            jax.tree.map(lambda a: a[:0], cells),
            jnp.zeros((0, 2)),
            tolerance=0.05,
            bandwidth=0.5,
        )
