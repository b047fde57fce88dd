"""The Markdown of result lines: which of them are in which table, and in which words."""

from curvpub.frontier import tables

MACHINE = {"devices": "1 x cpu", "cores": 2, "jax": "0.10.2"}
RUN = {"record": "run", "configuration": {"audit": {"confidence": 0.95}}}


def point(entry, auc, *, role="competitor", kind="noise", mean=None, **changes):
    """The line of a selected point; `mean` is of its releases' quality."""
    worst = {"attack": "lira", "value": auc, "low": auc, "high": auc}
    quality = None
    if mean is not None:
        quality = {"mean": {"frechet": 1.0, "density": 0.9, "coverage": 0.8} | mean}
    return {
        "record": "point", "data": "digits", "seed": 0, "entry": entry, "kind": kind, "role": role,
        "strength": 0.5, "shadows": 32, "members": 40, "pool": 80, "fpr": 0.01,
        "accuracy": [0.9, 0.88, 0.92], "worst": {"auc": worst}, "most_exposed": None,
        "quality": quality, "pareto": [], "selected": True, "machine": MACHINE,
        "seconds": {"train": None, "release_and_attack": 1.0},
    } | changes  # fmt: skip


def model(name, accuracy, calibration):
    return {f"{name}_accuracy": accuracy, f"{name}_calibration": calibration}


POINTS = [
    point("raw", 1.0, role="reference", kind="raw", mean=model("linear", 0.951, 0.0104)),
    point("method", 0.6, role="method", kind="method",
          mean=model("mlp", 0.9, 0.05) | model("linear", 0.8, 0.1) | {"fine_tuned_accuracy": 0.3}),
    point("noise", 0.55, mean=model("linear", 0.7, 0.2), strength=2.0),
    point("unmeasured", 0.7),
    point("weaker", 0.5, mean=model("linear", 0.1, 0.9), selected=False),
]  # fmt: skip


def users_table(points):
    """Lines of the table of users' models, without its head; None where there is none."""
    text = tables.markdown([RUN, *points])
    if "Models that users train" not in text:
        return None
    return text.split("Models that users train")[1].split("---|\n")[1].split("\n")


def test_users_models_are_shown_of_selected_points_that_were_measured():
    assert users_table(POINTS) == [
        "| noise, 2 | 70.0, 0.200 |  |",
        "| **method**, 0.5 | 80.0, 0.100 | 90.0, 0.050 |",
        "| raw, 0.5 | 95.1, 0.010 |  |",
    ]
    head = "| publisher, strength | linear: accuracy, calibration error | mlp: accuracy, "
    assert head in tables.markdown([RUN, *POINTS])
    assert users_table([p | {"quality": None} for p in POINTS]) is None
    assert users_table([point("noise", 0.5, mean={})]) is None  # an early file


def test_the_first_table_says_whose_accuracy_it_shows_and_which_half_chose():
    text = tables.markdown([RUN, *(p | {"pareto": ["auc"]} for p in POINTS)])
    assert "| noise, 2 * | 90.0 [88.0, 92.0] |" in text
    assert "* = by the half of the test records that selects, no other point" in text
    assert "Accuracy is that of the attacker's own classifier" in text


def alike(figure):
    """A comparison at equal exposure."""
    return {
        "record": "equal_exposure", "seed": 0, "figure": figure, "higher_is_better": True,
        "real": 0.9, "exposure": 0.6, "anchor": "method", "anchor_strength": 0.5,
        "method": "method", "method_strength": 0.5, "method_value": 0.8,
        "competitor": "noise", "competitor_strength": 2.0, "competitor_value": 0.7,
        "difference": [0.1, 0.05, 0.15],
    }  # fmt: skip


def test_what_earlier_files_ranked_by_and_is_no_rank_is_left_out():
    rows = [RUN, *POINTS, alike("beta_recall"), alike("recall")]
    text = tables.markdown(rows)
    assert "| 0.600 (method, 0.5) | recall, higher is better (0.9) | 0.8 (method, 0.5) |" in text
    assert "Student's t over the releases" in text
    assert "beta_recall" not in text
    assert "figure (real records)" not in tables.markdown(rows[:-1])


def equal(record, competitor):
    """A comparison at equal accuracy."""
    return {
        "record": record, "seed": 0, "figure": "auc", "chance": 0.5, "accuracy": 0.9,
        "anchor": "method", "anchor_strength": 0.5, "method": "method", "method_excess": 0.1,
        "competitor": competitor, "excess": 0.2, "ratio": [0.5, 0.4, 0.6],
    }  # fmt: skip


def test_parts_have_a_table_of_their_own_and_are_no_competitors():
    rows = [RUN, *POINTS, equal("equal_accuracy", "noise"), alike("recall")]
    with_parts = [*rows, equal("equal_accuracy_parts", "no_curvature")]
    text = tables.markdown(with_parts)
    places = [
        text.index(part)
        for part in (
            "0.2000 (noise) | 0.50 [0.40, 0.60]",
            "The method against itself without its parts (entries that are no competitors):\n\n"
            "| accuracy (of) | figure | method | best without a part | method / without a part |",
            "0.2000 (no_curvature) | 0.50 [0.40, 0.60]",
            "figure (real records)",
            "Models that users train",
        )
    ]
    assert places == sorted(places)
    assert "without its parts" not in tables.markdown(rows)
    assert tables.short(with_parts) == tables.short(rows)
