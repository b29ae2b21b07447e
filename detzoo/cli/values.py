"""Values of settings as users write them, converted to Hydra's grammar by the setting's type.

Hydra's grammar types a value by its form (`name=2024_01_05` is a number) and rejects letters that
file systems accept (`~`, `é`). Here the setting's type decides: text stays text, a float without a
fraction is a count, and one value is a list of one where a list is expected. This module does not
import Hydra.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# Settings that name a file or a folder, by the last part of their name
PATHS = {
    "root",
    "runs",
    "run",
    "images",
    "out",
    "to",
    "json",
    "reports",
    "weights",
    "first",
    "second",
}
# Settings that must be above 0, by the last part of their name
POSITIVE = {
    *("images_seen", "batch_size", "lr", "clip_norm", "threads", "size", "seconds", "rounds"),
    *("max_batch", "batches", "counts", "jobs", "channels", "head_width", "crop", "cell", "limit"),
    *("max_proposals", "max_detections", "resamples", "shortest", "longest", "smallest_anchor"),
}
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
WORDS |= {"1": True, "0": False}
FUNCTION = re.compile(r"[a-z_]+\(.*\)", re.S)  # of Hydra's grammar: glob(*), range(0,5)
BARE = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)  # text that Hydra reads as text without quotes
NOT_TEXT = {"true", "false", "null", "nan", "inf"}


@dataclass(frozen=True)
class Kind:
    """The type of a setting's values.

    type: text, path, count (a whole number), number, flag, mapping, any (whatever Hydra parses).
    many: a list of these. one: where `many`, also a single one, left as it is. none: also null.
    mapping: also {KEY:VALUE,...}.
    """

    type: str = "any"
    many: bool = False
    one: bool = False
    none: bool = False
    mapping: bool = False


ANY = Kind()
TYPES = {"str": "text", "str | Path": "path", "int": "count", "float": "number", "bool": "flag"}


def kind_of(annotation: str, name: str) -> Kind:
    """The kind of a parameter `name` with this annotation, such as "Sequence[str] | None"."""
    text = annotation.removeprefix("None | ")
    none = text.endswith(" | None")
    text = text.removesuffix(" | None")
    one, _, several = text.partition(" | Sequence[")
    if several and several == f"{one}]" and one in TYPES:
        return Kind(TYPES[one], many=True, one=True, none=none)
    inner = re.fullmatch(r"(?:Sequence|list)\[(.*)\]", text)
    element = inner[1] if inner else text
    if text.startswith(("Mapping[", "dict[")):
        return Kind("mapping", none=none, mapping=True)
    if text == "Sequence[str] | Mapping[str, str]":
        return Kind("text", many=True, none=none, mapping=True)
    if text.startswith("str") and "Mapping[" in text:
        return Kind("text", none=none, mapping=True)
    found = TYPES.get(element, "any")
    if found == "text" and name in PATHS:
        found = "path"
    return Kind(found, many=bool(inner) and found != "any", none=none)


def kind_like(value: object, name: str) -> Kind:
    """The kind of a setting whose default is `value`."""
    if isinstance(value, bool):
        return Kind("flag")
    if isinstance(value, int):
        return Kind("count")
    if isinstance(value, float):
        return Kind("number")
    if isinstance(value, str):
        return Kind("path" if name in PATHS else "text")
    if isinstance(value, list):
        element = kind_like(value[0] if value else "", name)
        plain = element.type not in ("any", "mapping") and not isinstance((value or [0])[0], list)
        return replace(element, many=True, one=False) if plain else ANY
    return Kind("mapping", mapping=True) if isinstance(value, dict) else ANY


def read_value(name: str, text: str, kind: Kind, can_resolve: Callable[[str], bool]) -> str:
    """The value `text` of the setting `name`, as Hydra's grammar has it.

    resolves: whether OmegaConf can resolve an interpolation (its text without `${` and `}`); what
    cannot be resolved is text. Raises ValueError in one sentence that names the setting.
    """
    if kind.none and text.strip() == "null":
        return "null"
    mapping = kind.mapping and not exists(text)
    if kind.type == "any" or (mapping and text.lstrip().startswith("{")):
        return text
    words = kind.type in ("text", "path")
    if not words and "${" in text:
        return text
    if kind.many:
        bracketed = re.fullmatch(r"\s*\[(.*)\]\s*", text, re.S)
        whole = words and exists(text)
        if kind.one and (whole or not bracketed):
            return _read_one(name, text, kind, can_resolve)
        inner = text if whole or not bracketed else bracketed[1]
        parts = [inner] if whole or (words and exists(inner)) else split_list(inner, words)
        return f"[{','.join(_read_one(name, part, kind, can_resolve) for part in parts)}]"
    if kind.type == "mapping":
        raise ValueError(f"{name} is {text!r}; it takes several: {name}.KEY=VALUE")
    return _read_one(name, text, kind, can_resolve)


def _read_one(name: str, text: str, kind: Kind, can_resolve: Callable[[str], bool]) -> str:
    leaf = name.rsplit(".", 1)[-1]
    if kind.type in ("text", "path"):
        return quote(_read_text(name, text, kind, can_resolve))
    if kind.type == "flag":
        if text.strip().lower() not in WORDS:
            raise ValueError(f"{name} is {text!r}; it must be true or false")
        return str(WORDS[text.strip().lower()]).lower()
    wanted = "a whole number" if kind.type == "count" else "a number"
    value = _number(text)
    if not math.isfinite(value) or (kind.type == "count" and value != int(value)):
        several = ", or several as [A,B]" if kind.many else ""
        raise ValueError(f"{name} is {text!r}; it must be {wanted}{several}")
    if value < 0 and (kind.type == "count" or leaf in POSITIVE):
        least = "above 0" if leaf in POSITIVE else "0 or more"
        raise ValueError(f"{name} is {text}; it must be {least}")
    if value == 0 and leaf in POSITIVE:
        raise ValueError(f"{name} is {text}; it must be above 0")
    return str(int(value) if kind.type == "count" else value)


def _number(text: str) -> float:
    for parse in (int, float):  # a large whole number is more than a float can hold
        try:
            return parse(text)
        except ValueError:
            continue
    return math.nan


def _read_text(name: str, text: str, kind: Kind, can_resolve: Callable[[str], bool]) -> str:
    """The unquoted text, with ~ expanded in a path, escaped for OmegaConf."""
    path = kind.type == "path"
    plain = text if path and exists(text) else unquote(text)
    if path and plain.startswith("~"):
        plain = _expand_user(plain)
    if path and exists(plain):  # whatever its name looks like
        return escape(plain)
    if not plain.strip() and not kind.none and name.rsplit(".", 1)[-1] in {"name", *PATHS}:
        raise ValueError(f"{name} is empty: {name}=...")
    if "\0" in plain:
        raise ValueError(f"{name} holds a NUL, which no name may")
    return plain if is_resolvable(plain, can_resolve) else escape(plain)


def _expand_user(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # ~nobody
        return path


def exists(path: str) -> bool:
    """Whether the file or folder exists; False for text that is no valid path."""
    if not path:
        return False
    try:
        return Path(_expand_user(path)).exists()
    except (OSError, ValueError):
        return False


def is_resolvable(text: str, can_resolve: Callable[[str], bool]) -> bool:
    """Whether every ${...} of `text` is an interpolation that can be resolved."""
    return all(map(can_resolve, interpolations(text)))


def interpolations(text: str) -> Iterator[str]:
    """The content of each outermost ${...}; "" for one without an end."""
    start = 0
    while (start := text.find("${", start)) >= 0:
        depth, end = 1, start + 2
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield text[start + 2 : end - 1] if not depth else ""
        start = end


def escape(text: str) -> str:
    """Text that OmegaConf resolves to `text`, with any ${...} in it escaped."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def quote(text: str) -> str:
    """The text quoted so that Hydra's grammar reads it back unchanged."""
    if BARE.fullmatch(text) and text.lower() not in NOT_TEXT:
        return text
    body = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{body}'"


