"""Run directories with one damaged file each, by a seed."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

DEEP = 100_000
JUNK: tuple[Any, ...] = (
    *(None, True, 5, -1, 0, 1e308, 10**30, "", "x", "\x1b[31m\x00\u202e", [], {}, [[]], {"a": 1}),
    *([1, 2], ["x"], [None], {"": None}, "x" * 5000),
)
JSON_FILES = (
    *("status.json", "metrics.json", "predictions.json", "dataset.json", "speed.json"),
    *("environment.json", "dataset-val.json", "predictions-val.json", "data.json"),
    *("heatmaps.json", "thresholds.json", "tune.json", "start.json", "theirs.json"),
)
STATUS = ("state", "stage", "started", "images_seen", "train_seconds", "pid", "host", "boot")
CSV_FILES = ("curve.csv", "log.csv")
ALL_VERBS = (
    *("report", "compare", "load", "predict", "oracle", "speed", "train", "evaluate"),
    *("start", "explain", "export"),
)
VERBS = {  # export takes ten seconds
    "config.yaml": ALL_VERBS[:-1],
    "checkpoint.pt": ("load", "predict", "speed", "train", "evaluate", "start", "explain"),
    "status.json": ("report", "compare", "evaluate", "train"),
    "metrics.json": ("report", "compare", "speed", "evaluate"),
    "speed.json": ("report", "speed"),
    "curve.csv": ("report", "train", "evaluate"),
    "log.csv": ("train", "report"),
    "data.json": ("report", "train"),
    "thresholds.json": ("report", "predict", "evaluate", "explain", "export"),
    "tune.json": ("report", "train"),
    "start.json": ("report", "start"),
    "theirs.json": ("report",),
}


def verbs_for(file: str) -> tuple[str, ...]:
    return VERBS.get(file, ("report", "compare"))


def damages(run: Path, count: int, seed: int) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """(file, what, function that damages it in the copy of `run` that it is given)."""
    rng = random.Random(seed)
    kinds = [
        *(("checkpoint.pt", what, damage) for what, damage in CHECKPOINTS.items()),
        *(("config.yaml", what, _text(text)) for what, text in TEXTS.items()),
        *(("config.yaml", what, _text(text)) for what, text in YAMLS.items()),
        *((file, what, _text(text)) for file in JSON_FILES for what, text in TEXTS.items()),
        *((file, what, _text(text)) for file in CSV_FILES for what, text in CSVS.items()),
        *(("status.json", f"without {key}", _lacking(key)) for key in STATUS),
        *((file, "gone", lambda path: path.unlink(missing_ok=True)) for file in VERBS),
        *((file, "a folder", _folder) for file in VERBS),
    ]
    rng.shuffle(kinds)
    mutated = ["config.yaml", *[file for file in JSON_FILES if (run / file).exists()]]
    for number in range(count):
        if number % 2 and kinds:
            yield kinds.pop()
        else:
            file = "config.yaml" if rng.random() < 0.4 else rng.choice(mutated)
            content = _loaded(run / file)
            what = _mutate(content, rng)
            yield file, what, _text(_dumped(file, content))


def _loaded(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)


def _dumped(file: str, content: Any) -> str:
    return yaml.safe_dump(content) if file.endswith(".yaml") else json.dumps(content)


def _mutate(content: Any, rng: random.Random) -> str:
    """Change one to three values of it in place; gives where."""
    told = []
    for _ in range(rng.randint(1, 3)):
        inner, place = content, []
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = rng.choice(keys)
            place.append(str(key))
            if not isinstance(inner[key], dict | list) or not inner[key] or rng.random() < 0.3:
                if rng.random() < 0.3:
                    del inner[key]
                else:
                    inner[key] = copy.deepcopy(rng.choice(JUNK))
                break
            inner = inner[key]
        told.append(".".join(place)[:80])
    return "mutated " + ", ".join(told)


def _text(content: str | bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def _lacking(key: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in content.items() if k != key}))

    return write


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "a list": "[]",
    "a number": "3",
    "a word": '"x"',
    "null": "null",
    "cut": '{"a": [1, {"b"',
    "deep list": "[" * DEEP + "]" * DEEP,
    "deep map": '{"a":' * DEEP + "1" + "}" * DEEP,
    "bytes": b"\x00\xff\xfe\x80 \x9d",
    "latin": '{"a": "käfer"}'.encode("latin-1"),
    "many digits": '{"a": ' + "9" * 10_000 + "}",
    "no number": '{"a": NaN, "b": Infinity}',
    "surrogate": '{"a": "\\ud800"}',
    "an empty map": "{}",
}
YAMLS: dict[str, str | bytes] = {
    "alias bomb": "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)),
    "merge bomb": "a0: &a0 {x: 1}\n"
    + "".join(
        f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
    ),
    "recursive": "detector: &a {_target_: detzoo.detectors.CenterNet, backbone: *a}\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "tag": "detector: !!python/name:os.system\n",
    "a set": "classes: !!set {a, b}\n",
    "large": b"a: " + b"x" * 10_000_001,
}  # fmt: skip
CSVS: dict[str, str | bytes] = {
    "empty": "",
    "bytes": b"images_seen,AP\n\xff\xfe\x00,1\n",
    "no columns": "1,2,3\n4,5,6\n",
    "words": "images_seen,seconds,AP,AP50\nmany,x,y,z\n",
    "cut": "images_seen,seconds,AP,AP50\n8",
    "a long field": "images_seen,AP\n" + "9" * 200_000 + ",1\n",
    "nul": "images_seen,AP\n8,\x000.5\n",
}


def _state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def _changed(**values: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.save({**_state(path), **values}, path)

    return write


def _without(key: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.save({k: v for k, v in _state(path).items() if k != key}, path)

    return write


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Change the weights, plain ones and average."""

    def write(path: Path) -> None:
        state = _state(path)
        for part in ("model", "ema"):
            if state.get(part):
                weights = dict(state[part])
                state[part] = change(weights) or weights
        torch.save(state, path)

    return write


