import copy
import html.parser
import json

import numpy as np
import pytest

from curvpub.release import card, report, wording
from curvpub.types import Records, Schema

VOID = {"meta", "img", "br", "link", "input", "hr"}
EMPTY_TABLES = {
    "attacks": [],
    "changes": [],
    "matching": None,
    "utility": [],
    "roc": [],
    "checks": [],
    "warnings": [],
}
EMPTY = EMPTY_TABLES | {"histograms": {}, "history": {}, "timings": {}, "config": {}}


class Page(html.parser.HTMLParser):
    """Collects what a page holds, and checks that its tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.images.append(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(params=["image", "table"])
def parts(request):
    """Schema, release, public test records and the owner's private view, of either kind."""
    schema, release, test = (
        request.getfixturevalue(f"{request.param}_{n}") for n in ("schema", "release", "test")
    )
    rng = np.random.default_rng(5)
    count = 12
    rows = [
        {"index": 7_000_000 + i, "label": int(i % 2), "exposure_raw": 777.77 + i}
        | {"exposure_published": 0.5, "exposure_change": -777.27}
        | {"curvature": 1.25, "perturbation": 0.25, "left_out": i == 0}
        for i in range(count)
    ]
    scatter = {k: rng.random(100) for k in ("curvature", "exposure_raw", "exposure_published")}
    owner = {"records": rows, "x": np.array(release.x[:count]), "scatter": scatter}
    owner |= {"spearman": 0.4321, "csv": "records.csv"}
    return schema, release, test, owner


def check(text):
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert all(image.get("alt") for image in page.images)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "@import" not in text
    assert "url(" not in text
    return page


def test_public_page(results, parts):
    schema, release, test, _ = parts
    page = check(report.public_report(results, schema=schema, release=release, test=test))
    assert len(page.images) == 6
    for words in (
        "0.583 [0.571, 0.595]",
        "94.1%",
        "No formal guarantee: the protection is empirical.",
        "no (epsilon, delta) guarantee",
        "resampled",
        "Only 16 shadows",
        "publish.copies",
        "null game",
        "real FPR 1.2% [0.6, 2.1]",
        "TPR at 1%, published",
        "PPV 2.1% [1.1, 3.4]",
        "raw and PPV at a 1% prior",
        "PPV: the predictive value at a prior of 1%",
        "-0.117 [-0.131, -0.103]",
        "comes from in 3.1% [2.2, 4.2] of the cases. A guess is right in 0.0742%.",
        "-6.5 [-8.1, -4.9] points",
        "-0.459 [-0.471, -0.447] not resolvable",
        "TPR at 0.1% FPR: not resolvable with 674 non-members.",
    ):
        assert words in page.text, words
    assert "PRIVATE" not in page.text


def test_pages_say_who_has_no_part(results, parts):
    schema, release, test, owner = parts
    options = {"schema": schema, "release": release, "test": test}
    part = results | {"config": results["config"] | {"lower": {"left_out": 0.05}}}
    words = "The 5% of the private records that stick out most were left out"
    assert words in check(report.public_report(part, **options)).text
    assert "stick out most" not in check(report.public_report(results, **options)).text
    assert [row["left_out"] for row in owner["records"]].count(True) == 1
    nobody = owner | {"records": [row | {"left_out": False} for row in owner["records"]]}
    counts = [
        check(report.private_report(part, owner=who, **options)).text.split().count("yes")
        for who in (owner, nobody)
    ]
    assert counts[0] == counts[1] + 1  # a column of the table may say yes as well


def test_pages_state_a_guarantee(results, parts):
    schema, release, test, _ = parts
    stated = {
        "epsilon": 2.0, "delta": 1e-6, "neighbours": "add or remove one record",
        "mechanisms": ["400 steps"], "accountant": "PLD", "public": ["the number of records"],
        "assumptions": ["the key is secret"],
    }  # fmt: skip
    results = results | {"guarantee": stated}
    page = check(report.public_report(results, schema=schema, release=release, test=test))
    shown = report.terminal_table(results)
    for text in (page.text, " ".join(shown.split())):
        assert "(2, 1e-06)-differentially private" in text
        assert "No formal guarantee" not in text
    for words in ("Mechanism: 400 steps.", "Taken as public: the number of records."):
        assert words in page.text, words


