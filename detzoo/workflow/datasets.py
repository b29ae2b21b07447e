"""The data set of a command: data=auto if only data.root is given, and its detected format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from detzoo.config import folder, load_yaml

# Those of conf/ with their own data set
CONFIGS = {"check", "propose", "train", "bench", "tune", "as_published", "untrained"}
AUTO = "detzoo.data.Auto"
ROOT = re.compile(r"\+{0,2}data\.root=")
CHOSEN = re.compile(r"~?\+{0,2}(data(@[\w.]+)?|experiment|data\._target_)(=|$)")


def with_auto(config: str, arguments: Sequence[str]) -> list[str]:
    """The overrides of conf/CONFIG.yaml; data=auto comes before them where they give data.root and
    not its format."""
    if config not in CONFIGS or not any(map(ROOT.match, arguments)):
        return list(arguments)
    return list(arguments) if any(map(CHOSEN.match, arguments)) else ["data=auto", *arguments]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """`data` without auto: the node of the reader that was recognised, as if it had been named.

    The result is printed once. Raises DataError, a ValueError, if it is ambiguous.
    """
    if node.get("_target_") != AUTO:
        return node
    return json.loads(_resolved(json.dumps(node, sort_keys=True)))


@cache
def _resolved(text: str) -> str:
    from detzoo.data import recognise
    from detzoo.engine import distributed

    given = json.loads(text)
    name = given.pop("name")
    given.pop("_target_")
    given["splits"] = {k: place for k, place in (given.get("splits") or {}).items() if place}
    given["holdout"] = {k: v for k, v in (given.get("holdout") or {}).items() if v is not None}
    found = recognise(**given)
    if distributed.is_main_process():
        print("\n".join(found.lines) + "\n", flush=True)
    node = load_yaml(folder("conf") / "data" / f"{found.format}.yaml")
    for key, value in found.settings.items():
        node[key] = node[key] | value if isinstance(node.get(key), dict) else value
    return json.dumps(node | ({} if name == "auto" else {"name": name}))
