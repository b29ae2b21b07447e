"""YAML that holds maps, lists, text, numbers, booleans and null, and nothing else.

For every YAML file that somebody else may have written: a run's config.yaml, a data set's
data.yaml. The event stream of PyYAML is turned into values here, without its constructors: a tag
has no meaning and is refused, an alias is copied and counted, and nothing recurses. It needs
neither torch nor Hydra, and every part of detzoo may import it.

Words are read by the rule of YAML 1.2: `true` and `false` are the booleans, so that `yes`, `no`,
`on` and `off` are text, and so are dates, `010`, `1e3`, `1_000` and `1:30`. What PyYAML's safe_dump
writes is read back unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detzoo.files import read_text
from detzoo.text import shortened

MOST_BYTES = 10_000_000
MOST_DEPTH = 50
MOST_NODES = 1_000_000  # with every alias counted as often as it is expanded

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,400})")
# PyYAML takes an exponent for one only after a point and with a sign, and writes text accordingly.
_FLOAT = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of it, the parser alone is used


class YamlError(ValueError):
    """The text is no YAML, or has more than plain values; names the line."""


def read_yaml(path: str | Path, *, as_text: bool = False) -> Any:
    """The value in a YAML file; None where it is empty.

    as_text: leave every word text as it is written (`null`, `010` and `True` too), for lists of
    names. Raises FileNotFoundError, and ValueError with the path for anything but plain YAML: tags,
    merge keys, a key that is given twice, an alias of itself, more than one document, nesting
    deeper than 50, more than a million nodes, a file beyond 10 MB.
    """
    text = read_text(path, MOST_BYTES)
    try:
        return parse_yaml(text, as_text=as_text)
    except YamlError as error:
        raise ValueError(f"{path}: not a readable YAML file: {error}") from None


def parse_yaml(text: str, *, as_text: bool = False) -> Any:
    """`read_yaml` of a text. Raises YamlError."""
    try:
        return _Composer(as_text).value(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{where}{shortened(error.problem or error.context, 300)}") from None
    except yaml.YAMLError as error:
        raise YamlError(shortened(error, 300)) from None


@dataclass
class _Node:
    """A list or map that is being filled; `size` and `height` measure its content."""

    value: list[Any] | dict[Any, Any]
    anchor: str | None
    size: int = 1
    height: int = 1
    key: Any = None
    has_key: bool = False
    keys: dict[Any, int] = field(default_factory=dict)  # key -> its line


class _Composer:
    """Builds values from events, with an explicit stack."""

    def __init__(self, as_text: bool) -> None:
        self.as_text = as_text
        self.stack: list[_Node] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # name -> value, its size and height
        self.nodes = 0
        self.documents = 0
        self.result: Any = None

    def value(self, events: Iterator[yaml.Event]) -> Any:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise YamlError(f"line {line}: a second document begins")
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                node = self.stack.pop()
                self._place(node.value, node.size, node.height, node.anchor, line)
            elif isinstance(event, yaml.ScalarEvent):
                self._refuse_tag(event, line)
                self._count(1, line)
                self._place(self._scalar(event, line), 1, 0, event.anchor, line)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor, line)
        return self.result

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event, line)
        self._count(1, line)
        if self._wants_key():
            raise YamlError(f"line {line}: a list or map as a key; keys are text or numbers")
        self._check_depth(1, line)
        if event.anchor:
            self.anchors.pop(event.anchor, None)  # its own content cannot mean it
        value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Node(value, event.anchor))

    def _alias(self, anchor: str, line: int) -> None:
        if any(node.anchor == anchor for node in self.stack):
            raise YamlError(f"line {line}: *{shortened(anchor, 40)} stands inside of itself")
        if anchor not in self.anchors:
            raise YamlError(f"line {line}: there is no &{shortened(anchor, 40)} before this")
        value, size, height = self.anchors[anchor]
        self._count(size, line)
        self._check_depth(height, line)
        if height and self._wants_key():
            raise YamlError(f"line {line}: a list or map as a key; keys are text or numbers")
        self._place(_copied(value), size, height, None, line)

    def _place(self, value: Any, size: int, height: int, anchor: str | None, line: int) -> None:
        """Put a value that is complete where it belongs."""
        if anchor:
            self.anchors[anchor] = value, size, height
        if not self.stack:
            self.result = value
            return
        node = self.stack[-1]
        node.size += size
        node.height = max(node.height, height + 1)
        if isinstance(node.value, list):
            node.value.append(value)
        elif node.has_key:
            node.value[node.key] = value
            node.has_key = False
        else:
            if value == "<<":
                raise YamlError(f"line {line}: merge keys (<<) are not read; write the values out")
            if value in node.keys:
                raise YamlError(
                    f"line {line}: {shortened(value, 80)} is given a second time; it stands at "
                    f"line {node.keys[value]} already"
                )
            node.key, node.has_key = value, True
            node.keys[value] = line

    def _wants_key(self) -> bool:
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].value, dict)
            and (not self.stack[-1].has_key)
        )

    def _count(self, size: int, line: int) -> None:
        self.nodes += size
        if self.nodes > MOST_NODES:
            raise YamlError(f"line {line}: holds more than {MOST_NODES:,} values, aliases expanded")

    def _check_depth(self, height: int, line: int) -> None:
        if len(self.stack) + height > MOST_DEPTH:
            raise YamlError(f"line {line}: nested deeper than {MOST_DEPTH}")

    def _refuse_tag(self, event: yaml.NodeEvent, line: int) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise YamlError(f"line {line}: the tag {shortened(tag, 80)} is not read; leave it out")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        text: str = event.value
        if event.style or self.as_text:  # a style is a kind of quotes, or a block's
            return text
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if special := _SPECIAL.fullmatch(text):
            return float(special[1] + special[2])
        return text


def _copied(value: Any) -> Any:
    """A deep copy, so that the result is a tree; its depth is bounded by MOST_DEPTH."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_copied(child) for child in value]
    return value