def test_private_page_compares_scores_and_shows_intervals(results, parts):
    """Where they are there; neither appears on the public page."""
    schema, release, test, owner = parts
    cells = [{"share": 0.05, "count": 34, "value": 0.412, "value_low": 0.3, "value_high": 0.53}]
    row = {"score": "s", "title": "some <score>", "publisher": "raw", "spearman": 0.4567}
    row |= {"spearman_low": 0.41, "spearman_high": 0.49, "ceiling": 0.87, "precision": cells}
    results = results | {"bakeoff": [row]}
    for record in owner["records"]:
        record |= {"exposure_raw_low": 770.5, "exposure_raw_high": 790.25}
    page = check(
        report.private_report(results, schema=schema, release=release, test=test, owner=owner)
    )
    for words in (
        "some <score> raw +0.457 [+0.410, +0.490] 0.87 41.2% [30.0, 53.0]",
        "Found of the top 5% (34)",
        "777.77 [770.50, 790.25] 0.50",
    ):
        assert words in page.text, words
    public = report.public_report(results, schema=schema, release=release, test=test)
    assert "some &lt;score" not in public
    assert "0.457" not in public
    assert "770.50" not in public


def test_private_page_adds_records(results, parts):
    schema, release, test, owner = parts
    text = report.private_report(results, schema=schema, release=release, test=test, owner=owner)
    page = check(text)
    assert "PRIVATE: never share" in page.text
    assert "7000011" in page.text
    assert "777.77" in page.text
    assert "+0.43" in page.text
    assert "records.csv" in page.text
    assert schema.classes[1] in page.text
    assert len(page.images) == 7 + (12 if schema.kind == "image" else 0)


def test_public_page_holds_nothing_private(results, parts):
    """Even where private things reach the results, in places that no page may show."""
    schema, release, test, owner = parts
    clean = report.public_report(results, schema=schema, release=release, test=test)
    tainted = results | {"owner": owner, "records": owner["records"], "secret": "SENTINEL-9"}
    assert report.public_report(tainted, schema=schema, release=release, test=test) == clean
    for sentinel in ("7000011", "777.77", "0.4321", "records.csv", "SENTINEL-9"):
        assert sentinel not in clean


def test_test_records_show_only_where_public(results, parts):
    schema, release, test, _ = parts
    hidden = report.public_report(results, schema=schema, release=release, test=None)
    shown = report.public_report(results, schema=schema, release=release, test=test)
    assert check(hidden).images[2]["src"] != check(shown).images[2]["src"]
    assert "has not said that test records are public" in hidden
    assert "has not said" not in shown
    other = Records(x=np.ascontiguousarray(test.x[::-1]) * np.float32(0.0), y=test.y)
    again = report.public_report(results, schema=schema, release=release, test=other)
    assert Page(again).images[2]["src"] != Page(shown).images[2]["src"]


def test_results_survive_json(results, parts):
    schema, release, _, _ = parts
    back = json.loads(json.dumps(results))
    first, second = (
        report.public_report(r, schema=schema, release=release, test=None) for r in (results, back)
    )
    assert first == second


def test_empty_results(results, parts):
    schema, release, _, owner = parts
    page = check(
        report.private_report(
            results | EMPTY, schema=schema, release=release, test=None, owner=owner
        )
    )
    assert "No attack has been run" in page.text
    assert "No attack has been run" in report.terminal_table(results | EMPTY)


def test_aligned_is_told_apart(results, parts):
    schema, release, _, _ = parts
    text = report.public_report(
        results | {"mode": "aligned"}, schema=schema, release=release, test=None
    )
    assert "every private record was moved" in text


def test_all_text_is_escaped(results, parts):
    schema, release, _, owner = parts
    bad = '<script>alert("x")</script><img src=http://e.vil>'
    results = copy.deepcopy(results)
    results |= {"name": bad, "created": bad, "machine": {bad: bad}, "mode": bad}
    results |= {"config": {bad: {bad: bad}}, "warnings": [bad], "timings": {bad: 1.0}}
    results["checks"][0] |= {"name": bad, "text": bad, "value": bad}
    for row in results["attacks"]:
        row["scope"] = bad
    for row in results["utility"]:
        row |= {"scope": bad, "trained_on": bad}
    columns = tuple(
        type(c)(name=bad + str(i), categories=c.categories) for i, c in enumerate(schema.columns)
    )
    schema = Schema(
        name=bad,
        kind=schema.kind,
        shape=schema.shape,
        classes=tuple(f"{bad}{i}" for i in range(schema.num_classes)),
        columns=columns,
        label=bad,
    )
    owner = owner | {"csv": bad}
    text = report.private_report(results, schema=schema, release=release, test=None, owner=owner)
    page = check(text)  # no script, no foreign link
    assert bad in page.text


