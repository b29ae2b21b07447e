"""What the documentation says is so: its commands are taken, and those of a few pages are run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

import detzoo
from detzoo.cli import VERBS, main
from docs.pages import PAGES, ROOT, Block, blocks, commands

# What makes a training of a page one of seconds; the data and the detectors are the page's.
SHORT = ("recipe.images_seen=8", "recipe.val_points=1", "resize.size=64", "backbone=resnet10t")
SHORTER = {
    "train": SHORT,
    "bench": (
        *SHORT,
        *(
            "speed.rounds=2",
            "speed.max_batch=2",
            "evaluate.resamples=20",
            "jobs=1",
            "detectors=[ssd,centernet]",
        ),
    ),
    "speed": ("rounds=2", "max_batch=1"),
    "report": ("resamples=20",),
    "evaluate": ("resamples=20",),
    "compare": ("resamples=20", "flips=20"),
    "explain": ("methods=[odam]", "objects=2"),
}


def photos(folder: Path, count: int = 24) -> None:
    """`photos/` as Roboflow writes COCO: train, valid and test, red and blue rectangles."""
    draw = np.random.default_rng(0)
    for split, number in (("train", count), ("valid", count // 3), ("test", count // 3)):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(number):
            image = Image.fromarray(draw.integers(90, 120, (64, 96, 3), dtype=np.uint8))
            x, y, w, h = (int(v) for v in draw.integers((2, 2, 16, 16), (60, 30, 30, 30)))
            kind = i % 2
            ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), ("red", "blue")[kind])
            image.save(folder / split / f"{split}-{i}.jpg")
            images.append({"id": i, "file_name": f"{split}-{i}.jpg", "width": 96, "height": 64})
            annotations.append(
                {"id": i, "image_id": i, "category_id": kind, "bbox": [x, y, w, h], "area": w * h}
            )
        categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (folder / split / "_annotations.coco.json").write_text(text)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder, with `photos` in it; what one page makes is there for the next."""
    path = tmp_path_factory.mktemp("desk")
    photos(path / "photos")
    for name in ("a.jpg", "b.jpg"):
        (path / name).write_bytes((path / "photos/test/test-0.jpg").read_bytes())
    return path


@pytest.fixture
def at_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(desk)
    return desk


def page(name: str) -> list[Block]:
    return blocks(ROOT / "docs" / f"{name}.md")


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_setting_of_every_command_is_taken(path: Path, at_desk: Path) -> None:
    """Judged and composed as it would be, without being run."""
    for name in ("DIR", "holiday"):
        if not Path(name).exists():
            os.symlink("photos", name)
    for block in blocks(path):
        if block.language not in ("bash", ""):
            continue
        for _, verb, *words in commands(block.text):
            assert verb in VERBS or verb == "--help", verb
            if "-m" in words:  # of a sweep, its first run
                words = [re.sub(r"=([\w.]+),[\w.,]+$", r"=\1", w) for w in words if w != "-m"]
            words = [w for w in words if not w.startswith(("hydra", "detector=glob", "--"))]
            detzoo.settings(verb, *words)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_and_pages_that_are_named_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / name).exists(), name
    for name in re.findall(r"`((?:docs|conf|experiments|tests|detzoo|cli|report)/[\w/.-]+)`", text):
        where = [ROOT / name, ROOT / "detzoo" / name]
        assert "NAME" in name or any(p.exists() or p.with_suffix("").exists() for p in where), name


def run(block: Block, before: dict[str, object] | None = None) -> None:
    """A block with shortened budgets."""
    if block.language == "python":
        text = block.text
        for verb in ("train", "bench"):
            more = ", ".join(f'"{setting}"' for setting in SHORTER[verb])
            text = text.replace(f'settings("{verb}"', f'settings("{verb}", {more}')
        exec(compile(text, "page", "exec"), before if before is not None else {})
    for _, verb, *words in commands(block.text) if block.language == "bash" else ():
        words = [glob for word in words for glob in expanded(word)]
        words = [w for w in words if not w.startswith("recipe.images_seen")]
        given = {word.split("=")[0] for word in words}
        more = [s for s in SHORTER.get(verb, ()) if s.split("=")[0] not in given]
        code = main([verb, *words, *more])
        # after 8 images there may be nothing to explain, which is an error of one sentence
        assert code == 0 or verb == "explain", " ".join([verb, *words])


def expanded(word: str) -> list[str]:
    """What a shell makes of a pattern that is not quoted."""
    return sorted(map(str, Path().glob(word))) or [word] if "*" in word else [word]


@pytest.mark.timeout(900)
def test_the_first_ten_minutes(at_desk: Path) -> None:
    for block in page("first"):
        run(block)
    assert (at_desk / "look/index.html").is_file()
    assert (at_desk / "reports/mine/index.html").is_file()
    assert (at_desk / "found/predictions.json").is_file()


@pytest.mark.timeout(900)
def test_from_python(at_desk: Path) -> None:
    names: dict[str, object] = {}
    for block in page("python"):
        run(block, names)
    assert (at_desk / "drawn.png").is_file()


@pytest.mark.timeout(900)
def test_the_pages_on_reading_and_on_the_protocol(at_desk: Path, desk: Path) -> None:
    if not (desk / "runs/mine").is_dir():
        run(Block("bash", "detzoo bench photos name=mine"))
    runs = sorted((desk / "runs/mine").iterdir())
    (desk / "theirs.json").write_bytes((runs[0] / "predictions.json").read_bytes())
    for name in ("report", "protocol"):
        for block in page(name):
            run(block)


@pytest.mark.timeout(900)
def test_readme_s_python(at_desk: Path, desk: Path) -> None:
    if not (desk / "runs/mine").is_dir():
        run(Block("bash", "detzoo bench photos name=mine"))
    (block,) = [b for b in blocks(ROOT / "README.md") if b.language == "python"]
    text = block.text.replace("runs/shapes", "runs/mine").replace("data.root=DIR", "photos")
    run(Block("python", text.replace('"detectors', '"name=mine", "detectors')))
    assert (desk / "found.jpg").is_file()


def test_the_example_of_an_experiment_is_one(at_desk: Path) -> None:
    (text,) = [block.text for block in page("questions") if block.language == "yaml"]
    assert text.startswith("# @package _global_") and {"defaults", "name"} <= set(
        yaml.safe_load(text)
    )


def test_the_worked_example_of_a_detector_is_in_the_tree(at_desk: Path) -> None:
    for block in page("adding-a-detector"):
        if block.language == "python":
            run(block)
