"""Small releases of both kinds, and the results of a made-up audit."""

import numpy as np
import pytest

from curvpub.release.histogram import suppressed_histogram
from curvpub.types import Column, Records, Release, Schema


def _probabilities(rng, count, classes):
    y = rng.dirichlet(np.full(classes, 0.3), size=count).astype(np.float32)
    return y / y.sum(axis=1, keepdims=True)


@pytest.fixture
def image_schema():
    return Schema(name="pics", kind="image", shape=(6, 5, 1), classes=("cat", "dog", "eel"))


@pytest.fixture
def image_release(image_schema):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (40, *image_schema.shape)).astype(np.float32)
    return Release(x=levels / np.float32(255.0), y=_probabilities(rng, 40, 3))


@pytest.fixture
def table_schema():
    columns = (
        Column(name="age", integer=True),
        Column(name="income"),
        Column(name="job", categories=("clerk", "cook <b>", "none")),
    )
    return Schema(
        name="people",
        kind="table",
        shape=(3,),
        classes=("no", "yes"),
        columns=columns,
        label="rich",
    )


@pytest.fixture
def table_release(table_schema):
    rng = np.random.default_rng(1)
    x = np.stack(
        [rng.integers(17, 90, 60), rng.lognormal(10.0, 0.7, 60), rng.integers(0, 3, 60)], axis=1
    )
    return Release(x=x.astype(np.float32), y=_probabilities(rng, 60, 2))


@pytest.fixture
def image_test(image_schema):
    rng = np.random.default_rng(2)
    x = rng.random((50, *image_schema.shape)).astype(np.float32)
    return Records(x=x, y=rng.integers(0, 3, 50).astype(np.int32))


@pytest.fixture
def table_test(table_release):
    rng = np.random.default_rng(3)
    return Records(x=table_release.x[::-1], y=rng.integers(0, 2, 60).astype(np.int32))


def _attack(publisher, attack, scope, auc, tpr, **more):
    row = {"publisher": publisher, "attack": attack, "title": attack.title(), "scope": scope}
    row |= {"auc": auc, "auc_low": auc - 0.012, "auc_high": min(auc + 0.012, 1.0)}
    point = {"fpr": 0.01, "nonmembers": 674, "tpr": tpr, "tpr_low": 0.8 * tpr}
    point |= {"tpr_high": min(1.25 * tpr, 1.0), "ppv": 0.021, "ppv_low": 0.011, "ppv_high": 0.034}
    point |= more
    none = {"fpr": 0.001, "nonmembers": 674, "tpr": None, "tpr_low": None, "tpr_high": None}
    return row | {"points": [point, none]}


def _attacks():
    figures = {
        "loss_threshold": ((0.561, 0.012), (0.512, 0.0105)),
        "lira": ((0.655, 0.084), (0.538, 0.019)),
        "lira_offline": ((0.621, 0.055), (0.527, 0.016)),
        "nearest": ((1.0, 1.0), (0.541, 0.014)),
        "nearest_calibrated": ((1.0, 1.0), (0.583, 0.026)),
    }
    rows = []
    for attack, pairs in figures.items():
        for publisher, (auc, tpr) in zip(("raw", "published"), pairs, strict=True):
            rows.append(_attack(publisher, attack, "game", auc, tpr))
    fpr = {"realised_fpr": 0.012, "realised_fpr_low": 0.006, "realised_fpr_high": 0.021}
    rows.append(_attack("raw", "lira", "this release", 0.648, 0.077, **fpr))
    rows.append(_attack("published", "lira", "this release", 0.531, 0.017, **fpr))
    return rows


def _roc():
    fpr = np.concatenate([[0.0], np.logspace(-3, 0, 60)])
    curves = []
    for attack, powers in {"lira": (0.5, 0.88), "nearest_calibrated": (0.02, 0.8)}.items():
        for publisher, power in zip(("raw", "published"), powers, strict=True):
            tpr = fpr**power
            band = {"low": (0.9 * tpr).tolist(), "high": np.minimum(1.1 * tpr, 1).tolist()}
            curve = {"attack": attack, "publisher": publisher, "fpr": fpr.tolist()}
            curves.append(curve | {"tpr": tpr.tolist()} | band)
    return curves


@pytest.fixture
def results():
    """The results of a made-up audit, as the report takes them."""
    rng = np.random.default_rng(4)
    steps = np.arange(0, 1500, 25)
    names = ("loss/gen", "loss/disc", "elbo", "curvature", "accuracy", "perturbation")
    noise = {n: rng.normal(0, 0.05, len(steps)) for n in names}
    history = {n: (np.exp(-steps / 300) * (i + 1) + noise[n]).tolist() for i, n in enumerate(names)}
    spread = {"exposure_before": 2.0, "exposure_after": 0.6}
    spread |= {"curvature_before": 1.5, "curvature_after": 1.0}
    cells = {k: suppressed_histogram(rng.gamma(2.0, v, 900), bins=30) for k, v in spread.items()}
    accuracy = {"raw": 0.967, "published": 0.941}
    return {
        "name": "digits",
        "created": "2026-11-24T09:00:00+00:00",
        "machine": "cpu, 2 cores",
        "config": {"seed": 0, "publish": {"mode": "resampled", "copies": 2.0}},
        "mode": "resampled",
        "sizes": {"pool": 1347, "members": 673, "test": 450, "released": 1346},
        "attacks": _attacks(),
        "changes": [
            {"attack": "lira", "title": "Lira", "fpr": 0.01}
            | {"auc": -0.117, "auc_low": -0.131, "auc_high": -0.103}
            | {"tpr": -0.065, "tpr_low": -0.081, "tpr_high": -0.049},
            {"attack": "nearest", "title": "Nearest", "fpr": 0.01}
            | {"auc": -0.459, "auc_low": -0.471, "auc_high": -0.447, "tpr": None},
        ],
        "matching": {"rate": 0.031, "rate_low": 0.022, "rate_high": 0.042}
        | {"guess": 1 / 1347, "candidates": 1347, "published": 1346},
        "utility": [
            {"trained_on": k, "scope": s, "accuracy": v}
            | {"accuracy_low": v - 0.01, "accuracy_high": v + 0.01}
            for k, v in accuracy.items()
            for s in ("game", "this release")
        ],
        "roc": _roc(),
        "histograms": {
            k: {"counts": c.tolist(), "edges": e.tolist()} for k, (c, e) in cells.items()
        },
        "history": {"step": steps.tolist()} | history,
        "checks": [
            {"name": "null game", "value": 0.502, "low": 0.48, "high": 0.52}
            | {"ok": True, "text": "AUC with membership shuffled"},
        ],
        "warnings": ["Only 16 shadows: intervals are wide."],
        "timings": {"train": 41.2, "audit": 120.04},
    }
