"""The part of `--help` that comes from constructors: parameters with type, value and one line."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli.schema import FILLED, Schema, schema_of
from detzoo.config import find_class
from detzoo.text import shortened

PARTS = ("detector", "backbone", "resize", "augment", "recipe")
COMMENT = re.compile(r"^ +(\w+):[^#\n]*#[ ]*(.+)$", re.M)  # of a parameter or field, on its line
WIDTH = 96


@dataclass(frozen=True)
class Parameter:
    """A constructor's parameter. default: inspect.Parameter.empty without one. text: a line of the
    docstring, and the comment beside the parameter, such as a paper's section."""

    name: str
    type: str
    default: Any
    text: str


def help_text(config: str, choices: Sequence[str] = ()) -> str:
    """The help text of all that conf/CONFIG.yaml builds, a paragraph for each part; may be "".

    choices: overrides that choose, such as detector=ssd. Raises what Hydra raises for wrong ones.
    """
    schema = schema_of(config, *choices)
    parts = [part for part in PARTS if isinstance(schema.tree.get(part), dict)]
    if config == "bench":  # it has several detectors, which `detector` is none of
        parts.remove("detector")
    lines = [line for part in parts for line in _part(schema, part)]
    if config == "bench":
        lines.append("A detector's own settings: detzoo train detector=NAME --help")
    return "\n".join(lines)


def _part(schema: Schema, part: str) -> Iterator[str]:
    node = schema.tree[part]
    target = find_class(node["_target_"])
    chosen = schema.groups.get(part)
    lead = f"{part}={chosen} builds" if chosen else f"{part} is"
    yield f"{lead} {target.__name__}: {first_sentence(target)}"
    for parameter in parameters_of(target):
        value = parameter.default
        if parameter.name in node:
            value = _value(schema, f"{part}.{parameter.name}")
        if isinstance(value, dict) and "_target_" in value:
            continue  # a separate part
        if isinstance(value, list) and any(isinstance(child, dict) for child in value):
            for child in value:
                kind = find_class(child["_target_"])
                yield f"  {part}.{parameter.name} has {kind.__name__}: {first_sentence(kind)}"
            continue
        yield from _lines(part, parameter, value)
    yield ""


def _value(schema: Schema, key: str) -> Any:
    """The setting's value, None where it is required."""
    try:
        value = OmegaConf.select(schema.config, key)
    except OmegaConfBaseException:
        return None
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _lines(part: str, parameter: Parameter, value: Any) -> Iterator[str]:
    shown = "" if value is inspect.Parameter.empty else shortened(as_setting(value), 40)
    head = f"  {part}.{parameter.name}={shown}  ({parameter.type})"
    if len(head) + 2 + len(parameter.text) <= WIDTH:
        yield f"{head}  {parameter.text}".rstrip()
    else:
        yield head
        yield from (f"      {line}" for line in textwrap.wrap(parameter.text, WIDTH - 6))


def as_setting(value: Any) -> str:
    """A value as it is written behind `setting=`."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_setting, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def parameters_of(kind: type) -> list[Parameter]:
    """The parameters that a configuration may give a class, those of its bases where it passes them
    on, in the order of the signature."""
    found: dict[str, Parameter] = {}
    texts = _texts(kind)
    for base in inspect.getmro(kind):
        if "__init__" not in vars(base):
            continue
        signature = inspect.signature(base.__init__).parameters.values()
        beside = _comments(base)
        for one in list(signature)[1:]:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name not in FILLED:
                text = ", ".join(filter(None, [texts.get(one.name, ""), beside.get(one.name, "")]))
                found.setdefault(one.name, Parameter(one.name, _type(one), one.default, text))
        if not any(one.kind is one.VAR_KEYWORD for one in signature):
            break
    return list(found.values())


def _type(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    return kind if isinstance(kind, str) else inspect.formatannotation(kind)


def first_sentence(kind: type) -> str:
    """The first sentence of a class's docstring, or of its module's where that refers to it."""
    text = inspect.getdoc(kind) or ""
    if not text or text.startswith("See the module"):
        text = inspect.getdoc(inspect.getmodule(kind)) or ""
    return " ".join(re.split(r"(?<=[a-z)])\.(?:\s|$)|\n\n", text)[0].split()).rstrip(".") + "."


def _texts(kind: type) -> dict[str, str]:
    """name -> the first sentence of `name: text` or `name, name: text` in the docstrings."""
    found: dict[str, str] = {}
    for base in inspect.getmro(kind):
        for paragraph in (vars(base).get("__doc__") or "").split("\n\n"):
            text = " ".join(paragraph.split())
            marks = list(re.finditer(r"(?:^|(?<=[.;] ))((?:\w+(?: \([^)]*\))?, )*\w+): ", text))
            ends = [*(mark.start() for mark in marks[1:]), len(text)]
            for mark, end in zip(marks, ends, strict=False):
                entry = text[mark.end() : end]
                sentence = re.split(r"(?<=[\w)`\"])[.;] ", entry)[0].strip(" .;")
                for name in re.sub(r"\([^)]*\)", "", mark[1]).split(","):
                    found.setdefault(name.strip(), sentence)
    return found


def _comments(base: type) -> dict[str, str]:
    """name -> the comment on the line of the parameter or field."""
    own = base if "__dataclass_fields__" in vars(base) else base.__init__
    try:
        source = inspect.getsource(own)
    except (OSError, TypeError):
        return {}
    return dict(COMMENT.findall(source.split(") -> None:")[0]))
