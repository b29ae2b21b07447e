"""Random damage to data sets: `check` reports all of it, and nothing crashes.

    python -m tests.data.mutations --count 1000 --data ../shared/data

writes a few images of aquarium and bccd (or of --data made up, without it) as COCO, VOC and YOLO,
damages one thing at a time, checks the result, and counts

    crashed  an exception that is not one of the readers' own (DataError, other ValueErrors)
    silent   boxes, classes or images differ from those before, and no problem says so

Every mutation follows from the seed and its number: --only 17 repeats one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from detzoo.data import Coco, DataError, Dataset, Source, Voc, YoloTxt, check

SPLITS = ("train", "val", "test")
JUNK = (
    *(None, True, -1, "", "x", "é写", "../" * 9 + "etc/passwd", "a\x00b", "x" * 300, 10**30),
    *(float("nan"), float("inf"), -1e300, 1e300, [], {}, [1], {"a": 1}, [[[[1]]]], "2024-01-05"),
)
TEXT_JUNK = ("", "x", "-1", "nan", "inf", "1e300", "-1e300", "é写", "../x", "1 2", "&amp;", "<b/>")

Rng = np.random.Generator
Mutation = Callable[[Path, Rng], str]  # damages a data set, and says what was done


def pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


# Data sets, in three formats


def write_coco(root: Path, splits: dict[str, Dataset]) -> None:
    for split, dataset in splits.items():
        content = dataset.coco()
        for image, sample in zip(content["images"], dataset.samples, strict=True):
            image["file_name"] = copied(sample.path, root / "images" / split).name
        (root / f"{split}.json").write_text(json.dumps(content))


def write_voc(root: Path, splits: dict[str, Dataset]) -> None:
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, dataset in splits.items():
        names = []
        for sample in dataset.samples:
            path = copied(sample.path, root / "JPEGImages", f"{split}_")
            names.append(path.stem)
            height, width = sample.size
            objects = "".join(
                f"<object>\n<name>{escape(dataset.classes[label])}</name>\n<difficult>0</difficult>"
                "\n<bndbox>"
                + "".join(
                    f"<{side}>{value:g}</{side}>\n"
                    for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                )
                + "</bndbox>\n</object>\n"
                for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
            )
            (root / "Annotations" / f"{path.stem}.xml").write_text(
                f"<annotation>\n<filename>{path.name}</filename>\n<size><width>{width}</width>\n"
                f"<height>{height}</height></size>\n{objects}</annotation>\n"
            )
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")


def write_yolo(root: Path, splits: dict[str, Dataset]) -> None:
    for split, dataset in splits.items():
        (root / "labels" / split).mkdir(parents=True)
        for sample in dataset.samples:
            path = copied(sample.path, root / "images" / split)
            height, width = sample.size
            rows = []
            for (x1, y1, x2, y2), label in zip(
                sample.boxes.tolist(), sample.labels.tolist(), strict=True
            ):
                numbers = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
                numbers += (x2 - x1) / width, (y2 - y1) / height
                rows.append(f"{label} " + " ".join(f"{n:.6f}" for n in numbers) + "\n")
            (root / "labels" / split / f"{path.stem}.txt").write_text("".join(rows))
    names = "".join(f"  {i}: {json.dumps(n)}\n" for i, n in enumerate(splits["train"].classes))
    places = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    (root / "data.yaml").write_text(f"{places}names:\n{names}")


def copied(path: Path, folder: Path, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{prefix}{path.name}"
    shutil.copyfile(path, place)
    return place


FORMATS: dict[str, tuple[Callable[[Path, dict[str, Dataset]], None], Callable[[Path], Source]]] = {
    "coco": (write_coco, Coco),
    "voc": (write_voc, lambda root: Voc(root, first_pixel=0)),
    "yolo": (write_yolo, YoloTxt),
}


# Mutations


def json_value(root: Path, rng: Rng) -> str:
    """Junk in the place of a value that a reader looks at, or nothing."""
    path = root / f"{pick(rng, SPLITS)}.json"
    content = json.loads(path.read_text())
    part = pick(rng, ("images", "annotations", "annotations", "categories"))
    keys = {
        "images": ("id", "file_name", "width", "height"),
        "annotations": ("image_id", "category_id", "bbox", "bbox", "iscrowd", "area"),
        "categories": ("id", "name"),
    }
    key = pick(rng, keys[part])
    index = int(rng.integers(len(content[part])))
    entry, junk = content[part][index], pick(rng, JUNK)
    what = f"{path.name}: {part}[{index}].{key} = {junk!r:.40}"
    if rng.random() < 0.15:
        del entry[key]
        what = f"{path.name}: {part}[{index}].{key} is gone"
    elif key == "bbox" and rng.random() < 0.7:
        side = int(rng.integers(4))
        entry["bbox"][side] = junk
        what = f"{path.name}: {part}[{index}].bbox[{side}] = {junk!r:.40}"
    elif rng.random() < 0.1:
        content[part][index] = junk
        what = f"{path.name}: {part}[{index}] = {junk!r:.40}"
    else:
        entry[key] = junk
    path.write_text(json.dumps(content))
    return what


def json_part(root: Path, rng: Rng) -> str:
    """Junk for a whole part of a file, or for all of it."""
    path = root / f"{pick(rng, SPLITS)}.json"
    content, junk = json.loads(path.read_text()), pick(rng, JUNK)
    part = pick(rng, ("images", "annotations", "categories", None))
    if part is None:
        content = junk
    else:
        content[part] = junk
    path.write_text(json.dumps(content))
    return f"{path.name}: {part or 'all of it'} = {junk!r:.40}"


def json_repeated(root: Path, rng: Rng) -> str:
    """An entry that comes twice."""
    path = root / f"{pick(rng, SPLITS)}.json"
    content = json.loads(path.read_text())
    part = pick(rng, ("images", "annotations", "categories"))
    content[part].append(pick(rng, content[part]))
    path.write_text(json.dumps(content))
    return f"{path.name}: an entry of {part} comes twice"


def json_deep(root: Path, rng: Rng) -> str:
    path = root / f"{pick(rng, SPLITS)}.json"
    depth = int(rng.integers(1000, 200_000))
    path.write_text(pick(rng, ("[", '{"images":')) * depth)
    return f"{path.name}: nested {depth} deep"


def xml_value(root: Path, rng: Rng) -> str:
    """Junk in the place of an element's text, or no element."""
    paths = [p for p in sorted((root / "Annotations").iterdir()) if "<object>" in p.read_text()]
    path = pick(rng, paths)
    text = path.read_text()
    tag = pick(
        rng, ("xmin", "ymin", "xmax", "ymax", "name", "difficult", "bndbox", "width", "height")
    )
    found = pick(rng, list(re.finditer(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)))
    junk = pick(rng, TEXT_JUNK)
    with_tag = rng.random() < 0.3
    span = found.span(0) if with_tag else found.span(1)
    path.write_text(text[: span[0]] + ("" if with_tag else junk) + text[span[1] :])
    return f"{path.name}: {tag} {'is gone' if with_tag else f'= {junk!r}'}"


