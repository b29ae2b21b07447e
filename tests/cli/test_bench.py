"""From a data set to a report, on images so small and few that it takes seconds."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

import detzoo
from detzoo.cli import main
from detzoo.cli.compose import add_trainings
from detzoo.config import build, folder, plain
from detzoo.workflow import bench, stages
from detzoo.workflow.coverage import COVERAGE, measure_coverage
from detzoo.workflow.select import select

pytestmark = pytest.mark.slow

SMALL = [
    *("data.size=64", "data.min_size=8", "data.train=24", "data.val=6", "data.test=10"),
    *("resize.size=64", "backbone=resnet10t", "recipe.images_seen=16", "recipe.batch_size=8"),
    *("recipe.val_points=1", "runtime.threads=1", "runtime.device=cpu"),
]
BENCH = [
    *("detectors=[centernet,retinanet]", "evaluate.resamples=5", "speed.seconds=1"),
    "+speed.lock=false",  # tests measure nothing, so they need not wait for other timings
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/default and reports/default of a bench of two detectors."""
    path = tmp_path_factory.mktemp("bench")
    before = Path.cwd()
    os.chdir(path)
    try:
        assert main(["bench", *SMALL, *BENCH]) == 0
    finally:
        os.chdir(before)
    return path


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def json_of(path: Path) -> dict:
    """Strict: what is n/a is null, so NaN is an error."""
    return json.loads(
        path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path}")
    )


def test_a_run_directory_holds_what_it_promises() -> None:
    runs = select("runs/default")
    assert [run.name.rsplit("-", 1)[0] for run in runs] == ["centernet", "retinanet"]
    for run in runs:
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert "${" not in (run / "config.yaml").read_text()
        for key in ("label", "name", "seed", "detector", "data", "resize", "augment", "recipe"):
            assert key in settings
        assert settings["detector"]["num_classes"] == len(settings["classes"]) == 6
        assert settings["runtime"]["device"] == "cpu"
        assert settings["runtime"]["precision"] in ("fp32", "bf16")
        environment = json_of(run / "environment.json")
        assert environment["threads"] == 1 and environment["torch"]
        dataset = json_of(run / "dataset.json")
        assert dataset["split"] == "test" and len(dataset["images"]) == 10
        assert all((Path(dataset["root"]) / i["file_name"]).is_file() for i in dataset["images"])
        val = json_of(run / "dataset-val.json")
        assert val["split"] == "val" and len(val["images"]) == 6
        weights = json_of(run / "metrics.json")["fingerprint"]["weights_hash"]
        assert val["weights_hash"] == weights and val["hash"] != dataset["hash"]
        ids = {image["id"] for image in val["images"]}
        found = json_of(run / "predictions-val.json")
        assert found and {result["image_id"] for result in found} <= ids
        metrics = json_of(run / "metrics.json")
        assert metrics["split"] == "test" and metrics["images"] == 10
        assert set(metrics["intervals"]) >= {"AP", "AP50", "AP75"}
        assert metrics["fingerprint"]["dataset_hash"] == dataset["hash"]
        assert metrics["fingerprint"]["images_seen"] == 16
        speed = json_of(run / "speed.json")
        assert speed["end_to_end"]["p50"] > 0 and speed["threads"] == 1
        status = json_of(run / "status.json")
        assert (status["stage"], status["state"], status["error"]) == ("speed", "done", None)
        assert status["images_seen"] == 16 and status["train_seconds"] > 0
        for result in json.loads((run / "predictions.json").read_text()):
            assert set(result) >= {"image_id", "category_id", "bbox", "score"}
        for name, rows in (("log.csv", 2), ("curve.csv", 1)):
            assert len(list(csv.DictReader((run / name).open()))) == rows


