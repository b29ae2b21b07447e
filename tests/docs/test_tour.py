"""docs/tour.ipynb runs from top to bottom, and holds the outputs of a run that did."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

TOUR = ROOT / "docs" / "tour.ipynb"
SHORT = {
    '"data.train=200"': '"data.train=16", "data.val=4", "data.test=6", "jobs=1", "resize.size=64"',
    '"recipe.images_seen=800"': '"recipe.images_seen=8", "backbone=resnet10t"',
    '"speed.seconds=10"': '"speed.rounds=2", "speed.max_batch=1", "recipe.val_points=1"',
    "score_threshold=0.3": "score_threshold=0.0",
}


def test_the_notebook_has_the_outputs_of_a_run_without_errors() -> None:
    cells = [c for c in nbformat.read(TOUR, 4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)


@pytest.mark.timeout(900)
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(TOUR, 4)
    for cell in notebook.cells:
        for long, short in SHORT.items():
            cell.source = cell.source.replace(long, short)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert (tmp_path / "reports/tour/index.html").is_file()
