"""Models trained on releases, calibration, and feature spaces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from curvpub import evaluate
from curvpub.audit import clopper_pearson
from curvpub.evaluate import expected_calibration_error, space
from curvpub.evaluate.utility import _weighted, boosting_probs
from curvpub.publishers import RawPublisher
from curvpub.types import Records, Release

QUICK = {"steps": 150, "batch_size": 32, "hidden": (16,), "channels": 4, "learning_rate": 1e-2}
LINEAR = evaluate.UserModel(kind="linear", **QUICK)
BOOSTING = evaluate.UserModel(kind="boosting", steps=20, learning_rate=0.2)
MODELS = {
    "linear": LINEAR,
    "mlp": evaluate.UserModel(kind="mlp", **QUICK),
    "conv": evaluate.UserModel(kind="conv", **QUICK | {"channels": 16, "learning_rate": 3e-3}),
    "boosting": BOOSTING,
}


def host(records):
    return Records(x=np.asarray(records.x), y=np.asarray(records.y))


def raw(schema, count, seed=0):
    return RawPublisher(schema=schema)(jax.random.key(0), make_records(schema, count, seed))


def with_labels(release, y):
    return Release(x=release.x, y=np.eye(release.y.shape[1], dtype=np.float32)[y])


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=lambda s: s.kind)
def test_every_model_learns_from_the_data_themselves(schema):
    kinds = [m.kind for m in evaluate.standard_models(schema)]
    assert kinds == ["linear", "mlp", "conv" if schema.kind == "image" else "boosting"]
    models = tuple(MODELS[k] for k in kinds)
    test = host(make_records(schema, 200, seed=1))
    found = evaluate.utility(jax.random.key(0), schema, raw(schema, 200), test, models=models)
    chance = np.bincount(test.y).max() / 200
    for kind, value in found.items():
        low, high = value.accuracy.low, value.accuracy.high
        right = round(value.accuracy.value * 200)
        assert (low, high) == clopper_pearson(right, 200)[1:], kind
        assert value.accuracy.value > chance + 0.08, kind
        assert 0 <= value.calibration < 0.25, kind
        assert 0 < value.log_loss < np.log(schema.num_classes), kind
    assert list(found) == kinds


def test_wrong_labels_teach_nothing():
    release = raw(IMAGE, 200)
    wrong = with_labels(release, (np.asarray(release.y).argmax(axis=1) + 1) % 3)
    test = host(make_records(IMAGE, 200, seed=1))
    found = evaluate.utility(jax.random.key(0), IMAGE, wrong, test, models=(LINEAR,))
    assert found["linear"].accuracy.high < 0.2


def test_same_key_same_figures():
    test = host(make_records(IMAGE, 60, seed=1))
    release = raw(IMAGE, 60)
    first, again, other = (
        evaluate.utility(jax.random.key(k), IMAGE, release, test, models=(LINEAR,))
        for k in (0, 0, 1)
    )
    assert first == again
    assert first["linear"].log_loss != other["linear"].log_loss


def test_the_linear_model_is_logistic_regression():
    """Long training comes near scikit-learn's optimum, soft labels as weighted hard ones."""
    release = raw(TABLE, 100)
    soft = np.asarray(release.y) * 0.6 + 0.2
    release = Release(x=release.x, y=soft)
    asked = make_records(TABLE, 50, seed=1)
    model = evaluate.UserModel(kind="linear", steps=3000, batch_size=100, learning_rate=3e-2)
    log_probs = jax.jit(lambda key, r, x: evaluate.network_log_probs(key, TABLE, model, r, x))(
        jax.random.key(0), release, asked.x
    )
    from curvpub import features

    stats = features.fit_features(TABLE, release.x)
    known = np.asarray(features.encode_features(TABLE, stats, release.x))
    rows, label, weight = _weighted(soft)
    oracle = LogisticRegression(C=1e6, max_iter=5000).fit(known[rows], label, sample_weight=weight)
    expected = oracle.predict_log_proba(np.asarray(features.encode_features(TABLE, stats, asked.x)))
    np.testing.assert_allclose(log_probs, expected, atol=5e-3)  # Adam's last steps


