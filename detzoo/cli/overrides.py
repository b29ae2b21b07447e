"""Checks every override of a command before Hydra sees it: accepted, or refused with a reason.

An unknown setting is an error that names the nearest known one; an invalid value is an error that
names the setting. Accepted overrides go to Hydra as `++key=value`, "set it whether or not it
exists", since a constructor's default lives in its signature alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.cli import values
from detzoo.cli.refusals import (
    EPOCHS,
    STEPS,
    explain_budget,
    explain_unknown,
    explain_useless,
    suggest,
)
from detzoo.cli.schema import Schema, choices_of, referred, schema_of, value_of
from detzoo.cli.values import FUNCTION, Kind

OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~|)(?P<key>[^=]*?)(?:=(?P<value>.*))?", re.S)
# Hydra's flags that are followed by a value
VALUED = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}
# Widths that are equal terms for all rows of a table, also for those that have no such part
WIDTHS = {"channels", "head_width"}
# Settings that only some detectors have a use for
FOR_SOME = {
    *("smallest_anchor", "finest_level", "cell", "octave_scales", "upsample_by", "max_proposals"),
    *("crop", "crop_context", "crop_batch", "anchors", "size_weight"),
    *("proposals", "grid_smallest", "grid_growth", "grid_ratios", "grid_step"),
}


class Refused(ValueError):
    """An override that cannot be taken."""


@dataclass(frozen=True)
class Override:
    """`key=value` as it came, with Hydra's sign before it: "", "+", "++" or "~"."""

    text: str
    sign: str
    key: str
    value: str | None

    @property
    def group(self) -> str:
        """The key without the package that Hydra lets follow it: data@mine is data."""
        return self.key.split("@")[0]


def parse(text: str) -> Override:
    found = OVERRIDE.fullmatch(text)
    assert found is not None
    return Override(text, found["sign"], found["key"].strip(), found["value"])


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the rest."""
    flags, rest, valued = [], [], False
    for argument in arguments:
        flag = argument.startswith("-") and not _is_setting(argument)
        (flags if flag or valued else rest).append(argument)
        valued = flag and argument in VALUED
    return flags, rest


def _is_setting(argument: str) -> bool:
    return not re.match(r"-{1,2}[A-Za-z]", argument)


def check_overrides(
    verb: str,
    arguments: Sequence[str],
    *,
    config: str | None = None,
    multirun: bool = False,
    explain_missing: Callable[[str], str | None] = lambda key: None,
) -> list[str]:
    """The overrides `arguments` of `detzoo verb`, checked, in Hydra's grammar.

    config: the file in conf/, where its name is not the verb's. multirun: commas sweep.
    explain_missing: a special reason why a setting does not exist. Raises Refused.
    """
    found = [parse(text) for text in arguments]
    base = schema_of(config or verb)
    chosen: dict[str, list[str]] = {}
    for one in found:
        if is_group(one.group, base):
            names = parse_choices(verb, one, multirun)
            if names:
                chosen[one.key] = names
    first = [f"{key}={names[0]}" for key, names in chosen.items() if not key.startswith("~")]
    schemas = [schema_of(config or verb, *first)] if first else [base]
    for place, (key, names) in enumerate(chosen.items()):
        for name in names[1:]:
            schemas.append(
                schema_of(config or verb, *first[:place], f"{key}={name}", *first[place + 1 :])
            )
    several = _detector_schemas(config or verb, found, first, schemas[0])
    if any(one.key.startswith("detector.") for one in found):
        schemas = several or schemas
    taken = []
    for one in found:
        if (
            one.key in chosen
            or one.key.startswith(("hydra.", "hydra/"))
            or (is_group(one.group, base) and one.value is not None)
        ):
            taken.append(one.text)
        elif not schemas[0].find(one.key) and one.key.rsplit(".", 1)[-1] in EPOCHS | STEPS:
            data = [
                f"++{o.key}={read_value(verb, o, kind, schemas[0], multirun)}"
                for o in found
                if o.key.startswith("data.") and o.value and (kind := schemas[0].find(o.key))
            ]
            raise Refused(explain_budget(verb, one, schema_of(config or verb, *first, *data)))
        else:
            taken.append(_setting(verb, one, schemas, multirun, explain_missing))
    check_effect(found, several or schemas)
    return taken


def _detector_schemas(
    config: str, found: Sequence[Override], first: Sequence[str], schema: Schema
) -> list[Schema]:
    """One schema for each of `detectors`, if a setting may be a detector's own."""
    own = any(one.key.split(".")[0] in {"detector", *WIDTHS, *FOR_SOME} for one in found)
    if not own or "detector" not in schema.groups:
        return []
    wanted = schema.tree.get("detectors")
    for one in found:
        if one.key == "detectors" and one.value is not None:
            text = one.value.strip().removeprefix("[").removesuffix("]")
            wanted = [values.unquote(name) for name in values.split_list(text)]
    known = set(choices_of("detector"))
    return [schema_of(config, *first, f"detector={name}") for name in wanted or () if name in known]


