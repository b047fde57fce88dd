"""The notebook that publishes a data set does so, in a folder of its own."""

import os
import pathlib

import nbclient
import nbformat

from curvpub.release import bundle

ROOT = pathlib.Path(__file__).parents[1]
SMALLER = """
settings.update({"devices": 1, "data": {"pool_size": 400, "test_size": 200}})
settings.model.update({"latent_dim": 4, "hidden": (32,), "disc_hidden": (32,)})
settings.audit.update({
    "hidden": (32,), "bootstrap": 50, "flow_steps": 0, "adaptive_steps": 40, "attackers": (),
    "registered": 2, "traced": 2,
})
"""


def test_it_publishes_and_shows_what_it_published(tmp_path, monkeypatch):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    notebook = nbformat.read(ROOT / "colab" / "publish.ipynb", as_version=4)
    chooses = next(cell for cell in notebook.cells if "get_config" in cell.source)
    chooses.source += SMALLER
    client = nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    shown = [o.get("data", {}) for o in outputs]
    assert any("image/png" in data for data in shown)
    assert any("&lt;html" in "".join(data.get("text/html", "")) for data in shown)
    figures = next(o.text for o in outputs if o.get("text", "").startswith("grade:"))
    raw, published = (line.split("AUC ")[1] for line in figures.splitlines()[1:])
    assert float(raw.split()[0]) == 1.0
    assert 0.4 < float(published.split()[0]) < 1.0
    assert float(published.split("[")[1].split(",")[0]) < float(published.split()[0])
    release = tmp_path / "runs" / "colab-tiny" / "release"
    bundle.verify_release(release)
    assert (release / "report.html").exists()
    assert (tmp_path / "release.zip").stat().st_size > 10_000
    assert (release.parent / "private").stat().st_mode & 0o777 == 0o700