def test_weighted_labels_stand_for_their_distribution():
    probs = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.005, 0.095, 0.9]])
    rows, label, weight = _weighted(probs)
    total = np.zeros_like(probs)
    np.add.at(total, (rows, label), weight)
    np.testing.assert_allclose(total.sum(axis=1), 1.0)
    np.testing.assert_allclose(total[:2], probs[:2])
    np.testing.assert_allclose(total[2], [0.0, 0.095 / 0.995, 0.9 / 0.995])
    many = np.full((2, 200), 1 / 200)  # all below the floor: the first is kept
    assert _weighted(many)[0].tolist() == [0, 1]


def test_a_release_of_one_class_teaches_that_class():
    release = with_labels(raw(TABLE, 40), np.ones(40, int))
    probs = boosting_probs(TABLE, BOOSTING, release, np.asarray(release.x))
    np.testing.assert_array_equal(probs, np.tile([0.0, 1.0], (40, 1)))


def test_images_without_a_convolutional_grid_get_boosting():
    odd = dataclasses.replace(IMAGE, shape=(6, 6, 1))
    assert [m.kind for m in evaluate.standard_models(odd)][2] == "boosting"
    test = host(make_records(odd, 60, seed=1))
    found = evaluate.utility(jax.random.key(0), odd, raw(odd, 120), test, models=(BOOSTING,))
    assert found["boosting"].accuracy.value > 0.6


def test_networks_can_be_traced_over_shadows():
    releases = [raw(IMAGE, 40, seed) for seed in (0, 1)]
    x = make_records(IMAGE, 20, seed=2).x
    quick = dataclasses.replace(LINEAR, steps=5)
    run = lambda key, release: evaluate.network_log_probs(key, IMAGE, quick, release, x)
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(run))(keys, jax.tree.map(lambda *a: jnp.stack(a), *releases))
    for row in range(2):
        alone = jax.jit(run)(keys[row], releases[row])
        np.testing.assert_allclose(together[row], alone, atol=1e-4)


def test_calibration_error_equals_scikit_learns_curve():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 500)
    probs = np.stack([confidence, 1 - confidence], axis=1)
    y = (rng.random(500) > confidence**2).astype(int)  # overconfident
    right = (y == 0).astype(int)
    true, predicted = calibration_curve(right, confidence, n_bins=10)
    share = np.histogram(confidence, np.linspace(0, 1, 11))[0]
    expected = (share[share > 0] * np.abs(true - predicted)).sum() / 500
    found = expected_calibration_error(probs, y, bins=10)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_calibration_error_in_closed_form():
    sure = np.tile([1.0, 0.0], (10, 1))
    assert expected_calibration_error(sure, np.zeros(10, int)) == 0.0
    np.testing.assert_allclose(expected_calibration_error(sure, np.ones(10, int)), 1.0)
    y = np.repeat([0, 1], [7, 3])
    assert expected_calibration_error(np.tile([0.7, 0.3], (10, 1)), y) < 1e-12
    for bad, message in (
        ({"probs": sure, "y": y[:3]}, "does not match"),
        ({"probs": sure * 2, "y": y}, "must in"),
        ({"probs": sure * np.nan, "y": y}, "not finite"),
        ({"probs": sure, "y": y, "bins": 0}, "bins=0"),
    ):
        with pytest.raises(ValueError, match=message):
            expected_calibration_error(**bad)


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=lambda s: s.kind)
def test_spaces_are_fitted_on_one_half_and_compare_with_the_other(schema, monkeypatch):
    test = host(make_records(schema, 120, seed=3))
    few = evaluate.fit_space(jax.random.key(0), schema, test, dim=5)
    assert few.kind == "pca"
    assert "principal components" in few.description
    monkeypatch.setattr(space, "MIN_RECORDS", 60)
    enough = evaluate.fit_space(jax.random.key(0), schema, test, dim=5, steps=60)
    assert enough.kind == "classifier"
    order = np.asarray(jax.random.permutation(jax.random.split(jax.random.key(0))[0], 120))
    for found in (few, enough):
        assert found.reference.shape == (60, 5)
        np.testing.assert_allclose(found.reference, found.embed(test.x[order[60:]]), atol=1e-5)
    # The reference has no say in the space.
    other = test.x.copy()
    other[order[60:]] = test.x[order[:60]]
    records = Records(x=other, y=test.y)
    again = evaluate.fit_space(jax.random.key(0), schema, records, kind="pca", dim=5)
    np.testing.assert_allclose(again.embed(test.x), few.embed(test.x), atol=1e-9)
    # What a record is, its class above all, shows in the classifier's features.
    points = enough.embed(test.x)
    within = np.mean([points[test.y == c].var(axis=0).sum() for c in np.unique(test.y)])
    assert within < points.var(axis=0).sum()


