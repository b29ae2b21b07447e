"""The features study by two detectors whose maps are known: one sees colours, one sees none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from detzoo.data.dataset import Dataset, Sample
from detzoo.workflow.contestants import Contestant
from detzoo.workflow.features import features
from detzoo.workflow.objects import objects_of
from explain.known import RedInBox

BOXES = torch.tensor([[8.0, 8, 16, 16], [20, 4, 28, 12]])


def split(folder: Path, name: str, count: int) -> Dataset:
    """Images whose first object is red and whose second is green, on noise."""
    samples = []
    (folder / name).mkdir()
    for index in range(count):
        rng = np.random.default_rng([len(name), index])
        pixels = rng.integers(40, 90, (32, 32, 3), np.uint8)
        pixels[8:16, 8:16] = (rng.integers(180, 255), 20, 20)
        pixels[4:12, 20:28] = (20, rng.integers(180, 255), 20)
        path = folder / name / f"{index} <b>.png"
        Image.fromarray(pixels).save(path)
        none = torch.zeros(2, dtype=torch.bool)
        labels, areas = torch.tensor([0, 1]), torch.full((2,), 64.0)
        samples.append(Sample(index, path, (32, 32), BOXES, labels, none, areas))
    return Dataset("known", name, folder, tuple(samples), ("red & <b>", "green"), (1, 2))


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("été")
    asked = []
    for name in ("sees <i>", "blind"):
        detector = RedInBox().eval()
        if name == "blind":
            torch.nn.init.zeros_(detector.neck.weight)
        asked.append(Contestant(name, detector, 0.3))
    about = {"heading": "h", "command": "c", "detectors": [c.name for c in asked]}
    train, test = split(folder, "train", 6), split(folder, "test", 6)
    return features(asked, train, test, 10, folder / "out", 0, about), folder / "out"


def test_the_numbers_say_who_knows_the_classes(studied) -> None:
    found, out = studied
    means = found.frame.set_index(["detector", "number"])["mean"]
    assert means["sees <i>", "k-NN accuracy"] == 1 and means["sees <i>", "silhouette"] > 0.8
    assert means["blind", "k-NN accuracy"] <= 0.5, "all features are the same"
    assert found.sentences[0].startswith("The features of sees <i> tell the classes apart better")
    rows = pd.read_csv(out / "objects.csv")
    assert len(rows) == 2 * 10
    assert rows.groupby(["detector", "label"]).size().tolist() == [5, 5, 5, 5], "equal classes"
    sees = rows[rows["detector"] == "sees <i>"]
    assert sees.groupby("label")["found"].mean().tolist() == [1, 0], "red alone is found"
    objects = found.frame.set_index(["detector", "number"])["objects"]
    assert [objects[n, "own class, missed"] for n in ("sees <i>", "blind")] == [5, 10]


def test_the_page_shows_every_part(studied) -> None:
    page = studied[0].page.read_text(encoding="utf-8")
    for part in (
        *("What the features know", "Where the objects lie", "PCA", "Nearest neighbours"),
        *("What channels answer to", "What classes look like", "Regularisers: total variation"),
        *(
            "red &amp; &lt;b&gt;",
            "sees &lt;i&gt;",
            "10 objects of test, neighbours among 12 of train",
        ),
        "% of its variance lies between classes",
    ):
        assert part in page, part
    assert "<script" not in page and "<b>" not in page and len(page) < 500_000


def test_objects_are_drawn_evenly_and_by_seed(tmp_path: Path) -> None:
    data = split(tmp_path, "train", 8)
    few = objects_of(data, 6, seed=1)
    assert few.labels.bincount().tolist() == [3, 3]
    again, other = objects_of(data, 6, seed=1), objects_of(data, 6, seed=2)
    assert np.array_equal(few.of, again.of) and not np.array_equal(few.of, other.of)
    assert len(objects_of(data)) == 16