def _largest(weights: dict[str, torch.Tensor]) -> str:
    return max(weights, key=lambda key: weights[key].numel())


def _set(value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        key = _largest(weights)
        weights[key] = value(weights[key])

    return change


def _nan(tensor: torch.Tensor) -> torch.Tensor:
    spoilt = tensor.clone(memory_format=torch.contiguous_format)
    spoilt.view(-1)[7] = float("nan")
    return spoilt


def _cut(part: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(100, len(content), max(1, len(content) // 50)):
        content[place] ^= 0xFF
    path.write_bytes(content)


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", b"3\n")
        with archive.open("archive/data/0", "w", force_zip64=True) as part:
            for _ in range(200):
                part.write(bytes(1_000_000))


def _repacked(path: Path) -> None:
    content = path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    **{f"cut at {part}": _cut(part) for part in (0.001, 0.5, 0.9, 0.999)},
    **{f"without {key}": _without(key) for key in ("model", "version", "step", "random", "recipe")},
    **{f"without {key}": _without(key) for key in ("optimizer", "images_seen", "seconds", "ema")},
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "flipped bytes": _flipped,
    "zip bomb": _zip_bomb,
    "compressed": _repacked,
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "old format": lambda path: torch.save(_state(path), path, _use_new_zipfile_serialization=False),
    "version 2": _changed(version=2),
    "model a list": _changed(model=[1], ema=None),
    "model empty": _changed(model={}, ema=None),
    "ema a number": _changed(ema=5),
    "step text": _changed(step="many"),
    "step beyond": _changed(step=10**9),
    "random none": _changed(random=None),
    "random other": _changed(random={"torch": torch.zeros(3)}),
    "optimizer other": _changed(optimizer={"state": {}, "param_groups": []}),
    "recipe a list": _changed(recipe=[]),
    "nan": _weights(_set(_nan)),
    "infinite": _weights(_set(lambda t: torch.full_like(t, float("inf")))),
    "integers": _weights(_set(lambda t: t.to(torch.int64))),
    "complex": _weights(_set(lambda t: t.to(torch.complex64))),
    "sparse": _weights(_set(lambda t: t.to_sparse())),
    "other shape": _weights(_set(lambda t: t.flatten())),
    "expanded": _weights(_set(lambda t: torch.zeros(1).expand(10**9))),
    "no tensor": _weights(_set(lambda t: 3)),
    "one missing": _weights(lambda weights: weights.pop(_largest(weights)) and None),
    "one more": _weights(lambda weights: weights.update({"x\x1b": torch.zeros(1)})),
    "numbers as keys": _weights(lambda weights: {1: torch.zeros(1)}),
}
