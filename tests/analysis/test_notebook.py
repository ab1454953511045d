"""The notebook of the docs runs as it stands, cell by cell, and leaves no output of an earlier run behind."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def test_every_cell_of_the_notebook_runs(capsys):
    """Run as a script: a kernel (nbclient, Jupyter) would bring 30 packages for the same proof."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        assert cell["outputs"] == []
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    printed = capsys.readouterr().out
    assert "**Contrast**" in printed
    assert "**Vote model**" in printed
