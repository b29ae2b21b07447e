"""Exported files of the kept run, which finds its squares: written, described, timed and scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from detzoo.cli import main
from detzoo.detectors import FastRCNN
from detzoo.pipeline import reason_not_whole
from detzoo.workflow.export import export
from kept import dataset

onnxruntime = pytest.importorskip("onnxruntime")
KEPT = Path(__file__).parent.parent / "kept" / "ssd-c60a70ce"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset.write(tmp_path_factory.mktemp("export") / "squares")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path_factory.mktemp("runs") / KEPT.name))


def test_the_whole_pipeline_finds_what_torch_finds(run: Path, photos: Path, tmp_path: Path) -> None:
    """Two images by a file that takes three at once."""
    to = tmp_path / "model.onnx"
    found = export(run, to, whole=True, batch=3, data_root=photos)
    assert found.files == [to] and found.check.raw is None and found.check.images == 2
    assert found.check.same == found.check.detections > 10
    assert "detections are the same as torch's" in str(found)
    session = onnxruntime.InferenceSession(to)
    shapes = {x.name: x.shape for x in [*session.get_inputs(), *session.get_outputs()]}
    assert (shapes["pixels"], shapes["sizes"]) == ([3, 3, 64, 64], [3, 2])
    assert (shapes["boxes"], shapes["counts"]) == ([3, 100, 4], [3])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["square"]
    assert json.loads(about["input"]).startswith("pixels 3 x 3 x 64 x 64, RGB")
    assert json.loads(about["score_threshold"]) == 0.001 and "counts" in about["output"]


def test_openvino_s_files_have_the_metadata_too(run: Path, photos: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    for whole in (False, True):
        to = tmp_path / f"model-{whole}.xml"
        assert export(run, to, whole=whole, batch=2, data_root=photos).check.good
        model = openvino.Core().read_model(str(to))

        def about(key: str, model=model):
            return json.loads(model.get_rt_info(["detzoo", key]).astype(str))

        assert about("classes") == ["square"] and about("run") == KEPT.name
        assert about("mean") == pytest.approx([0.485, 0.456, 0.406])
        assert about("resize")["kind"] == "letterbox"
        assert about("thresholds").keys() == {"best_f1", "precision_90"}
        assert list(model.inputs[0].shape) == [2, 3, 64, 64]


def test_who_cannot_be_whole_says_why(tmp_path: Path) -> None:
    class Theirs(torch.nn.Module):
        needs_proposals, decode = False, None

    assert "another program proposes" in reason_not_whole(FastRCNN.__new__(FastRCNN))
    assert "by its own library" in reason_not_whole(Theirs())
    Theirs.rpn = None
    assert "how many regions Theirs reads" in reason_not_whole(Theirs())


def test_a_batch_of_none_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        export(run, tmp_path / "model.onnx", batch=0)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_exported_network_is_a_row_of_its_own(
    run: Path, photos: Path, precision: str, capsys: pytest.CaptureFixture
) -> None:
    quick = ["rounds=1", "seconds=0.1", "max_batch=1", "evaluate.resamples=5", "+lock=false"]
    given = [f"precision={precision}", f"data.root={photos}", f"runs={run}"]
    assert main(["speed", "runtime=onnxruntime", *given, *quick]) == 0
    told = "onnxruntime" if precision == "fp32" else "onnxruntime-int8"
    row = run.with_name(f"{run.name}-{told}")
    assert yaml.safe_load((row / "config.yaml").read_text())["exported"] == {
        "runtime": "onnxruntime",
        "precision": precision,
    }
    metrics, speed = (json.loads((row / f"{k}.json").read_text()) for k in ("metrics", "speed"))
    before = json.loads((run / "metrics.json").read_text())
    for found in (metrics, speed):
        assert found["fingerprint"]["runtime"]["name"] == "onnxruntime"
        assert found["fingerprint"]["runtime"]["precision"] == precision
    assert metrics["AP"] == pytest.approx(before["AP"], abs=0.002 if precision == "fp32" else 0.2)
    assert f"{row.name}: AP " in capsys.readouterr().out
    quantised = b"QuantizeLinear" in (row / "model.onnx").read_bytes()
    assert quantised == (precision == "int8")