def check_effect(found: Sequence[Override], schemas: Sequence[Schema]) -> None:
    """Raise Refused for a setting that no chosen part uses; for a width only a note is printed."""
    names = dict.fromkeys(one.key.split(".")[0] for one in found)
    given = [name for name in names if name in WIDTHS | FOR_SOME and name in schemas[0].tree]
    groups = [one for one in found if is_group(one.group, schemas[0])]
    if not given or any(FUNCTION.fullmatch(one.value or "") for one in groups):  # -m glob(*)
        return
    used = set().union(*(schema.referenced() for schema in schemas))
    used |= {name for one in found for name in referred(one.value or "")}
    for name in given:
        if name in used:
            continue
        if name in FOR_SOME:
            raise Refused(explain_useless(name, schemas))
        labels = ", ".join(dict.fromkeys(str(schema.tree["label"]) for schema in schemas))
        print(f"note: {name} has no effect on {labels}", file=sys.stderr)


def is_group(key: str, schema: Schema) -> bool:
    return key in schema.groups


def parse_choices(verb: str, one: Override, multirun: bool) -> list[str]:
    """The choices that `group=a` or `-m group=a,b` makes; [] where only Hydra can determine
    them."""
    if one.value is None or one.sign == "~" or one.group.startswith("hydra/"):
        return []
    value, known = one.value.strip(), choices_of(one.group)
    if value in ("null", ""):
        return ["null"]
    if FUNCTION.fullmatch(value):
        return [name for name in known if value.startswith("glob(")][:1]
    names = values.split_list(value.removeprefix("[").removesuffix("]"))
    names = [values.unquote(name) for name in names]
    for name in names:
        if name not in known:
            if one.group == "backbone" and is_backbone(name):
                raise Refused(f"there is no backbone {name!r} in conf; use backbone.name={name}")
            raise Refused(f"there is no {one.group} {name!r}{suggest(name, known)}")
    if (len(names) > 1 or value.startswith("[")) and not multirun:
        several = ",".join(names)
        raise Refused(
            f"{one.group}={value}: {verb} takes one {one.group}; several are a multirun: "
            f"detzoo {verb} -m {one.group}={several}"
            + (f", or {one.group}s=[{several}] of detzoo bench" if one.group == "detector" else "")
        )
    return names


def is_backbone(name: str) -> bool:
    """Whether timm has a network of that name."""
    import timm

    return timm.is_model(name)


def _setting(
    verb: str,
    one: Override,
    schemas: Sequence[Schema],
    multirun: bool,
    explain_missing: Callable[[str], str | None],
) -> str:
    """One setting, checked, in Hydra's grammar."""
    kinds = [schema.find(one.key) for schema in schemas]
    for kind, schema in zip(kinds, schemas, strict=True):
        if kind is None:
            raise Refused(explain_unknown(verb, one, schema, schemas, explain_missing))
    kind = kinds[0]
    assert kind is not None
    if one.sign == "~":
        return one.text
    if one.value is None:
        raise Refused(f"{one.text}: a setting is KEY=VALUE: {one.key}=...")
    value = read_value(verb, one, kind, schemas[0], multirun)
    if one.key == "detectors":
        known = choices_of("detector")
        for name in values.split_list(value.strip("[]")):
            if (name := values.unquote(name)) not in known:
                raise Refused(f"detectors: there is no detector {name!r}{suggest(name, known)}")
    try:
        parsed = value_of(f"{one.key}={value}")
    except ValueError as error:
        raise Refused(str(error)) from None
    _check_keys(verb, one.key, parsed, schemas, explain_missing)
    return f"++{one.key}={value}"


def _check_keys(
    verb: str,
    key: str,
    value: Any,
    schemas: Sequence[Schema],
    explain_missing: Callable[[str], str | None],
) -> None:
    """Refuse a mapping with a key that is no setting: data.splits={tset:a}."""
    if not isinstance(value, dict) or key == "results":
        return
    for name, child in value.items():
        below = Override("", "", f"{key}.{name}", "")
        for schema in schemas:
            if schema.find(below.key) is None:
                raise Refused(explain_unknown(verb, below, schema, schemas, explain_missing))
        _check_keys(verb, below.key, child, schemas, explain_missing)


def read_value(verb: str, one: Override, kind: Kind, schema: Schema, multirun: bool) -> str:
    """The value of one override, each part of a sweep by itself."""
    value = one.value or ""
    alone = not multirun or (kind.type in ("text", "path") and values.exists(value))
    try:
        if multirun and FUNCTION.fullmatch(value.strip()):
            return value
        parts = [value] if alone else values.split_list(value)
        if alone and not kind.many and kind.type in ("count", "number", "flag") and "," in value:
            raise Refused(
                f"{one.key} is {value!r}; it takes one value, and several are a multirun: "
                f"detzoo {verb} -m {one.key}={value}"
            )
        return ",".join(
            values.read_value(one.key, part, kind, schema.can_resolve) for part in parts
        )
    except ValueError as error:
        raise Refused(str(error)) from None
