"""The arrows between parts (README, "Parts"): who may import whom, read from the source."""

import ast
import pathlib

import pytest

from curvpub import workspace

ROOT = pathlib.Path(__file__).parent.parent / "curvpub"
MODULES = sorted(p for p in ROOT.rglob("*.py"))

# What each part may import of ours; a part may always import itself.
ARROWS = {
    "types": set(),
    "config": set(),
    "runtime": set(),
    "geometry": {"types"},
    "blocks": {"types"},
    "deform": {"types"},
    "hypergradient": {"types"},
    "precision": {"types"},
    "brownian": {"geometry", "types"},
    "features": {"types"},
    "data": {"config", "types"},
    "joint": {"features", "types"},
    "models": {"joint", "types"},
    "rvae": {"brownian", "geometry", "joint", "precision", "types"},
    "obfuscate": {"geometry", "types"},
    "problem": {"brownian", "config", "models", "obfuscate", "rvae", "types"},
    "lower": {"hypergradient", "joint", "obfuscate", "problem", "rvae", "types"},
    "upper": {"joint", "lower", "obfuscate", "problem", "rvae", "types"},
    "bilevel": {"blocks", "deform", "lower", "obfuscate", "problem", "types", "upper"},
    "dp": {"blocks", "features", "models", "types"},
    "publishers": {
        "bilevel", "blocks", "config", "deform", "dp", "features", "geometry", "joint", "models",
        "obfuscate", "rvae", "types",
    },
    "audit": {
        "blocks", "deform", "features", "geometry", "joint", "models", "obfuscate", "rvae", "types",
    },
    "evaluate": {"audit", "blocks", "features", "models", "types"},
    "release": {"runtime", "types"},
    "standalone": {
        "audit", "config", "data", "features", "models", "release", "runtime", "types",
    },
    "workspace": {"config", "data", "publishers", "release", "runtime", "types"},
    "stages": {
        "audit", "bilevel", "config", "models", "publishers", "release", "runtime", "types",
        "workspace",
    },
    "pipeline": {"config", "runtime", "stages", "types", "workspace"},
    "frontier": {
        "audit", "bilevel", "config", "data", "dp", "evaluate", "features", "models", "publishers",
        "release", "runtime", "stages", "types", "workspace",
    },
    "main": {"config", "pipeline", "runtime"},
    "__init__": set(),
}  # fmt: skip

# The only modules that look above their part: module -> parts. `python -m curvpub.audit` is called
# after what it does; the work is in `standalone`, which takes files, data and pages besides.
EXCEPTIONS = {"audit.__main__": {"standalone"}}

# Libraries that only some modules may import: prefix of the library -> parts or modules.
KEEPERS = {
    # audit: a type hint for the attacker's model, nothing that it builds or calls.
    "flax": ("models", "audit.classifier_observer", "audit.observers"),
    "orbax": ("runtime.checkpoints",),
    "ml_collections": ("config", "frontier.settings", "frontier.__main__", "main"),
    "matplotlib": ("release",),
    "jinja2": ("release",),
    "anonymeter": ("standalone.anonymeter",),
    "pandas": ("standalone.anonymeter",),
    "dp_accounting": ("dp.accounting",),
    "tensorflow": (),
    "mbi": ("publishers.spanning_tree",),
    "torch": ("evaluate.external",),
    "onnxruntime": ("evaluate.external",),
    # Reading and writing a prepared set; neither imports TensorFlow.
    "tensorflow_datasets": ("data", "release.tfds_folder"),
    # curvpub.data.source: its bar must not start JAX, which `runtime.progress` imports.
    "tqdm": ("runtime.progress", "data.source"),
}


def name_of(path: pathlib.Path) -> str:
    """Dotted name below curvpub, `""` for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def imports_of(path: pathlib.Path) -> set[str]:
    """Dotted names of everything that a module imports, at any depth of its source."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(names: set[str]) -> set[str]:
    """Parts of curvpub among dotted names."""
    return {n.split(".")[1] for n in names if n.startswith("curvpub.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: name_of(p) or "curvpub")
def test_module_follows_the_arrows(path):
    part = name_of(path).split(".")[0] or "__init__"
    assert part in ARROWS, f"{path}: a new part; say in ARROWS and the README what it may import"
    names = imports_of(path)
    forbidden = ours(names) - ARROWS[part] - {part} - EXCEPTIONS.get(name_of(path), set())
    assert not forbidden, f"{name_of(path)} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: name_of(p) or "curvpub")
def test_outside_libraries_stay_in_their_place(path):
    name = name_of(path)
    for library, keepers in KEEPERS.items():
        used = any(n == library or n.startswith(library + ".") for n in imports_of(path))
        allowed = any(name == k or name.startswith(k + ".") for k in keepers)
        assert allowed or not used, f"{name} imports {library}; only {keepers or 'nothing'} may"


def test_geometry_needs_jax_and_the_standard_library_alone():
    import sys

    allowed = set(sys.stdlib_module_names) | {"jax"}
    for path in MODULES:
        if name_of(path).split(".")[0] in ("geometry", "types"):
            outside = {n.split(".")[0] for n in imports_of(path)} - {"curvpub"}
            assert outside <= allowed, f"{name_of(path)} imports {sorted(outside - allowed)}"


def test_arrows_have_no_cycle():
    done: set[str] = set()
    while len(done) < len(ARROWS):
        ready = {part for part, below in ARROWS.items() if part not in done and below <= done}
        assert ready, f"a cycle among {sorted(set(ARROWS) - done)}"
        done |= ready


def test_audit_names_no_publisher_and_release_no_private_state():
    for path in MODULES:
        part = name_of(path).split(".")[0]
        text = path.read_text()
        if part == "audit":
            assert "CurvaturePublisher" not in text
            assert "RawPublisher" not in text
        if part == "release":
            assert not ours(imports_of(path)) & {"bilevel", "publishers", "workspace", "stages"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: name_of(p) or "curvpub")
def test_modules_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_signal_depends_on_code_outside_the_audits_fingerprint():
    """Shadows are taken over where only modules of figures have changed; they must make no signal.

    `attributes` summarises too, with statistics, which its observer does not call.
    """
    figures = {f"audit.{name.removesuffix('.py')}" for name in workspace.FIGURES}
    assert figures <= {name_of(p) for p in MODULES}
    known = {name_of(p): p for p in MODULES}
    summaries = {"audit.attributes": {"audit.statistics", "audit.attack_kinds"}}
    seen, waiting = set(), {"audit.game", "audit.observers", "audit.references", "audit.adaptive"}
    waiting |= {"audit.membership", "audit.input_curvature", "audit.traces"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for imported in imports_of(known[name]):
            inner = imported.removeprefix("curvpub.")
            found = {n for n in (inner, inner.rpartition(".")[0]) if n in known}
            found -= summaries.get(name, set())
            waiting |= {n for n in found if n.startswith("audit.")} - seen
    assert {"audit.world", "audit.lookups", "audit.nearest", "audit.classifier"} <= seen
    assert not seen & figures


def test_the_walk_sees_the_package():
    """A wrong path would pass every test above."""
    assert {"types", "geometry.curvature", "audit.game"} <= {name_of(p) for p in MODULES}
    assert "curvpub.types.Array" in imports_of(ROOT / "blocks.py")
