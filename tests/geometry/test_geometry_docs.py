"""The page and the notebook say nothing that does not run."""

import json
import os
import pathlib
import re
import subprocess
import sys

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "geometry.md"


def environment():
    """Sees this checkout first, without the strict settings of the tests."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}


def test_page():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_page_shows_the_committed_results_and_pictures():
    text = PAGE.read_text()
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (PAGE.parent / picture).stat().st_size > 10_000
    results = ROOT / "benchmarks" / "results" / "geometry-2cpu.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.geometry", "--table", str(results)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = text.split("<!-- table -->")[1].split("<!-- end table -->")[0]
    assert shown.strip() == done.stdout.strip()
    assert len(json.loads(results.read_text())["rows"]) > 10


def test_notebook(monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    notebook = nbformat.read(ROOT / "colab" / "geometry.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=str(ROOT))
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    length = next(o.text for o in outputs if o.get("text", "").startswith("length:"))
    assert float(length.split()[1]) > 0


def test_geometry_imports_jax_alone():
    """A fresh interpreter that imports it loads none of curvpub's other dependencies."""
    code = (
        "import sys, curvpub.geometry\n"
        "ours = sorted(n for n in sys.modules if n.startswith('curvpub'))\n"
        "assert all(n.split('.')[1:2] in ([], ['geometry'], ['types']) for n in ours), ours\n"
        "other = {'flax', 'optax', 'absl', 'chex', 'matplotlib', 'sklearn', 'orbax'}\n"
        "assert not other & set(sys.modules), other & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, check=True)