def unquote(text: str) -> str:
    """The text without quotes and escapes that were written for Hydra's grammar."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        quote = text[0]
        inner = text[1:-1]
        if not re.search(rf"(?<!\\)(?:\\\\)*{quote}", inner):
            return re.sub(rf"(\\+)({quote}|\Z)", lambda m: "\\" * (len(m[1]) // 2) + m[2], inner)
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", text)


def split_list(text: str, paths: bool = False) -> list[str]:
    """Split a list without its brackets at the commas that are not quoted or nested.

    paths: parts that are a file's name only with the comma between them are one.
    """
    parts, part, quote, depth = [], "", "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "'\"" and not part.strip():
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth = max(0, depth - 1)
        if letter == "," and not quote and not depth and not part.endswith("\\"):
            parts.append(part)
            part = ""
        else:
            part += letter
    parts = [part.strip() for part in [*parts, part]]
    if quote or depth:  # a quote or bracket that is part of a name
        parts = [part.strip() for part in text.split(",")]
    parts = parts if any(parts) else []
    return list(_join_paths(parts)) if paths else parts


def _join_paths(parts: list[str]) -> Iterator[str]:
    start = 0
    while start < len(parts):
        end = next(
            (
                end
                for end in range(len(parts), start + 1, -1)
                if exists(",".join(parts[start:end])) and not exists(parts[start])
            ),
            start + 1,
        )
        yield ",".join(parts[start:end])
        start = end