def row_value(root: Path, rng: Rng) -> str:
    """Junk in a row of a YOLO file: another number, one more, one less."""
    paths = [p for p in sorted(root.glob("labels/*/*.txt")) if p.stat().st_size]
    path = pick(rng, paths)
    rows = path.read_text().splitlines()
    line = int(rng.integers(len(rows)))
    fields, junk = rows[line].split(), pick(rng, TEXT_JUNK)
    place = int(rng.integers(len(fields)))
    way = pick(rng, ("junk", "junk", "junk", "gone", "more", "twice", "pixels"))
    if way == "junk":
        fields[place] = junk
    elif way == "gone":
        del fields[place]
    elif way == "more":
        fields.insert(5, junk or "0.5")
    elif way == "pixels":
        fields[1:] = [f"{float(value) * 640:.1f}" for value in fields[1:]]
    rows[line] = " ".join(fields)
    if way == "twice":
        rows.append(rows[line])
    path.write_text("\n".join(rows) + "\n")
    return f"{path.parent.name}/{path.name}:{line + 1}: {way} {junk!r} at {place}"


NAMES = (
    "names: {0: a, x: b}",
    "names: {0: a, 2024-01-05: b}",
    "names: {a: 0, b: 1}",
    "names: [2024-01-05]",
    "names: [[a], {b: c}]",
    "names: 7",
    "names:",
    "nc: 3",
    "names: [a, a, a]",
    "names: {1: a, 2: b, 3: c}",
    "names: &a [*a]",
    "names: !!python/object/apply:os.getcwd []",
    "[",
    "- a",
    "\x00",
    "kpt_shape: 7\nnames: [a, b, c, d, e, f, g]",
)