def test_owner_must_match(results, parts):
    schema, release, _, owner = parts
    with pytest.raises(ValueError, match="12 records but 11"):
        report.private_report(
            results, schema=schema, release=release, test=None, owner=owner | {"x": owner["x"][1:]}
        )


def test_terminal_table(results):
    text = report.terminal_table(results)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 90
    head = next(line for line in lines if line.startswith("attack"))
    row = next(line for line in lines if "0.583 [0.571, 0.595]" in line)
    assert row.index("0.583") == head.index("AUC")
    assert row.index("2.6%") == head.index("TPR at 1% FPR")
    failed = copy.deepcopy(results)
    failed["checks"][0]["ok"] = False
    assert "CHECK FAILED: null game" in report.terminal_table(failed)
    assert "WARNING: Only 16 shadows" in text


@pytest.mark.parametrize(
    ("auc", "tpr", "grade"),
    [
        (0.49, 0.009, "good"),
        (0.54, 0.02, "good"),
        (0.6, 0.02, "fair"),
        (0.54, 0.05, "fair"),
        (0.7, 0.05, "poor"),
        (0.6, 0.2, "poor"),
        (0.9, 0.2, "bad"),
        (0.6, 0.5, "bad"),
    ],
)
def test_grades(results, auc, tpr, grade):
    point = {"fpr": 0.01, "nonmembers": 2000, "tpr": tpr}
    point |= {"tpr_low": 0.8 * tpr, "tpr_high": 1.2 * tpr}
    row = {"publisher": "published", "attack": "lira", "scope": "game", "points": [point]}
    row |= {"auc": auc, "auc_low": auc - 0.01, "auc_high": auc + 0.01}
    results |= {"matching": None}
    assert wording.verdict(results | {"attacks": [row]})[0] == grade
    # A release of its own that is surely worse makes the grade worse; an unsure one does not.
    worse = row | {"scope": "this release", "auc": 0.95, "auc_low": 0.9}
    assert wording.verdict(results | {"attacks": [row, worse]})[0] == "bad"
    unsure = row | {"scope": "this release", "auc": 0.95, "auc_low": 0.4}
    unsure["points"] = [point | {"tpr_low": 0.0}]
    assert wording.verdict(results | {"attacks": [row, unsure]})[0] == grade


def test_a_loose_threshold_is_no_lift(results):
    point = {"fpr": 0.01, "nonmembers": 2000, "tpr": 0.02, "tpr_low": 0.015, "tpr_high": 0.025}
    row = {"publisher": "published", "attack": "lira", "scope": "game", "points": [point]}
    row |= {"auc": 0.52, "auc_low": 0.51, "auc_high": 0.53}
    loose = point | {"tpr": 0.06, "tpr_low": 0.04, "realised_fpr": 0.05}
    single = row | {"scope": "this release", "points": [loose]}
    results |= {"matching": None}
    assert wording.verdict(results | {"attacks": [row, single]})[0] == "good"
    loose["realised_fpr"] = 0.01
    assert wording.verdict(results | {"attacks": [row, single]})[0] == "fair"


def test_strict_points_count_by_the_low_end(results):
    """One false positive in 2,000 reads as a lift of 10; it makes a grade only where it is sure."""
    first = {"fpr": 0.01, "nonmembers": 2000, "tpr": 0.012, "tpr_low": 0.008, "tpr_high": 0.016}
    strict = {"fpr": 0.001, "nonmembers": 2000, "tpr": 0.01, "tpr_low": 0.001, "tpr_high": 0.019}
    row = {"publisher": "published", "attack": "lira", "scope": "game"}
    row |= {"auc": 0.5, "auc_low": 0.49, "auc_high": 0.51, "points": [first, strict]}
    results |= {"matching": None}
    grade, sentences = wording.verdict(results | {"attacks": [row]})
    assert grade == "good"
    assert "measurably better" in sentences[0]
    strict["tpr_low"] = 0.009  # guessing reads 3 / 2001
    assert wording.verdict(results | {"attacks": [row]})[0] == "fair"
    none = {"tpr": None, "tpr_low": None, "tpr_high": None}
    row["points"] = [first | none, strict | none]
    grade, sentences = wording.verdict(results | {"attacks": [row]})
    assert grade == "good"
    assert "of the members" not in sentences[1]


