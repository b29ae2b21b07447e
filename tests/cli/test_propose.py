"""External proposals from the verb to the page, on images so small and few that it is quick."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import detzoo
from detzoo.cli import main
from detzoo.workflow.select import select

pytestmark = pytest.mark.slow

DATA = ["data.size=64", "data.min_size=8", "data.train=24", "data.val=6", "data.test=10"]
SMALL = [
    *("resize.size=64", "backbone=resnet10t", "recipe.images_seen=16", "recipe.batch_size=8"),
    *("recipe.val_points=1", "runtime.threads=1", "runtime.device=cpu"),
]


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).open()))


def test_propose_prints_and_writes_the_recall(capsys: pytest.CaptureFixture) -> None:
    assert main(["propose", *DATA, "counts=[1,100,5000]", "out=out"]) == 0
    said = capsys.readouterr().out
    assert "grid on shapes, val: 6 images" in said and "recall@0.7" in said
    table = rows("out/shapes-val-grid.csv")
    recalls = [float(row["recall@0.5"]) for row in table]
    assert [row["at most"] for row in table] == ["1", "100", "5000"]
    assert recalls == sorted(recalls) and recalls[-1] > 0.9
    assert Path("out/shapes-val-grid.png").stat().st_size > 5000
    assert {path.name for path in Path().iterdir()} == {"data", "out"}


def test_given_detectors_go_all_the_way(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("cv2.ximgproc", reason="the extra `proposals` is not installed")
    bench = ["bench", *DATA, *SMALL, "detectors=[rcnn,fast_rcnn]", "evaluate.resamples=5"]
    bench += ["speed.seconds=1", "+speed.lock=false", "proposals=edge_boxes", "proposals.limit=30"]
    assert main(bench) == 0
    said = capsys.readouterr().err
    assert said.count("proposals: edge_boxes-") == 3  # a split each, for both
    for run in select("runs/default"):
        speed = json.loads((run / "speed.json").read_text())
        assert speed["stages"]["proposals"]["p50"] > 0
        whole = sum(stage["mean"] for stage in speed["stages"].values())
        assert speed["end_to_end"]["mean"] == pytest.approx(whole)
    picture = next(Path("data").glob("shapes-*/images/test/*.jpg"))
    asked = ["predict", f"run={run}", f"images=[{picture}]", "score=0.0", "out=found"]
    assert main([*asked, "device=cpu"]) == 0
    assert json.loads(Path("found/predictions.json").read_text())[0]["objects"]
    assert isinstance(detzoo.load(run).proposer, detzoo.data.EdgeBoxes)


def test_regions_of_a_run(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *DATA, *SMALL, "detector=faster_rcnn"]) == 0
    (run,) = select("runs/default")
    rpn = ["proposals=rpn", f"proposals.run={run}", "proposals.limit=40"]
    assert main(["propose", *DATA, *rpn, "out=out", "counts=[40]"]) == 0
    assert 1 < float(rows("out/shapes-val-rpn.csv")[0]["proposals"]) <= 40
    assert main(["train", *DATA, *SMALL, "detector=fast_rcnn", *rpn]) == 0
    (given,) = (path for path in select("runs/default") if path != run)
    assert len(detzoo.load(given).proposer.detector.predict([])) == 0
    capsys.readouterr()
    assert main(["propose", *DATA, "proposals=rpn", f"proposals.run={given}"]) == 1
    assert "regions need a FasterRCNN" in capsys.readouterr().err
    assert main(["propose", *DATA, "proposals=rpn"]) == 1
    assert "proposals.run must be given" in capsys.readouterr().err
