"""Adapter to `anonymeter`: its singling-out, linkability and inference attacks on a table.

The package (Giomi et al., arXiv 2211.10459) is not a dependency and nothing of it is copied here;
its evaluators are called on data frames, with the non-members as its control.
"""

import importlib
import importlib.util
import math
import warnings
from typing import Any

import numpy as np

from curvpub.standalone.aligning import Inputs
from curvpub.types import Schema

_ATTACKS = 1_000  # at most; its own default is 500
_COLUMNS = 3  # in a predicate of several columns, its own default
_SECRETS = 10  # columns that are guessed; each takes a nearest-neighbour search
_HOW = (
    "--anonymeter: anonymeter is not installed. Its requirements exclude the NumPy that JAX needs, "
    "so its own dependencies come with an extra, and it comes alone: "
    "pip install 'curvpub[tables]' && pip install --no-deps 'anonymeter>=1.1'"
)


def check_installed() -> None:
    """Checks that the package is there, without importing it.

    Raises:
      ValueError: it is not; says how to install it.
    """
    if not all(importlib.util.find_spec(name) for name in ("anonymeter", "pandas")):
        raise ValueError(_HOW)


def evaluate(
    inputs: Inputs, *, confidence: float, seed: int, attacks: int = _ATTACKS
) -> list[dict[str, Any]]:
    """Runs its three kinds of attack against private records and, as control, non-members.

    Equally many of either are used, so that no correction for sizes is needed. Linkability splits
    the columns into two random halves; inference hides one column at a time and gives all others.

    Args:
      inputs: what is audited, a table.
      confidence: coverage of its intervals (Wilson).
      seed: seed of the draws; it draws some of its own without a seed.
      attacks: attacks of each kind, at most one a record.

    Returns:
      Rows with `kind`, `what`, `attacks`, the success rates of the attack on `private` records, on
      `nonmembers` and of a `guess`, each with `_low` and `_high`, and `risk` with `_low` and
      `_high`: private less nonmembers, as a share of what is left to find.

    Raises:
      ValueError: it is not installed.
    """
    check_installed()
    evaluators = importlib.import_module("anonymeter.evaluators")
    rng = np.random.default_rng([seed, 4])
    frames = _frames(inputs, rng)
    private, control, published = frames
    attacks = min(attacks, len(private))
    schema, rows = inputs.schema, []
    shared = {"ori": private, "syn": published, "control": control, "n_attacks": attacks}
    for mode in ("univariate", "multivariate"):
        made = evaluators.SinglingOutEvaluator(
            **shared, n_cols=min(_COLUMNS, private.shape[1]), seed=seed, max_attempts=100_000
        )
        rows.append(_row("singling out", mode, made, confidence, mode=mode))
    names = list(private.columns)
    order = [names[i] for i in rng.permutation(len(names))]
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    made = evaluators.LinkabilityEvaluator(**shared, aux_cols=halves, n_neighbors=1)
    rows.append(_row("linkability", "two random halves of the columns", made, confidence, n_jobs=1))
    for secret in order[:_SECRETS]:
        made = evaluators.InferenceEvaluator(
            **shared,
            aux_cols=[n for n in names if n != secret],
            secret=secret,
            regression=_is_number(schema, secret),
        )
        rows.append(_row("inference", secret, made, confidence, n_jobs=1))
    return rows


def _row(kind: str, what: str, made: Any, confidence: float, **options: Any) -> dict[str, Any]:
    """One evaluator's figures."""
    # It warns where an attack is no better than a guess, which the figures show.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.evaluate(**options)
        found = made.results(confidence_level=confidence)
        risk = found.risk()
    row: dict[str, Any] = {"kind": kind, "what": what, "attacks": int(found.n_attacks_ori)}
    rates = {"private": found.attack_rate, "nonmembers": found.control_rate}
    for name, rate in (rates | {"guess": found.baseline_rate}).items():
        value, error = float(rate.value), float(rate.error)
        row |= {name: value, f"{name}_low": max(value - error, 0.0)}
        row[f"{name}_high"] = min(value + error, 1.0)
    ends = (risk.value, *risk.ci)
    kept = [None if math.isnan(end) else float(end) for end in ends]
    return row | dict(zip(("risk", "risk_low", "risk_high"), kept, strict=True))


def _frames(inputs: Inputs, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Private records, equally many non-members, and the release, as data frames."""
    size = min(len(inputs.private), len(inputs.nonmembers))
    picked = [rng.permutation(len(r))[:size] for r in (inputs.private, inputs.nonmembers)]
    sides = zip((inputs.private, inputs.nonmembers), picked, strict=True)
    parts = [(r.x[rows], r.y[rows]) for r, rows in sides]
    parts.append((inputs.release.x, inputs.release.y.argmax(axis=1)))
    one, two, three = (_frame(inputs.schema, x, y) for x, y in parts)
    return one, two, three


def _frame(schema: Schema, x: np.ndarray, y: np.ndarray) -> Any:
    pandas = importlib.import_module("pandas")
    data: dict[str, Any] = {}
    for index, column in enumerate(schema.columns):
        value = x[:, index]
        if column.categories:
            data[column.name] = np.asarray(column.categories, object)[value.astype(int)]
        else:
            data[column.name] = value.astype(np.int64) if column.integer else value.astype(float)
    data[schema.label] = np.asarray(schema.classes, object)[y]
    return pandas.DataFrame(data)


def _is_number(schema: Schema, name: str) -> bool:
    return any(c.name == name and not c.categories for c in schema.columns)