def test_what_no_count_supports_is_said(results):
    text = report.terminal_table(results)
    assert "TPR at 0.1% FPR: not resolvable with 674 non-members." in text
    assert text.count("TPR at") == 2
    mixed = copy.deepcopy(results)
    mixed["attacks"][0]["points"][1] |= {"tpr": 0.004, "tpr_low": 0.002, "tpr_high": 0.006}
    lines = report.terminal_table(mixed).splitlines()
    assert max(map(len, lines)) <= 90
    assert sum("0.4% [0.2, 0.6]" in line for line in lines) == 1
    assert sum("not resolvable with 674 non-members" in line for line in lines) == 11
    assert " 0.0%" not in "\n".join(lines)
    assert wording.not_resolvable([]) == wording.shown_points([]) == []


def test_rows_are_sorted(results):
    rows = sorted(results["attacks"], key=lambda r: (r["publisher"], r["scope"]))
    shown = wording.in_order(rows)
    assert [r["scope"] for r in shown] == ["game"] * 10 + ["this release"] * 2
    assert [r["publisher"] for r in shown] == ["raw", "published"] * 6
    assert all(a["attack"] == b["attack"] for a, b in zip(shown[::2], shown[1::2], strict=True))


def test_intervals_in_words():
    row = {"auc": 0.6124, "auc_low": 0.6, "auc_high": 0.625, "tpr": 0.0341}
    assert wording.with_interval(row, "auc") == "0.612 [0.600, 0.625]"
    assert wording.with_interval(row, "tpr", percent=True) == "3.4%"
    assert wording.with_interval(row, "accuracy") == "not measured"
    assert wording.share(0.001) == "0.1%"


def test_markdown_escapes():
    assert card.escape_markdown("a|b\n<i> [x](y)") == r"a\|b &lt;i&gt; \[x\]\(y\)"


def worst(results):
    """Results with figures on the most exposed records, and on two kinds of canaries."""
    few = [r for r in copy.deepcopy(results["attacks"]) if r["scope"] == "game"]
    for row in few:
        row["scope"], row["points"][0]["pooled"] = "67 most exposed", True
        row["points"][1]["nonmembers"] = 536
        row["auc"], row["auc_high"] = 0.9 * row["auc"] + 0.1, 1.0
    planted = [{**r, "scope": k} for r in few for k in ("out_of_distribution", "natural")]
    return results | {
        "worst_case": {"records": 67, "share": 0.05, "attacks": few},
        "canaries": {"count": 20, "attacks": planted},
    }


def test_the_worst_case_is_shown(results, parts):
    schema, release, test, _ = parts
    text = report.public_report(worst(results), schema=schema, release=release, test=test)
    page = check(text).text
    assert "On the 67 records that are most exposed to it, the best attack" in page
    assert "67 most exposed" in page
    assert "out of distribution" in page
    assert "2.6% [2.1, 3.2], pooled" in page
    assert "not resolvable with 536 non-members" in page
    # Rates that only the many natural records can show have no column among the canaries.
    many = copy.deepcopy(worst(results))
    for row in many["canaries"]["attacks"]:
        if row["scope"] == "natural":
            row["points"] = copy.deepcopy(row["points"])
            row["points"][1] |= {"tpr": 0.0123, "tpr_low": 0.01, "tpr_high": 0.02}
    text = report.public_report(many, schema=schema, release=release, test=test)
    assert "1.2% [1.0, 2.0]" not in check(text).text
    best = text.split("<h3>Canaries</h3>")[1].split("<details>")[0]
    assert best.count("<tr>") == 1 + 2  # of each kind
    assert best.count("Nearest_Calibrated") == 2
    assert "20 records of each kind" in page
    terminal = report.terminal_table(worst(results))
    assert "On the 67 records that are most exposed to it, the best attack" in terminal
    assert "On planted canaries, the best attack (nearest, calibrated; out of distribution)" in page
    assert "3.1% [2.2, 4.2] of the published records are nearest to the private record" in page
    for nothing in (results, results | {"worst_case": None, "canaries": None}):
        text = report.public_report(nothing, schema=schema, release=release, test=test)
        assert "most exposed" not in text
        assert "Canaries" not in text


def few_rows(count, auc, low, **more):
    """Rows on few records: the first with the figures given, the rest guesses."""
    point = {"fpr": 0.1, "nonmembers": 500, "tpr": 0.1, "tpr_low": 0.05, "tpr_high": 0.15} | more
    row = {"publisher": "published", "attack": "lira", "points": [point]}
    row |= {"auc": auc, "auc_low": low, "auc_high": 1.0}
    dull = row | {"auc": 0.5, "auc_low": 0.4, "points": [point | {"tpr": 0.1, "tpr_low": 0.05}]}
    return [row, *[dull] * (count - 1)]