def yaml_names(root: Path, rng: Rng) -> str:
    path = root / "data.yaml"
    head = path.read_text().split("names:")[0]
    names = pick(rng, NAMES)
    path.write_text(head + names + "\n")
    return f"data.yaml: {names!r}"


def text_bytes(root: Path, rng: Rng) -> str:
    """Bytes of an annotation file that are others, or that are gone from some place on."""
    path = pick(rng, annotation_files(root))
    data = bytearray(path.read_bytes())
    if rng.random() < 0.3 or not data:
        keep = int(rng.integers(len(data) + 1))
        if path.parent.parent.name == "labels":  # within a row, not behind one
            keep = data.rstrip().rfind(b" ")
        path.write_bytes(data[:keep])
        return f"{path.relative_to(root)}: cut to {keep} of {len(data)} bytes"
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] = int(rng.choice([0, 1, 127, 128, 255]))
    path.write_bytes(data)
    return f"{path.relative_to(root)}: other bytes"


def image_file(root: Path, rng: Rng) -> str:
    """An image that is cut, empty, no image, away, a folder, or of another size."""
    from PIL import Image

    path = pick(rng, [p for p in sorted(root.rglob("*.*")) if p.suffix in (".jpg", ".png")])
    data = path.read_bytes()
    ways = ("cut", "empty", "text", "away", "folder", "size", "random")
    if (root / "labels").is_dir():  # fractions fit an image of any size
        ways = ways[:5]
    way = pick(rng, ways)
    path.unlink()
    if way == "cut":
        path.write_bytes(data[: int(rng.integers(2, len(data) * 3 // 4))])
    elif way == "empty":
        path.touch()
    elif way == "text":
        path.write_text("<html>404</html>")
    elif way == "folder":
        path.mkdir()
    elif way == "size":
        Image.new("RGB", (33, 44)).save(path)
    elif way == "random":
        path.write_bytes(rng.bytes(5000))
    return f"{path.relative_to(root)}: {way}"


def label_file(root: Path, rng: Rng) -> str:
    """An annotation file that is away, empty, a folder, or called otherwise."""
    path = pick(rng, annotation_files(root))
    ways = ("away", "empty", "folder", "renamed")  # a YOLO file without rows is one without objects
    way = pick(rng, [way for way in ways if way != "empty" or path.parent.parent.name != "labels"])
    data = path.read_bytes()
    path.unlink()
    if way == "empty":
        path.touch()
    elif way == "folder":
        path.mkdir()
    elif way == "renamed":
        path.with_name("other" + path.suffix).write_bytes(data)
    return f"{path.relative_to(root)}: {way}"


def list_line(root: Path, rng: Rng) -> str:
    path = root / "ImageSets" / "Main" / f"{pick(rng, SPLITS)}.txt"
    lines = path.read_text().splitlines()
    line, junk = int(rng.integers(len(lines))), pick(rng, ("x", "x" * 300, "../../x", "a\x00b"))
    lines[line] = junk
    path.write_text("\n".join(lines))
    return f"{path.name}:{line + 1}: {junk[:40]!r}"


def annotation_files(root: Path) -> list[Path]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix in SUFFIXES)
    return [path for path in files if path.stat().st_size]


SUFFIXES = (".json", ".xml", ".txt", ".yaml")
COMMON: tuple[Mutation, ...] = (text_bytes, image_file, label_file)
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "coco": (*[json_value] * 6, json_part, json_repeated, json_deep, *COMMON),
    "voc": (*[xml_value] * 5, list_line, *COMMON),
    "yolo": (*[row_value] * 5, *[yaml_names] * 2, *COMMON),
}


# What comes of them


def content(source: Source) -> dict[str, Any]:
    """What training would see: per split, per image, its boxes and the names of their classes."""
    found = {}
    for split in SPLITS:
        try:
            dataset = source.read(split)
        except DataError:
            continue
        found[split] = {
            sample.path.name: sorted(
                (dataset.classes[label], crowd, *np.round(box, 4))
                for box, label, crowd in zip(
                    sample.boxes.tolist(),
                    sample.labels.tolist(),
                    sample.crowd.tolist(),
                    strict=True,
                )
            )
            for sample in dataset.samples
        }
    return found


def verdict(root: Path, format: str, before: tuple[dict[str, Any], set[Any]]) -> str:
    """crashed, silent, refused, noted, or harmless; before: content and problems without damage."""
    try:
        source = FORMATS[format][1](root)
        result = check(source, progress=False)
        result.table()
        json.dumps(result.json(), allow_nan=False)
    except ValueError as error:  # what the commands print as one line
        return "refused" if str(error) and type(error) in (ValueError, DataError) else "crashed"
    except Exception:
        traceback.print_exc()
        return "crashed"
    told = {(p.kind, p.where, p.what) for p in result.problems}
    if told - before[1]:
        return "noted"
    return "harmless" if content(source) == before[0] else "silent"


def tried(
    sets: dict[str, dict[str, Dataset]], count: int, seed: int, only: int | None = None
) -> Iterator[tuple[int, str, str, str]]:
    """(number, data set and format, what was done, verdict) for every mutation."""
    with tempfile.TemporaryDirectory() as folder:
        pristine = {}
        for name, splits in sets.items():
            for format, (write, read) in FORMATS.items():
                root = Path(folder) / name / format
                root.mkdir(parents=True)
                write(root, splits)
                problems = check(read(root), progress=False).problems
                told = {(p.kind, p.where, p.what) for p in problems}
                pristine[name, format] = root, (content(read(root)), told)
        kept = Path(folder) / "kept"
        for number in range(count) if only is None else [only]:
            rng = np.random.default_rng([seed, number])
            name, format = list(pristine)[number % len(pristine)]
            root, before = pristine[name, format]
            shutil.copytree(root, kept, copy_function=os.link)
            shutil.rmtree(root)
            shutil.copytree(kept, root)
            what = pick(rng, MUTATIONS[format])(root, rng)
            yield number, f"{name} {format}", what, verdict(root, format, before)
            shutil.rmtree(root)
            kept.rename(root)


def real(folder: Path, images: int) -> dict[str, dict[str, Dataset]]:
    """The first images of aquarium and bccd."""
    from dataclasses import replace

    sources = {"aquarium": Coco(folder / "aquarium"), "bccd": Voc(folder / "bccd", first_pixel=0)}
    return {
        name: {
            split: replace(dataset, samples=dataset.samples[:images])
            for split in SPLITS
            for dataset in [source.read(split)]
        }
        for name, source in sources.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat this mutation alone")
    parser.add_argument("--images", type=int, default=4, help="of each split")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    wanted = parser.parse_args()
    verdicts: Counter[str] = Counter()
    sets = real(wanted.data, wanted.images)
    for number, where, what, found in tried(sets, wanted.count, wanted.seed, wanted.only):
        verdicts[found] += 1
        if found in ("crashed", "silent") or wanted.only is not None:
            print(f"{number}: {where}: {what}: {found}", flush=True)
    print(", ".join(f"{count} {found}" for found, count in sorted(verdicts.items())))
    return 1 if verdicts["crashed"] or verdicts["silent"] else 0


if __name__ == "__main__":
    sys.exit(main())
