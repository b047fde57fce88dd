"""Stage 4: from signals to figures, tables and pages; nothing is trained here."""

import dataclasses
import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from scipy import stats

from curvpub import workspace
from curvpub.audit import attributes, matching, roc, statistics, summary, uncertainty
from curvpub.audit.attacks import attack_scores, attack_target
from curvpub.audit.results import AttackResult
from curvpub.release import bundle, figures, grades
from curvpub.release import report as pages
from curvpub.runtime import devices, files
from curvpub.stages import audit, canaries, free_scores, owner_view, publish, train, worst_case
from curvpub.types import Release
from curvpub.workspace import Run

_STRICT_FPRS = (0.001, 0.0001)  # shown as well, where the non-members are enough for them
_SEED = 7  # of the bootstrap; fixed, so that a report can be made again


def report(run: Run) -> None:
    """Writes `report.html` and `audit.json` into the release, and the owner's page beside it.

    Raises:
      ValueError: publication or audit are unfinished for these settings and data, or the release
        folder holds another release.
    """
    release, info = publish.require_published(run)
    observed = {name: audit.load_observed(run, name) for name in ("raw", "published")}
    member = audit.design(run)
    exposure, change = owner_view.exposures(run, observed, member)
    results = collect(run, release, info, observed, member, exposure)
    results["guarantee"] = bundle.read_metadata(run.release).get("guarantee")
    schema, test = run.dataset.schema, run.dataset.test
    shown = test if run.dataset.test_is_public else None
    bundle.update_release(
        run.release,
        files={
            "report.html": pages.public_report(results, schema=schema, release=release, test=shown),
            "audit.json": files.to_json(public_audit(results)),
        },
        metadata={
            "audited": True,
            "audit": public_audit(results),
            # Those of the audit may have changed since the publication, and so may the name.
            "name": run.config.name,
            "configuration": results["config"],
        },
    )
    owner = owner_view.owners_view(run, info, exposure | {"change": change})
    files.write_bytes(run.private / "records.csv", owner.pop("table"))
    page = pages.private_report(results, schema=schema, release=release, test=test, owner=owner)
    files.write_bytes(run.private / "report.html", page)
    files.write_json(run.private / "results.json", results)
    print(pages.terminal_table(results))


def collect(
    run: Run,
    release: Release,
    info: dict[str, np.ndarray],
    observed: dict[str, audit.Observed],
    member: np.ndarray,
    exposure: dict[str, uncertainty.RecordIntervals],
) -> dict[str, Any]:
    """All aggregate figures of a run as one JSON-able dict; `public_audit` says what is public."""
    fprs = operating_points(run.config.audit.fpr)
    options = _options(run)
    attacks, roc, changes = _played(run, observed, member, fprs)
    guesses = [
        attributes.summarise_attributes(
            name, run.dataset.schema, o.shadows, o.target, member, run.member, **options
        )
        for name, o in observed.items()
    ]
    null = summary.null_check(observed["published"].shadows, member, **options)
    results = {
        "name": run.config.name,
        "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(run),
        "mode": run.config.publish.mode,
        "config": workspace.public_settings(run.config),
        "sizes": {
            "pool": len(run.dataset.pool),
            "members": len(run.members),
            "test": len(run.dataset.test),
            "released": len(release),
            "shadows": run.config.audit.shadows,
        },
        "attacks": attacks,
        "changes": changes,
        "worst_case": worst_case.most_exposed(
            run, {name: o.shadows for name, o in observed.items()}, member, fprs
        ),
        "canaries": canaries.figures(run, fprs),
        "attributes": [dataclasses.asdict(row) for rows in guesses for row in rows],
        "matching": dataclasses.asdict(_matching(run, release, info)),
        "utility": utility(observed, len(run.dataset.test), run.config.audit.confidence),
        "roc": roc,
        "histograms": histograms(info, exposure),
        "bakeoff": free_scores.compare(
            audit.load_scores(run, observed["raw"], info),
            exposure,
            run.member,
            bootstrap=run.config.audit.bootstrap,
            confidence=run.config.audit.confidence,
        ),
        "history": train.history(run),
        "checks": [_null_row(r) for r in null],
        "timings": train.timings(run),
    }
    results["warnings"] = warnings(run, results)
    return results