def harmless(results):
    """A release on which no attack on all records finds anything, and whose source nobody finds."""
    rows = [r for r in copy.deepcopy(results["attacks"]) if r["publisher"] == "published"]
    for row in rows:
        row |= {"auc": 0.5, "auc_low": 0.49, "auc_high": 0.51}
        row["points"][0] |= {"tpr": 0.01, "tpr_low": 0.005, "tpr_high": 0.02}
    return results | {"attacks": rows, "matching": None}


@pytest.mark.parametrize(
    ("kind", "words"),
    [("worst_case", "most exposed records"), ("canaries", "people whose records stick out")],
)
def test_the_grade_is_the_worst_one(results, kind, words):
    """Whatever a mean over all records says, and however good the others are."""
    calm = harmless(results)
    grade, sentences = wording.verdict(calm)
    assert (grade, sentences[0]) == (
        "good",
        "No attack that was run does measurably better than guessing.",
    )

    def with_few(scope, *args, **more):
        rows = [r | {"scope": scope} for r in few_rows(*args, **more)]
        return calm | {kind: {"records": 67, "count": 20, "attacks": rows}}

    scope = "duplicated" if kind == "canaries" else "67 most exposed"
    grade, sentences = wording.verdict(with_few(scope, 25, 0.9, 0.85))
    assert grade == "bad"
    assert sentences[0].startswith("This release does not hide ")
    assert words in sentences[0]
    assert sentences[1].startswith("Over all records: no attack that was run does measurably")
    assert any("0.900 [0.850, 1.000]" in s for s in sentences)
    assert wording.verdict(with_few(scope, 25, 0.6, 0.57))[0] == "fair"
    # Among 25 figures one is this far above a guess by chance; alone it would count.
    assert wording.verdict(with_few(scope, 25, 0.6, 0.53))[0] == "good"
    assert wording.verdict(with_few(scope, 1, 0.6, 0.53))[0] == "fair"
    few_found = with_few(scope, 25, 0.5, 0.4, tpr=0.5, tpr_low=0.42)
    assert wording.verdict(few_found)[0] == "fair"  # lift 5
    assert "finds 50.0% [42.0, 15.0] of the members while accusing 10%" in " ".join(
        wording.verdict(few_found)[1]
    )
    raw = copy.deepcopy(with_few(scope, 25, 0.9, 0.85))
    for row in raw[kind]["attacks"]:
        row["publisher"] = "raw"
    assert wording.verdict(raw)[0] == "good"
    if kind == "canaries":
        assert wording.verdict(with_few("natural", 25, 0.9, 0.85))[0] == "good"


@pytest.mark.parametrize(
    ("rate", "guess", "grade"),
    [(0.02, 0.001, "good"), (0.05, 0.001, "fair"), (0.2, 0.001, "poor"), (0.5, 0.001, "bad"),
     (0.05, 0.05, "good"), (0.02, 0.05, "good")],
)  # fmt: skip
def test_re_identification_counts_beyond_guessing(results, rate, guess, grade):
    matching = results["matching"] | {"rate": rate, "guess": guess}
    calm = harmless(results) | {"matching": matching}
    found, sentences = wording.verdict(calm)
    assert found == grade
    assert ("lead back" in sentences[0] or "traced back" in sentences[0]) == (grade != "good")
    assert any("of the published records are nearest to the private record" in s for s in sentences)


def test_copies_and_singling_out_count_without_a_game(results):
    """In a stand-alone audit, where five copies among thousands move no attack on all records."""
    calm = harmless(results) | {"config": {"confidence": 0.95}}
    calm["attacks"] = [r | {"scope": "this release"} for r in calm["attacks"]]

    def copies(count, low, others_high):
        row = {"who": "private", "count": count, "share_low": low}
        return [row, {"who": "nonmembers", "share_high": others_high}]

    grade, sentences = wording.verdict(calm | {"copies": copies(5, 0.004, 0.002)})
    assert grade == "bad"
    assert sentences[0] == "5 private records are published exactly as they are."
    assert wording.verdict(calm | {"copies": copies(5, 0.001, 0.002)})[0] == "good"
    lone = {"advantage_low": 0.12}
    assert wording.verdict(calm | {"singling_out": lone})[0] == "poor"
    assert wording.verdict(calm | {"singling_out": {"advantage_low": -0.1}})[0] == "good"
    rows = [{"risk_low": None}, {"risk_low": 0.04}]
    assert wording.verdict(calm | {"anonymeter": rows, "singling_out": None})[0] == "fair"
