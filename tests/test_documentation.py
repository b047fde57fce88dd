"""Figures in the documentation are those of the result files beside it."""

import importlib
import importlib.util
import json
import pathlib

import pytest

from curvpub.frontier import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def script(name):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def frontier():
    return script("frontier")


@pytest.fixture(scope="module")
def results():
    return script("results")


def test_frontiers_in_the_readme_are_those_of_the_result_files(frontier):
    text = frontier.README.read_text()
    short = frontier.readme_tables()
    assert tables.readme_with(text, short) == text
    assert short.count("docs/img/frontier-") == len(list(frontier.RESULTS.glob("frontier-*.jsonl")))


def test_the_page_of_frontiers_is_that_of_the_result_files(frontier):
    assert frontier.page() == frontier.PAGE.read_text()


@pytest.mark.parametrize(
    ("file", "make"),
    [("README", "table"), ("AUDIT", "bakeoff_table"), ("LOG", "canary_table")],
)
def test_tables_of_audits_are_those_of_the_result_files(results, file, make):
    text = getattr(results, file).read_text()
    assert results.readme_with(text, getattr(results, make)()) == text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("left_out", "digits"),
        ("selection", "digits"),
        ("dp_classifier", "mnist"),
        ("formal", "mnist"),
    ],
)
def test_tables_of_benchmarks_are_those_of_the_result_files(name, data):
    module = importlib.import_module(f"benchmarks.{name}")
    file = ROOT / "benchmarks" / "results" / f"{name.replace('_', '-')}-{data}-2cpu.json"
    assert module.table(json.loads(file.read_text())) in (DOCS / "method-log.md").read_text()


def test_pictures_that_documents_show_are_there():
    shown = [*DOCS.glob("*.md"), ROOT / "README.md"]
    found = [
        (page.parent / target).resolve() for page in shown for target in _pictures(page.read_text())
    ]
    assert len(found) > 20
    assert [str(p.relative_to(ROOT)) for p in found if not p.is_file()] == []


def _pictures(text):
    """Where the pictures of a Markdown page are."""
    return [
        part.split(")")[0] for part in text.split("](")[1:] if part.split(")")[0][-4:] == ".png"
    ]