def _played(
    run: Run, observed: dict[str, audit.Observed], member: np.ndarray, fprs: Sequence[float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of every attack in the game and on the release, curves, and changes from raw."""
    options, confidence = _options(run), run.config.audit.confidence
    attacks, roc, played = [], [], {}
    for name, o in observed.items():
        scores = attack_scores(o.shadows, member)
        target = attack_target(o.target, o.shadows, member)
        played[name] = scores
        for attack, score in scores.items():
            attacks.append(
                summary.summarise_game(name, attack, score, member, fprs=fprs, **options)
            )
            attacks.append(
                summary.summarise_release(
                    name,
                    attack,
                    target[attack],
                    run.member,
                    score,
                    member,
                    fprs=fprs,
                    confidence=confidence,
                )
            )
            roc.append(_curve(name, attack, score, member))
    changes = [
        summary.summarise_change(
            attack, before, played["published"][attack], member,
            fpr=run.config.audit.fpr, **options,
        )
        for attack, before in played["raw"].items()
    ]  # fmt: skip
    return [dataclasses.asdict(a) for a in attacks], roc, [dataclasses.asdict(c) for c in changes]


def utility(
    observed: dict[str, audit.Observed], num_test: int, confidence: float
) -> list[dict[str, Any]]:
    """Accuracy on real test records of models trained on the release, and on the raw members."""
    rows = []
    for name, o in observed.items():
        right = round(float(o.target["accuracy"]) * num_test)
        one = statistics.clopper_pearson(right, num_test, confidence=confidence)
        rows.append(_accuracy_row(name, "this release", *one))
        # Over shadows: each is a release of other members, attacked and used in the same way.
        accuracy = o.shadows["accuracy"].astype(np.float64)
        half = stats.t.ppf(0.5 + confidence / 2, len(accuracy) - 1) * stats.sem(accuracy)
        mean = float(accuracy.mean())
        rows.append(_accuracy_row(name, "game", mean, mean - half, mean + half))
    return rows


def histograms(
    info: dict[str, np.ndarray], exposure: dict[str, uncertainty.RecordIntervals]
) -> dict[str, dict[str, list[float]]]:
    """Aggregated, small cells merged: what may be shown of per-record figures in public."""
    values = {
        "exposure_before": exposure["raw"].value,
        "exposure_after": exposure["published"].value,
        "curvature_before": info["curvature_before"],
        "curvature_after": info["curvature_after"],
    }
    result = {}
    for name, array in values.items():
        counts, edges = figures.suppressed_histogram(np.asarray(array, np.float64), bins=30)
        result[name] = {"counts": np.asarray(counts).tolist(), "edges": np.asarray(edges).tolist()}
    return result


def warnings(run: Run, results: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = []
    nonmembers = results["sizes"]["pool"] - results["sizes"]["members"]
    allowed = run.config.audit.fpr * nonmembers
    if allowed < 10:
        found.append(
            f"TPR at {run.config.audit.fpr:.1%} FPR rests on about {allowed:.0f} false positives "
            "a shadow: read its interval, not its value."
        )
    if run.config.audit.shadows < 32:
        found.append(
            f"{run.config.audit.shadows} shadows: calibrated attacks get stronger with more of "
            "them, so these figures are a lower bound on what a determined attacker can do."
        )
    if results["worst_case"] is None:
        found.append("the most exposed records are not measured apart: that takes 16 shadows.")
    if run.config.publish.mode == "aligned":
        found.append(
            "aligned mode publishes one record per private record: whoever calibrates distances "
            "over shadows recognises members. Prefer mode 'resampled'."
        )
    broken = [c["name"] for c in results["checks"] if not c["ok"]]
    if broken:
        found.append(
            f"the null game is off 0.5 for {', '.join(broken)}, beyond what chance does to "
            f"{len(results['checks'])} checks together: the audit is not to be trusted."
        )
    return found


def public_audit(results: dict[str, Any]) -> dict[str, Any]:
    """The aggregate audit as the release carries it."""
    kept = ("name", "created", "machine", "mode", "sizes", "timings", "warnings")
    kept += ("attacks", "changes", "worst_case", "canaries", "attributes", "matching", "utility")
    kept += ("checks",)
    worst = max(grades.judgements(results), key=lambda j: grades.GRADES.index(j.grade))
    audit_settings = {"settings": results["config"]["audit"]}
    return {k: results[k] for k in kept} | worst._asdict() | audit_settings


def machine(run: Run) -> str:
    """What computed the figures, in words; no host name."""
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{devices.describe(run.mesh)}, {os.cpu_count()} cores, {versions}"


def operating_points(fpr: float) -> tuple[float, ...]:
    """False-positive rates of the report: the configured one, and strict ones below it."""
    return (fpr, *(strict for strict in _STRICT_FPRS if strict < fpr))


def _options(run: Run) -> dict[str, Any]:
    settings = run.config.audit
    return {
        "bootstrap": settings.bootstrap,
        "confidence": settings.confidence,
        "seed": _SEED,
    }


def _matching(run: Run, release: Release, info: dict[str, np.ndarray]) -> matching.Matching:
    return matching.match_sources(
        run.dataset.schema,
        run.dataset.pool,
        release,
        np.flatnonzero(run.member)[info["source"]],
        label_scale=run.config.model.label_scale,
        confidence=run.config.audit.confidence,
    )


def _curve(name: str, attack: str, scores: np.ndarray, member: np.ndarray) -> dict[str, Any]:
    nonmembers = int((~member[0]).sum())
    grid = np.unique(np.concatenate([np.geomspace(1 / nonmembers, 1, 60), [1.0]]))
    tpr = roc.mean_roc(scores, member, grid)
    return {"publisher": name, "attack": attack, "fpr": grid.tolist(), "tpr": tpr.tolist()}


def _accuracy_row(name: str, scope: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "trained_on": name,
        "scope": scope,
        "accuracy": float(value),
        "accuracy_low": float(low),
        "accuracy_high": float(high),
    }


def _null_row(result: AttackResult) -> dict[str, Any]:
    return {
        "name": f"null game, {result.attack}",
        "value": result.auc,
        "low": result.auc_low,
        "high": result.auc_high,
        "ok": bool(result.auc_low <= 0.5 <= result.auc_high),
        "text": "AUC with membership drawn anew; must be 0.5 (interval for all checks together)",
    }
