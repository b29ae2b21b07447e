"""The speed that another program states for itself, in the same file as its results.

    {"results": [...], "latency": {"p50_ms": 12.3, "timed": "network and NMS, no decoding",
     "batch": 1, "precision": "fp16", "device": "Jetson Orin, TensorRT 10.3"}}

Also p90_ms, p99_ms, images_per_second, images and source. It was measured by another clock on
another machine, so it is shown as a note, with how it was measured, and in no column: it is not
compared with our times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detzoo.report.load.values import clean, number

TIMES = ("p50_ms", "p90_ms", "p99_ms")
COUNTS = ("batch", "images")
TEXTS = ("timed", "precision", "device", "source")
NEEDED = ("p50_ms", "timed", "batch", "precision", "device")
KNOWN = (*TIMES, "images_per_second", *COUNTS, *TEXTS)
LONGEST = 200  # characters of a text


def stated_latency(value: Any) -> str | None:
    """The note about `latency` in what a file of results holds; None where it has none.

    Raises ValueError for a key that is missing, unknown or of another kind than it must be.
    """
    if not isinstance(value, dict) or "latency" not in value:
        return None
    stated = value["latency"]
    if not isinstance(stated, dict):
        raise ValueError(f"latency is {_shown(stated)}; it must be a mapping with p50_ms")
    for key in stated:
        if key not in KNOWN:
            raise ValueError(f"latency has {_shown(key)}; it takes {', '.join(KNOWN)}")
    if missing := [key for key in NEEDED if stated.get(key) is None]:
        raise ValueError(f"latency lacks {', '.join(missing)}, without which it says nothing")
    for key in (*TIMES, "images_per_second", *COUNTS):
        whole = key not in COUNTS or isinstance(stated.get(key), int)
        if stated.get(key) is not None and not (number(stated, key) > 0 and whole):
            kind = "a whole number" if key in COUNTS else "a number"
            raise ValueError(f"latency.{key} is {_shown(stated[key])}; it must be {kind} above 0")
    for key in TEXTS:
        text = stated.get(key)
        if text is not None and not (isinstance(text, str) and 0 < len(text.strip()) <= LONGEST):
            raise ValueError(
                f"latency.{key} is {_shown(text)}; it must be text of up to {LONGEST} characters"
            )
    times = [(key, number(stated, key)) for key in TIMES if stated.get(key) is not None]
    if times != sorted(times, key=lambda pair: pair[1]):
        raise ValueError("latency: p50_ms, p90_ms and p99_ms must not fall in that order")
    return _note(stated, times)


def _note(stated: Mapping[str, Any], times: list[tuple[str, float]]) -> str:
    parts = [f"{key[:3]} {value:g} ms" for key, value in times]
    if stated.get("images_per_second") is not None:
        parts.append(f"{number(stated, 'images_per_second'):g} images/s")
    parts += [f"batch {stated['batch']}", _line(stated["precision"]), _line(stated["device"])]
    if stated.get("images") is not None:
        parts.append(f"{stated['images']:,} images")
    source = f" ({_line(stated['source'])})" if stated.get("source") else ""
    return (
        f"its authors state, by their own clock: {', '.join(parts)}; timed: "
        f"{_line(stated['timed'])}{source}. Not measured here, compared with nothing"
    )


def _line(text: str) -> str:
    return " ".join(clean(text).split())


def _shown(value: Any) -> str:
    return clean(repr(value), 80)
