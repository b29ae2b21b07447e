"""Arguments without a name: `detzoo report runs/mine` is runs=[runs/mine]."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detzoo.cli.values import exists, quote

DELETION = re.compile(r"~[A-Za-z_][\w.@-]*")  # Hydra's ~key


def split_paths(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that are a path or a pattern, and the settings."""
    named = [text for text in arguments if _is_positional(text)]
    return named, [text for text in arguments if text not in named]


def _is_positional(text: str) -> bool:
    key, equals, _ = text.partition("=")
    in_folder = "/" in key and not key.lstrip("+~").startswith("hydra/")  # a=b/c is a setting
    return exists(text) or in_folder or (not equals and not DELETION.fullmatch(text))


def list_setting(key: str, named: Sequence[str], rest: Sequence[str]) -> list[str]:
    """`rest` with the paths as one setting: key=[...]. ValueError where it is given already."""
    if not named:
        return list(rest)
    if given := [text for text in rest if text.lstrip("+").startswith(f"{key}=")]:
        raise ValueError(f"{', '.join(named)} and {given[0]}: name the {key} in one way")
    return [*rest, f"{key}=[{','.join(map(quote, named))}]"]


def is_run(text: str) -> bool:
    """Whether a path, a pattern or the beginning of a path names runs."""
    from detzoo.workflow.select import select

    try:
        return bool(select(text))
    except ValueError:
        return False


def data_root(arguments: Sequence[str]) -> list[str]:
    """`detzoo check DIR` is data.root=DIR."""
    named, rest = split_paths(arguments)
    if len(named) != 1 or not (exists(named[0]) or "://" in named[0]):
        return list(arguments)
    return [*rest, f"data.root={quote(named[0])}"]


def trials(arguments: Sequence[str]) -> list[str]:
    """`tune=8` is tune.trials=8, and a folder is data.root."""
    number = ("tune=", "tune.trials=")
    return [text.replace(*number, 1) if _is_number(text) else text for text in data_root(arguments)]


def _is_number(text: str) -> bool:
    return text.startswith("tune=") and not text.startswith("tune={")
