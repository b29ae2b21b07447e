"""What the documentation says is so: every block of every page is run, with shortened budgets."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from torchvision.models import detection

import detzoo
from data import layouts
from detzoo.cli import VERBS, main
from detzoo.weights.published import published
from docs.pages import PAGES, ROOT, Block, blocks, commands, lines
from docs.slurm import write_commands

# What is not run here, by how the line begins, and why
NOT_RUN = {"make bench": "makes a virtual environment, and trains for minutes: .ci/run does"}
# Of a page's settings, those that make it long, as they are here
INSTEAD = {
    "recipe.images_seen": "8",
    "recipe.minutes": "0.002",
    "tune": "1",
    "tune.trials": "1",
    "seeds": "[0]",
    "objects": "1",
    "--nproc-per-node": "1",  # tests/engine/test_distributed.py has two
}
ENOUGH = 240  # images seen, until the desk's detectors find objects
TRAINED = ("recipe.images_seen=8", "recipe.val_points=1", "resize.size=64", "backbone=resnet10t")
TRAINED += ("runtime.threads=1",)
SEVERAL = (*TRAINED, "evaluate.resamples=5", "jobs=1", "detectors=[ssd,centernet]")
MORE = {
    "train": TRAINED,
    "bench": (*SEVERAL, "speed.seconds=1", "speed.max_batch=1", "+speed.lock=false"),
    "tune": SEVERAL,
    "speed": ("seconds=1", "max_batch=1", "+lock=false"),
    "report": ("resamples=5",),
    "evaluate": ("resamples=5",),
    "compare": ("resamples=5", "flips=5"),
    "explain": ("methods=[odam]", "objects=1"),
}
SHAPES = ("data.train=12", "data.val=4", "data.test=6", "data.size=64", "data.min_size=8")
# What a short training learns to find
EASY = ("data.train=48", "data.min_size=16", "data.difficulty=0", "data.classes=[circle,square]")


def photos(folder: Path, count: int = 20) -> None:
    """`photos/` as Roboflow writes COCO: train, valid and test, red and blue rectangles in frames
    of videos, which COCO's field video_id and groups.csv name too."""
    draw = np.random.default_rng(0)
    rows = []
    for split, number in (("train", count), ("valid", count // 3), ("test", count // 3)):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(number):
            image = Image.fromarray(draw.integers(90, 120, (64, 96, 3), dtype=np.uint8))
            x, y, w, h = (int(v) for v in draw.integers((2, 2, 16, 16), (60, 30, 30, 30)))
            kind = i % 2
            ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), ("red", "blue")[kind])
            name, video = f"{split}{i // 2}_frame{i}.jpg", f"{split}{i // 2}"
            image.save(folder / split / name)
            rows.append({"file": f"{split}/{name}", "group": video})
            images.append(
                {"id": i, "file_name": name, "width": 96, "height": 64, "video_id": video}
            )
            annotations.append(
                {"id": i, "image_id": i, "category_id": kind, "bbox": [x, y, w, h], "area": w * h}
            )
        categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (folder / split / "_annotations.coco.json").write_text(text)
    with open(folder / "groups.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "group"])
        writer.writeheader()
        writer.writerows(rows)


def named_places(folder: Path) -> dict[str, Path]:
    """For each word that a page names a place of DIR with, a DIR that has it."""
    voc, coco, yolo, whole = (folder / name for name in ("voc", "coco", "yolo", "whole"))
    for split in layouts.SPLITS:
        items = layouts.of(split)
        for number, item in enumerate(items):
            layouts.image(voc / "photos", item)
            layouts.voc(voc / "xml", item)
            layouts.image(coco / "pictures", item)
            part = "ab"[number % 2] if split == "train" else split
            layouts.image(yolo / "images" / part, item)
            layouts.yolo(yolo / "labels" / part, item)
        layouts.coco(coco / ("a.json" if split == "train" else f"{split}.json"), items)
        stems = "".join(f"{item.stem}\n" for item in items)
        layouts.write(voc / f"ImageSets/Main/{split}.txt", stems)
    layouts.label_studio_coco(whole)
    text = "names: [cat, dog]\ntrain: [images/a, images/b]\nval: images/val\ntest: images/test\n"
    layouts.write(yolo / "data.yaml", text)
    return {
        "data.annotations=xml": voc,
        "data.splits.train=a.json": coco,
        "data.splits.train=[images/a,images/b]": yolo,
        "data.classes=[cat,dog]": whole,
        "data.root=DIR/data.yaml": yolo,
        "data=voc": voc,
    }


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's folder, with `photos` in it; what one page makes is there for the next.

    Figures are drawn for the first page that is written; the others have none (tests/report does).
    """
    path = tmp_path_factory.mktemp("desk")
    photos(path / "photos")
    (path / "DIR").symlink_to("photos")
    for name in ("a.jpg", "b.jpg"):
        (path / name).write_bytes((path / "photos/test/test0_frame0.jpg").read_bytes())
    build = import_module("detzoo.report.build")  # the package has a function of that name
    draw, drawn = build.draw, []

    def draw_once(*arguments: Any) -> list[Any]:
        drawn.append(not drawn and draw(*arguments))
        return drawn[0] if len(drawn) == 1 else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "draw", draw_once)
        yield path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return named_places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torch.hub's, with files in place of the published ones: torchvision's networks, untrained."""
    home = tmp_path_factory.mktemp("hub")
    (home / "hub/checkpoints").mkdir(parents=True)
    for name in ("faster_rcnn", "retinanet", "ssd"):
        make = {"ssd": "ssd300_vgg16"}.get(name, f"{name.replace('_', '')}_resnet50_fpn")
        network = getattr(detection, make)(weights=None, weights_backbone=None)
        torch.save(network.state_dict(), home / "hub/checkpoints" / published(name).file)
    return home


@pytest.fixture
def at_desk(desk: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The desk with a bench of two detectors, runs/mine, and another program's results.

    Any file in torch.hub's cache counts as published. Rows of exported networks that a page adds
    are removed after it, so that every page finds the same runs.
    """
    monkeypatch.chdir(desk)
    monkeypatch.setenv("TORCH_HOME", str(cache))
    monkeypatch.setenv("PATH", f"{write_commands(desk / 'slurm')}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "detzoo.weights.published._sha256", lambda path, _: path.stem.rpartition("-")[2]
    )
    if not (desk / "theirs.json").exists():
        run_command(["bench", "photos", "name=mine"])
        first = sorted((desk / "runs/mine").iterdir())[0]
        (desk / "theirs.json").write_bytes((first / "predictions.json").read_bytes())
    yield desk
    for row in (*desk.glob("runs/mine/*-onnxruntime*"), *desk.glob("runs/mine/*-openvino*")):
        shutil.rmtree(row)


def run_command(words: list[str]) -> None:
    """A command of detzoo with shortened budgets, in this process."""
    short = short_command(words)
    assert main(short) == 0, shlex.join(short)


def run_process(words: list[str], *launcher: str) -> None:
    """A command of detzoo with shortened budgets, in a process of its own."""
    short = [sys.executable, *launcher, "-m", "detzoo", *short_command(words)]
    ended = subprocess.run(short, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, shlex.join(short) + ended.stdout + ended.stderr


def short_command(words: list[str]) -> list[str]:
    """The words of a command, with shortened budgets."""
    verb, *given = [part for word in words for part in expanded(word)]
    kept = [shortened(verb, word) for word in given]
    more = list(MORE.get(verb, ()))
    if {"name=mine", "name=shapes"} & set(kept):  # whose objects are explained
        more.append(f"recipe.images_seen={ENOUGH}")
    published = "start=coco" in kept  # these have their own backbones, SSD300 its size
    if published:
        kept = [word for word in kept if not word.startswith("detectors=")]
    keys = {word.split("=")[0].lstrip("+") for word in kept}
    if verb in ("train", "bench", "tune") and not {"data.root", "photos"} & keys:
        more += SHAPES
    if verb == "tune" or "tune" in keys:
        more += ["tune.rungs=1", "tune.images=8"]
    if published:
        more = [text for text in more if not text.startswith(("backbone=", "resize.size="))]
        more += ["resize=shortest_side", "resize.shortest=64"] if verb != "bench" else []
        more += ["start.classes={red: car, blue: bus}"] if verb == "evaluate" else []
        more += ["detectors=[ssd]"] if verb == "bench" else []
    return [verb, *kept, *(text for text in more if text.split("=")[0].lstrip("+") not in keys)]


def expanded(word: str) -> list[str]:
    """What a shell makes of a pattern that is not quoted."""
    return sorted(map(str, Path().glob(word))) or [word] if "/" in word and "*" in word else [word]


def shortened(verb: str, word: str) -> str:
    """A setting of a page as it is here."""
    key, equals, _ = word.partition("=")
    if (verb, key) == ("tune", "detectors"):
        return "detectors=[ssd]"
    if word == "hydra/launcher=joblib":
        return "hydra/launcher=basic"  # tests/cli/test_sweep.py has joblib
    return f"{key}={INSTEAD[key]}" if equals and key in INSTEAD else word


def run_line(line: str, places: dict[str, Path], runs: bool = True) -> None:
    """A line of a shell block, or what can be judged of it without a run."""
    if runs and line.startswith("tensorboard "):
        run_server(line)
    elif runs and not any(line.startswith(start) for start in NOT_RUN):
        one = str(sorted(Path("runs/mine").iterdir())[0])
        line = re.sub(r"runs/mine/\w+-1a2b3c4d|runs/mine(?= runtime=)", one, line)
        program, *words = shlex.split(line)
        where = next((place for word, place in places.items() if word in words), Path("photos"))
        words = [word.replace("data.root=DIR", f"data.root={where}") for word in words]
        if program == "torchrun":
            processes, _, _, *words = words
            run_process(words, "-m", "torch.distributed.run", shortened("", processes))
            return
        studied = "runs/shapes" in words and any(word.startswith("study=") for word in words)
        if studied and not Path("runs/shapes").exists():
            run_command(["train", "name=shapes", "detector=ssd", *EASY])
        run_command(words)
    elif line.startswith("detzoo "):
        (_, verb, *words), *_ = commands(line)
        assert verb in VERBS
        swept = [re.sub(r"=([\w.]+),[\w.,]+$", r"=\1", word) for word in words if word != "-m"]
        detzoo.settings(verb, *(w for w in swept if not w.startswith(("hydra", "detector=glob"))))


def run_server(line: str) -> None:
    """TensorBoard shows the runs of this folder, at a port that is free."""
    words = [sys.executable, "-m", "tensorboard.main", *shlex.split(line)[1:], "--port=0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        try:
            told = (re.search(r"http://\S+", text) for text in server.stderr)
            address = next(match[0] for match in told if match)
            found: list[str] = []
            while not found:  # it reads them in the background
                time.sleep(0.5)
                found = json.loads(urlopen(f"{address}data/runs", timeout=60).read())
            assert all(name.endswith("/tensorboard") for name in found)
        finally:
            server.terminate()


def run_python(text: str, names: dict[str, Any]) -> None:
    """A Python block with shortened budgets. names: what the blocks before it have defined."""
    text = re.sub(r"seconds=\d+", "seconds=1, lock=False", text)
    for verb in ("train", "bench"):
        short = [*MORE[verb], *(SHAPES if "data.root" not in text else ())]
        more = ", ".join(f'"{s}"' for s in short if f'"{s.split("=")[0]}=' not in text)
        text = text.replace(f'settings("{verb}"', f'settings("{verb}", {more}')
    text = text.replace("runs/shapes", "runs/mine").replace("data.root=DIR", "data.root=photos")
    exec(compile(text, "page", "exec"), names)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, at_desk: Path, places: dict[str, Path]) -> None:
    """README's commands, which the pages have too, are judged only; its Python is run."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            run_python(block.text, names)
        elif block.language in ("bash", ""):
            for line in lines(block.text):
                run_line(line, places, runs=page.stem != "README")
        elif block.language == "yaml":
            run_experiment(block)
        else:
            assert block.language == "text", "what is shown, and not run"


def run_experiment(block: Block) -> None:
    """The example of an experiment file is one, and composes as one."""
    assert block.text.startswith("# @package _global_")
    assert {"defaults", "name"} <= set(yaml.safe_load(block.text))


def test_what_is_not_run_is_in_a_page() -> None:
    every = [line for page in PAGES for block in blocks(page) for line in shell_lines(block)]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in every), start


def shell_lines(block: Block) -> list[str]:
    return lines(block.text) if block.language in ("bash", "") else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_functions_that_are_named_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / name).exists(), name
    for name in re.findall(r"`((?:docs|conf|experiments|tests|detzoo|cli|report)/[\w/.-]+)`", text):
        where = [ROOT / name, ROOT / "detzoo" / name]
        assert "NAME" in name or any(p.exists() or p.with_suffix("").exists() for p in where), name
    for file, name in re.findall(r"`([\w/]+\.py):(\w+)`", text):
        tree = ast.parse((ROOT / "detzoo" / file).read_text(encoding="utf-8"))
        there = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
        assert name in there, f"{file} has no {name}"


def test_every_picture_has_its_command_beside_it_and_is_small() -> None:
    for page in (page for page in PAGES if page.parent.name == "docs"):
        text = page.read_text(encoding="utf-8")
        for name, after in re.findall(r"!\[[^\]]*\]\(([^)]+)\)\n\n(.*)", text):
            assert (page.parent / name).stat().st_size < 150_000, name
            assert re.match(r"\(.*`(make|detzoo|docs/)[^`]*`", after), f"{page.name}: {name}"
        assert text.count("![") == len(re.findall(r"!\[[^\]]*\]\(([^)]+)\)\n\n\(", text))
