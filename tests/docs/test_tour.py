"""docs/tour.ipynb runs from top to bottom, and holds the outputs of a run that did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
interactiveshell = pytest.importorskip("IPython.core.interactiveshell")

TOUR = ROOT / "docs" / "tour.ipynb"
SHORT = {
    '"data.train=200"': '"data.train=16", "data.val=4", "data.test=6", "jobs=1", "resize.size=64"',
    '"recipe.images_seen=800"': '"recipe.images_seen=8", "backbone=resnet10t"',
    '"speed.seconds=10"': '"speed.seconds=1", "+speed.lock=false", "recipe.val_points=1"',
    "score_threshold=0.3": "score_threshold=0.0",
}


def test_the_notebook_has_the_outputs_of_a_run_without_errors() -> None:
    cells = [c for c in nbformat.read(TOUR, 4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The shell of a notebook's kernel, here without a separate process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield interactiveshell.InteractiveShell.instance()
    interactiveshell.InteractiveShell.clear_instance()


@pytest.mark.timeout(300)
def test_the_notebook_runs(tmp_path: Path, shell: Any) -> None:
    for cell in nbformat.read(TOUR, 4).cells:
        if cell.cell_type != "code":
            continue
        for long, short in SHORT.items():
            cell.source = cell.source.replace(long, short)
        done = shell.run_cell(cell.source)
        done.raise_error()
        if hasattr(done.result, "_repr_html_"):
            assert done.result._repr_html_(), "what a notebook shows"
    assert (tmp_path / "reports/tour/index.html").is_file()