def test_the_report_is_written_and_nothing_else() -> None:
    report = Path("reports/default")
    assert {"index.html", "table.csv", "table.md"} <= {path.name for path in report.iterdir()}
    page = (report / "index.html").read_text()
    assert "centernet" in page.lower() and "retinanet" in page.lower()
    assert {path.name for path in Path().iterdir()} == {"data", "runs", "reports"}


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the figures takes longest, and once is enough."""
    monkeypatch.setattr(bench, "write", lambda book, out, **about: out / "index.html")


@pytest.mark.usefixtures("no_page")
def test_what_is_done_is_skipped(capsys: pytest.CaptureFixture) -> None:
    names = ("checkpoint.pt", "metrics.json", "speed.json")
    before = {
        run / n: (run / n).stat().st_mtime_ns for run in select("runs/default") for n in names
    }
    assert main(["bench", *SMALL, *BENCH]) == 0
    assert capsys.readouterr().out.count("trained already") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(select("runs/default")) == 2


@pytest.mark.usefixtures("no_page")
def test_one_failed_run_stops_no_other_and_is_told(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stages.train

    def train(detector: detzoo.Detector, *args: object, **options: object) -> None:
        if type(detector).__name__ == "RetinaNet":
            raise RuntimeError("no memory left")
        real(detector, *args, **options)

    monkeypatch.setattr(stages, "train", train)
    arguments = [*SMALL, *BENCH, "detectors=[retinanet,centernet]", "name=unlucky", "seeds=[7]"]
    assert main(["bench", *arguments]) == 1
    said = capsys.readouterr()
    assert "RuntimeError: no memory left" in said.err and "no memory left" in said.out
    assert "1 of 2 runs done" in said.out
    centernet, retinanet = select("runs/unlucky")
    assert json_of(centernet / "status.json")["state"] == "done"
    assert (centernet / "speed.json").is_file()
    status = json_of(retinanet / "status.json")
    assert (status["state"], status["stage"]) == ("failed", "train")
    assert status["error"] == "RuntimeError: no memory left"

    monkeypatch.setattr(stages, "train", real)  # the reason is gone: the same command continues
    assert main(["bench", *arguments]) == 0
    assert capsys.readouterr().out.count("trained already") == 1
    assert json_of(retinanet / "status.json")["state"] == "done"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detector=retinanet"], "give detectors=[...], not detector="),
        (["seed=3"], "give seeds=[...], not seed="),
        (["detectors=[]"], "nothing to do"),
        (["detectors=[retina]"], "retina"),
        (["runtime.device=gpu"], "device is 'gpu'"),
        (["data=coco", "data.root=nowhere"], "nowhere"),
        (["data=coco"], "data.root must be given"),
    ],
)
def test_bench_refuses_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["bench", *SMALL[5:], *BENCH, "name=refused", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not Path("runs/refused").exists() and not Path("reports/refused").exists()


def test_a_data_set_with_errors_stops_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for split in ("train", "val", "test"):
        image = {"id": 1, "file_name": f"{split}.jpg", "width": 8, "height": 8}
        gone = {"id": 2, "file_name": "gone.jpg", "width": 8, "height": 8}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16}
        content = {
            "images": [image, gone] if split == "train" else [image],
            "annotations": [{**box, "iscrowd": 0}],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        Image.new("RGB", (8, 8), (len(split) * 9, 0, 0)).save(tmp_path / f"{split}.jpg")
    data = ["data=coco", f"data.root={tmp_path}"]
    for verb in ("train", "bench"):
        assert main([verb, *data, *SMALL[5:], "name=broken"]) == 1
        err = capsys.readouterr().err
        assert "gone.jpg" in err and "nothing was started" in err and "Traceback" not in err
    assert not Path("runs/broken").exists()
    assert main(["check", *data, "json=check.json"]) == 1
    assert "gone.jpg" in capsys.readouterr().out
    assert json_of(Path("check.json"))
    Path("check.json").unlink()


def test_evaluate_speed_and_report_apart(capsys: pytest.CaptureFixture) -> None:
    run = str(select("runs/default")[0])
    before = json_of(Path(run) / "metrics.json")
    assert main(["evaluate", f"runs=[{run}]", "resamples=5", "backend=pycocotools"]) == 0
    after = json_of(Path(run) / "metrics.json")
    assert after["backend"] == "pycocotools"
    assert after["AP"] == pytest.approx(before["AP"], abs=1e-9)
    assert main(["speed", f"runs={run}", "rounds=1", "max_batch=1", "+lock=false"]) == 0
    assert json_of(Path(run) / "speed.json")["rounds"] == 1
    assert main(["report", "runs=runs/default", "out=reports/apart", "title=Two of them"]) == 0
    assert "Two of them" in Path("reports/apart/index.html").read_text()
    capsys.readouterr()
    assert main(["evaluate", "runs=runs/nowhere"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("detzoo evaluate: no run directory in runs/nowhere; runs has default")


def test_another_split_is_scored_beside_the_test_s(capsys: pytest.CaptureFixture) -> None:
    run = select("runs/default")[0]
    names = ("metrics.json", "predictions.json", "dataset.json", "heatmaps.json")
    before = {name: (run / name).read_bytes() for name in names}
    assert main(["evaluate", str(run), "split=val", "resamples=5"]) == 0
    val = json_of(run / "metrics-val.json")
    assert val["split"] == "val" and val["images"] == 6
    assert f"{run}: val: AP {val['AP']:.3f} [" in capsys.readouterr().out
    assert {name: (run / name).read_bytes() for name in names} == before
    assert json_of(run / "dataset-val.json")["weights_hash"] == val["fingerprint"]["weights_hash"]


def test_data_that_was_moved_is_named_by_its_root(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = copied(select("runs/default")[0], tmp_path / "runs")
    lost = {"root": str(tmp_path / "lost")}
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"] |= {"_target_": "detzoo.data.Coco", "name": "moved"} | lost
    keep = ("_target_", "name", "root")
    settings["data"] = {key: settings["data"][key] for key in keep}
    there = tmp_path / "it's [here], é"
    as_coco(select("runs/default")[0], there)
    settings["train_hash"] = detzoo.data.Coco(there).read("train").hash
    (run / "config.yaml").write_text(yaml.safe_dump(settings))

    for verb in ("evaluate", "speed"):
        assert main([verb, str(run)]) == 1
        assert "lost" in capsys.readouterr().err
    where = f"data.root={there}"
    assert main(["evaluate", str(run), where, "resamples=5"]) == 0
    assert json_of(run / "dataset.json")["root"] == str(there)
    quick = ["rounds=1", "max_batch=1", "lock=false", "evaluate.resamples=5"]
    assert main(["speed", str(run), where, *quick]) == 0
    out = tmp_path / "out"
    assert main(["predict", str(run), where, f"out={out}", "device=cpu"]) == 0
    assert len(json_of(out / "predictions.json")) == 10
    capsys.readouterr()
    other = Path(shutil.copytree(there, tmp_path / "other"))
    (other / "train.json").write_text((there / "val.json").read_text())
    assert main(["evaluate", str(run), f"data.root={other}", "resamples=5"]) == 1
    assert "holds other images or boxes than centernet-" in capsys.readouterr().err


def copied(run: Path, root: Path) -> Path:
    return Path(shutil.copytree(run, root / run.name))


def as_coco(run: Path, root: Path) -> None:
    """The run's data set as COCO files in `root`."""
    source = build(yaml.safe_load((run / "config.yaml").read_text())["data"])
    for split in ("train", "val", "test"):
        dataset = source.read(split)
        truth = dataset.coco()
        for image, sample in zip(truth["images"], dataset.samples, strict=True):
            image["file_name"] = f"{split}-{sample.path.name}"
            (root / image["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, root / image["file_name"])
        (root / f"{split}.json").write_text(json.dumps(truth))


@pytest.mark.parametrize(
    ("verb", "setting"),
    [("bench", "reports"), ("bench", "root"), ("train", "root"), ("report", "out")],
)
def test_a_place_that_cannot_be_written_is_said_first(
    verb: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    asked = {"bench": [*SMALL, *BENCH], "train": SMALL, "report": ["runs/default"]}[verb]
    assert main([verb, *asked, "name=unwritten", f"{setting}={tmp_path / 'file'}"]) == 1
    said = capsys.readouterr()
    assert "cannot be written" in said.err and str(tmp_path / "file") in said.err
    assert not said.out and not Path("runs/unwritten").exists()


def test_predict_writes_json_and_pictures(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    run = select("runs/default")[0]
    dataset = json_of(run / "dataset.json")
    images = [str(Path(dataset["root"]) / i["file_name"]) for i in dataset["images"][:2]]
    found = tmp_path / "found"
    asked = [f"run={run}", f"images=[{','.join(images)}]", f"out={found}", "score=0.0"]
    assert main(["predict", *asked, "device=cpu"]) == 0
    told = json_of(found / "predictions.json")
    assert [entry["file"] for entry in told] == images
    expected = detzoo.load(run).predict(images, score_threshold=0.0)
    for entry, detections in zip(told, expected, strict=True):
        assert (entry["width"], entry["height"]) == (64, 64)
        assert (found / entry["picture"]).is_file()
        assert [o["score"] for o in entry["objects"]] == pytest.approx(detections.scores.tolist())
        assert entry["objects"][0]["class"] in dataset["classes"]
    capsys.readouterr()
    assert main(["predict", "images=[a.jpg]"]) == 1
    assert "run=" in capsys.readouterr().err


def test_train_as_a_multirun(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *SMALL, "detector=centernet", "-m", "seed=0,1", "name=several"]) == 0
    runs = select("runs/several")
    assert len(runs) == 2
    assert all(json_of(run / "status.json")["state"] == "done" for run in runs)
    # the same settings under another name are the same run, to the last bit
    (twin,) = (run.name for run in runs if (Path("runs/default") / run.name).exists())
    a, b = (detzoo.load(Path("runs") / name / twin).state_dict() for name in ("default", "several"))
    assert all((a[key] == b[key]).all() for key in a)


def test_a_backbone_that_could_not_learn_is_refused_and_recorded(
    capsys: pytest.CaptureFixture,
) -> None:
    assert main(["train", *SMALL, "backbone.norm=frozen_bn", "name=frozen"]) == 1
    assert "frozen batch norm without statistics" in capsys.readouterr().err
    (run,) = select("runs/frozen")
    assert json_of(run / "status.json")["state"] == "failed"
    assert not (run / "checkpoint.pt").exists()


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch):
    """The source of Fast R-CNN's regions, with fixed installed methods and coverages."""
    covered = {"detzoo.data.EdgeBoxes": 0.4, "detzoo.data.SelectiveSearch": 0.5}

    def of(*given: str, installed: Sequence[str] = ("edge_boxes", "selective_search")) -> str:
        monkeypatch.setattr(bench, "installed", lambda: list(installed))
        monkeypatch.setattr(bench, "coverage", lambda of: covered[of["proposals"]["_target_"]])
        overrides = [*given, "detectors=[fast_rcnn,ssd]"]
        with initialize_config_dir(str(folder("conf")), version_base="1.3"):
            settings = add_trainings("bench", compose("bench", overrides), overrides)
        fast_rcnn, ssd = bench.with_best_proposals(settings)
        assert "proposer" not in ssd["detector"]
        return fast_rcnn["detector"]["proposer"]["_target_"].removeprefix("detzoo.data.")

    return of


def test_bench_takes_the_best_proposals_that_are_installed(chosen, capsys) -> None:
    assert chosen("data=bccd") == "SelectiveSearch"
    assert "edge_boxes 0.40, selective_search 0.50" in capsys.readouterr().out
    assert chosen("data=voc", "data.root=here", installed=["edge_boxes"]) == "EdgeBoxes"
    capsys.readouterr()
    assert chosen() == "Grid"  # the grid was made for shapes
    assert chosen("data=bccd", "proposals=grid") == "Grid"  # what is requested
    assert chosen("data=bccd", "proposals=edge_boxes") == "EdgeBoxes"
    said = capsys.readouterr()
    assert said.err == said.out == ""
    assert chosen("data=bccd", installed=()) == "Grid"
    assert "pip install 'detzoo[proposals]'" in capsys.readouterr().err


def test_coverage_is_the_recall_on_a_few_images() -> None:
    small = [*SMALL, "grid_smallest=0.3"]
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        many, few = (plain(compose("bench", [*small, f"max_proposals={n}"])) for n in (2000, 1))
        assert bench.coverage(few) < 0.2 < bench.coverage(many) <= 1


def test_a_row_names_its_proposer_and_the_proposer_s_recall(tmp_path: Path) -> None:
    dataset = detzoo.data.Shapes(tmp_path, size=64, train=4, val=4, test=8, max_objects=3)
    dataset = dataset.read("test")
    detector = detzoo.create_detector("fast_rcnn", num_classes=6, backbone="test_resnet")
    found = measure_coverage(dataset, detector)
    assert found["kind"] == "grid" and found["regions"] > 100
    assert 0.5 < found["recall50"] <= 1 and found["recall70"] < found["recall50"]
    detector.max_proposals = 1
    fewer = measure_coverage(dataset, detector)
    assert fewer["regions"] == 1 and fewer["recall50"] < 0.2
    said = COVERAGE.format(**found)
    assert said.startswith("its regions come from grid, ") and "at an IoU of 0.5 and 0." in said
    empty = dataclasses.replace(
        dataset,
        samples=tuple(
            dataclasses.replace(s, boxes=s.boxes[:0], labels=s.labels[:0], crowd=s.crowd[:0])
            for s in dataset.samples
        ),
    )
    assert measure_coverage(empty, detector)["recall50"] is None
