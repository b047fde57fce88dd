"""What a release adds to a few real records, and the interval of a paired difference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records
from scipy import stats
from sklearn.linear_model import LogisticRegression

from curvpub import evaluate, features
from curvpub.evaluate.fine_tuning import standard_network, tuned_log_probs
from curvpub.publishers import RawPublisher
from curvpub.types import Records, Release

LINEAR = evaluate.UserModel(kind="linear", steps=150, batch_size=32, learning_rate=1e-2)


def host(records):
    return Records(x=np.asarray(records.x), y=np.asarray(records.y))


def raw(schema, count, seed=0):
    return RawPublisher(schema=schema)(jax.random.key(0), make_records(schema, count, seed))


def measure(schema, release, few=8, key=0, **settings):
    test = host(make_records(schema, 400, seed=1))
    known = host(make_records(schema, few, seed=2))
    settings = {"model": LINEAR, "steps": 30} | settings
    return evaluate.fine_tuning(jax.random.key(key), schema, release, known, test, **settings)


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=lambda s: s.kind)
def test_a_release_of_real_records_helps(schema):
    few = 2 if schema.kind == "image" else 8  # eight images are enough for every blob
    found = measure(schema, raw(schema, 300), few=few)
    assert found.gain.low > 0.0
    assert found.fine_tuned.low > found.from_scratch.value
    np.testing.assert_allclose(
        found.gain.value, found.fine_tuned.value - found.from_scratch.value, atol=1e-12
    )


def test_a_release_with_wrong_labels_harms():
    release = raw(IMAGE, 300)
    wrong = Release(x=release.x, y=jnp.roll(release.y, 1, axis=1))
    assert measure(IMAGE, wrong, steps=1).gain.high < 0.0


def test_from_scratch_is_utility_of_the_few_records():
    key, few = jax.random.key(3), make_records(TABLE, 30, seed=2)
    test = host(make_records(TABLE, 200, seed=1))
    one_hot = jax.nn.one_hot(few.y, 2, dtype=jnp.float32)
    expected = evaluate.utility(key, TABLE, Release(x=few.x, y=one_hot), test, models=(LINEAR,))
    for release in (raw(TABLE, 50), raw(TABLE, 90, seed=4)):  # which has no say in it
        found = evaluate.fine_tuning(
            jax.random.fold_in(key, 0), TABLE, release, host(few), test, model=LINEAR
        )
        assert found.from_scratch == expected["linear"].accuracy


def test_steps_of_no_length_leave_what_the_release_taught():
    key, release = jax.random.key(0), raw(TABLE, 80)
    few, x = raw(TABLE, 10, seed=2), make_records(TABLE, 40, seed=1).x
    again = dataclasses.replace(LINEAR, steps=5, learning_rate=1e-12)
    run = jax.jit(lambda r, f, x: tuned_log_probs(key, TABLE, LINEAR, again, r, f, x))
    before = jax.jit(lambda r, x: evaluate.network_log_probs(key, TABLE, LINEAR, r, x))
    np.testing.assert_allclose(run(release, few, x), before(release, x), atol=1e-6)


def test_long_fine_tuning_ends_at_the_few_records_optimum():
    """Logistic regression has one optimum; the release is in its normalisation alone."""
    release, few = raw(TABLE, 200), raw(TABLE, 40, seed=2)
    soft = np.asarray(few.y) * 0.6 + 0.2
    asked = make_records(TABLE, 50, seed=1).x
    again = dataclasses.replace(LINEAR, steps=3000, batch_size=40, learning_rate=3e-2)
    few = Release(x=few.x, y=jnp.asarray(soft, jnp.float32))
    run = jax.jit(lambda r, f, x: tuned_log_probs(jax.random.key(0), TABLE, LINEAR, again, r, f, x))
    stats_ = features.fit_features(TABLE, release.x)
    known = np.asarray(features.encode_features(TABLE, stats_, few.x))
    rows, label = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    oracle = LogisticRegression(C=1e6, max_iter=5000)
    oracle.fit(known[rows], label, sample_weight=soft.reshape(-1))
    expected = oracle.predict_log_proba(np.asarray(features.encode_features(TABLE, stats_, asked)))
    np.testing.assert_allclose(run(release, few, asked), expected, atol=5e-3)  # Adam's last steps


def test_the_standard_network_is_the_best_that_fits():
    release = raw(IMAGE, 12)
    quick = {"few": 4, "steps": 1}
    odd = dataclasses.replace(IMAGE, shape=(6, 6, 1))
    for schema, kind in ((IMAGE, "conv"), (TABLE, "mlp"), (odd, "mlp")):
        chosen = standard_network(schema)
        assert chosen.kind == kind
    again = measure(IMAGE, release, **quick)
    assert again == measure(IMAGE, release, **quick)


def cells(both, one, other, none):
    """Right or wrong by record, from the counts of the four cells."""
    first = np.repeat([True, True, False, False], [both, one, other, none])
    second = np.repeat([True, False, True, False], [both, one, other, none])
    return first, second


def test_the_paired_difference_is_a_mean_with_half_a_record_more_in_each_cell():
    counts = np.array([50, 17, 6, 27])
    found = evaluate.paired_difference(*cells(*counts), confidence=0.9)
    weight, value = counts + 0.5, np.array([0.0, 1.0, -1.0, 0.0])
    mean = np.average(value, weights=weight)
    variance = np.average((value - mean) ** 2, weights=weight) / weight.sum()
    expected = stats.norm.interval(0.9, mean, np.sqrt(variance))
    np.testing.assert_allclose(found, (0.11, *expected), rtol=1e-12)
    ends = evaluate.paired_difference(*cells(0, 5, 0, 0))
    assert ends.value == ends.high == 1.0
    assert ends.low > 0.25
    same = evaluate.paired_difference(*cells(3, 0, 0, 2))
    assert same.low < same.value == 0.0 < same.high


@pytest.mark.parametrize("shares", [(0.15, 0.05), (0.3, 0.3), (0.02, 0.01), (0.5, 0.1)])
def test_the_paired_difference_covers_as_often_as_it_says(shares):
    """Exact coverage over all outcomes of sixty records."""
    count, covered, total = 60, 0.0, 0.0
    rest = 1.0 - sum(shares)
    for one in range(count + 1):
        for other in range(count + 1 - one):
            left = count - one - other
            chance = stats.multinomial.pmf([one, other, left], count, [*shares, rest])
            if chance < 1e-9:
                continue
            found = evaluate.paired_difference(*cells(left, one, other, 0))
            covered += chance * (found.low <= shares[0] - shares[1] <= found.high)
            total += chance
    assert total > 0.9999
    assert covered > 0.94


def test_bad_input_is_refused():
    release = raw(IMAGE, 20)
    for change, message in (
        ({"model": evaluate.UserModel(kind="boosting")}, "cannot be traced"),
        ({"steps": 0}, "steps=0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"confidence": 1.0}, "confidence"),
        ({"few": 0}, "too few"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(IMAGE, release, **change)
    with pytest.raises(ValueError, match=r"release\.x has shape"):
        measure(TABLE, release)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        evaluate.paired_difference(np.ones(2, bool), np.ones(3, bool))