def test_fidelity_ranks_releases():
    test = host(make_records(IMAGE, 200, seed=3))
    found = evaluate.fit_space(jax.random.key(0), IMAGE, test, dim=6)
    release = raw(IMAGE, 150)
    rng = np.random.default_rng(0)
    spread = 0.3 * rng.normal(size=release.x.shape)
    noisy = Release(x=np.clip(np.asarray(release.x) + spread, 0, 1), y=release.y)
    collapsed = Release(x=np.repeat(np.asarray(release.x)[:3], 50, axis=0), y=release.y)
    good, bad, narrow = (evaluate.fidelity(found, r) for r in (release, noisy, collapsed))
    assert good.count == 100  # as many as there are real ones
    assert good.frechet < bad.frechet
    assert good.precision > bad.precision
    assert good.coverage > max(bad.coverage, narrow.coverage)
    assert good.recall > narrow.recall
    assert good.vendi > narrow.vendi
    assert abs(good.vendi / good.vendi_real - 1) < 0.3
    assert evaluate.fidelity(found, release) == good


def test_releases_of_any_size_are_compared_with_the_same_real_records():
    test = host(make_records(IMAGE, 60, seed=3))
    found = evaluate.given_space(IMAGE, lambda x: x.reshape(len(x), -1)[:, :7], test)
    few, many = (evaluate.fidelity(found, raw(IMAGE, n), most=20, seed=4) for n in (25, 50))
    assert few.count == many.count == 20
    assert few.vendi_real == many.vendi_real
    assert few.vendi_real != evaluate.fidelity(found, raw(IMAGE, 25), most=20).vendi_real


def test_a_space_can_be_given():
    test = host(make_records(IMAGE, 40, seed=3))
    found = evaluate.given_space(IMAGE, lambda x: x.reshape(len(x), -1)[:, :7], test)
    assert found.kind == "given"
    assert evaluate.fidelity(found, raw(IMAGE, 40)).count == 40
    with pytest.raises(ValueError, match="made 39 points of 40"):
        evaluate.given_space(IMAGE, lambda x: np.ones((39, 2)), test)
    with pytest.raises(ValueError, match="not finite"):
        evaluate.given_space(IMAGE, lambda x: np.full((len(x), 2), np.nan), test)


def test_bad_input_is_refused():
    test, release = host(make_records(IMAGE, 20)), raw(IMAGE, 20)
    key = jax.random.key(0)
    run = lambda **changes: evaluate.utility(
        key, IMAGE, **{"release": release, "test": test, "models": (LINEAR,), **changes}
    )
    for changes, message in (
        ({"release": raw(TABLE, 20)}, r"release\.x has shape"),
        ({"release": Release(x=release.x * jnp.nan, y=release.y)}, "not finite"),
        ({"test": Records(x=test.x, y=test.y.astype(float))}, "integers"),
        ({"test": Records(x=test.x[:0], y=test.y[:0])}, "too few"),
        ({"models": ()}, r"models=\[\]"),
        ({"models": (LINEAR, LINEAR)}, "different kinds"),
        ({"confidence": 1.0}, "confidence"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**changes)
    with pytest.raises(ValueError, match="needs images"):
        evaluate.utility(
            key, TABLE, raw(TABLE, 20), host(make_records(TABLE, 20)),
            models=(evaluate.UserModel(kind="conv"),),
        )  # fmt: skip
    for settings in ({"kind": "tree"}, {"steps": 0}, {"learning_rate": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            evaluate.UserModel(**{"kind": "mlp", **settings})
    for settings in ({"kind": "umap"}, {"dim": 0}, {"steps": 1.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            evaluate.fit_space(key, IMAGE, test, **settings)
    same = Records(x=np.zeros_like(test.x), y=test.y)
    with pytest.raises(ValueError, match="all 20 test records are equal"):
        evaluate.fit_space(key, IMAGE, same)
    with pytest.raises(ValueError, match="cannot be traced"):
        evaluate.network_log_probs(key, IMAGE, BOOSTING, release, test.x)
