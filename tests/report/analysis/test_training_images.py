import json

import fabricated_runs
import pytest
import yaml

from detzoo.report.analysis.training_images import (
    Size,
    format_text,
    of_fractions,
    sizes,
    summarise,
)
from detzoo.report.load.runs import load_all
from detzoo.workflow.report import report


@pytest.fixture
def runs(tmp_path):
    """B is ahead on 30 images, A on 100 of them."""
    data = fabricated_runs.dataset(tmp_path / "data", count=6)
    for label, fraction, ap in (
        ("A", 0.3, 0.2),
        ("A", None, 0.5),
        ("B", 0.3, 0.3),
        ("B", None, 0.4),
    ):
        path = fabricated_runs.run(tmp_path / "runs", label, data, seed=0 if fraction else 1)
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["data"] = {"fraction": fraction} if fraction else {}
        config |= {"train_images": 30} if fraction else {}
        config |= {"train_hash": str(fraction), "seed": 0}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        metrics = json.loads((path / "metrics.json").read_text())
        metrics |= {"AP": ap}
        metrics["intervals"]["AP"] = [ap - 0.02, ap + 0.02]
        (path / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path / "runs"


def test_each_detector_at_each_number_of_images(runs):
    found = sizes(load_all([runs]))
    assert [(of.detector, of.images, of.seeds) for of in found] == [
        *(("A", 30, 1), ("A", 100, 1), ("B", 30, 1), ("B", 100, 1))
    ]
    assert (found[0].ap, found[0].low, found[0].high) == pytest.approx((0.2, 0.18, 0.22))
    said = format_text(found)
    assert "0.200 [0.180, 0.220]   0.500 [0.480, 0.520]" in said
    assert "A: +0.300 AP from 30 to 100 images, +0.173 a doubling." in said
    assert "ranks change on the way: B, A at 30 images and A, B at 100." in said


def test_overlap_and_a_kept_order_are_said():
    found = [Size("A", n, 2, ap, ap - 0.1, ap + 0.1) for n, ap in ((10, 0.2), (20, 0.3))]
    assert summarise(found) == [
        "A: +0.100 AP from 10 to 20 images, +0.100 a doubling, and their intervals overlap."
    ]
    found += [Size("B", n, 2, 0.1, 0.0, 0.2) for n in (10, 20)]
    assert summarise(found)[-1] == (
        "The order of the detectors is the same at every number of images."
    )


def test_the_report_names_fractions_and_draws_the_study(runs, tmp_path):
    made = report([runs], out=tmp_path / "out", images=False, study="images", resamples=20)
    assert "A (fraction=0.3)" in made.text() and "A (fraction=1)" in made.text()
    assert "a doubling" in made.text()
    page = made.page.read_text()
    assert "How many more images must be labelled?" in page and '<a href="#labels">' in page
    assert "B: +0.100 AP from 30 to 100 images" in page and "<th>30 images</th>" in page
    assert page.count('<figure id="training-images">') == 1
    assert (tmp_path / "out" / "figures" / "training-images.png").is_file()
    assert "<svg" in (tmp_path / "out" / "training-images.svg").read_text()
    lines = (tmp_path / "out" / "training-images.csv").read_text().splitlines()
    assert lines[0] == "detector,images,seeds,ap,low,high" and len(lines) == 5


def test_what_is_no_study_or_has_one_number_alone(runs, tmp_path):
    with pytest.raises(ValueError, match="study is 'weather'"):
        report([runs], out=tmp_path / "out", study="weather")
    whole = [run for run in load_all([runs]) if not run.config["data"]]
    assert sizes(whole) == of_fractions(whole) == []
    with pytest.raises(ValueError, match=r"data\.fraction=0\.1,0\.3,1"):
        report([run.path for run in whole], out=tmp_path / "out", study="images", resamples=20)
