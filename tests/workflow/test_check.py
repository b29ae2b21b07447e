"""What `detzoo check` prints of a data set's own licences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detzoo.cli import main
from kept import dataset


def test_coco_s_own_licences_are_printed_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = dataset.write(tmp_path / "squares")
    content = json.loads((root / "train.json").read_text())
    content["licenses"] = [
        {"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/x"},
        {"id": 5, "name": "Nobody's"},
    ]
    for image, licence in zip(content["images"], (4, 4, 9, None), strict=True):
        image["license"] = licence
    (root / "train.json").write_text(json.dumps(content))
    kept = tmp_path / "check.json"
    assert main(["check", f"data.root={root}", f"json={kept}"]) == 0
    said = capsys.readouterr().out
    assert "Attribution License (http://creativecommons.org/x)" in said
    found = json.loads(kept.read_text())["licences"]
    assert found["train"]["Attribution License (http://creativecommons.org/x)"] == 2
    assert found["val"] == {}
