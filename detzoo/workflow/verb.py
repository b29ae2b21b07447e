"""The base of all verbs: settings become arguments, results print as tables."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from detzoo.text import escaped

if TYPE_CHECKING:
    import pandas as pd

COMPOSED = ("trainings", "proposal_choices")  # settings that are other settings anew

T = TypeVar("T", bound="Result")


class Settings(dict[str, Any]):
    """The settings of a verb, plain values by name, as `detzoo.settings` composes them."""

    def __init__(self, verb: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.verb = verb

    def __repr__(self) -> str:
        own = {key: value for key, value in self.items() if key not in COMPOSED}
        return f"# detzoo {self.verb}\n{yaml.safe_dump(own, sort_keys=False)}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self.verb, dict(self))


def takes_settings(verb: Callable[..., T]) -> Callable[..., T]:
    """Let a verb's function also take its Settings in place of its first arguments.

    Raises ValueError where every run failed: a script does not read what was printed.
    """

    @functools.wraps(verb)
    def function(*arguments: Any, **options: Any) -> T:
        if arguments and isinstance(settings := arguments[0], Settings):
            if settings.verb != verb.__name__:
                raise ValueError(f"these are settings of {settings.verb}, not of {verb.__name__}")
            result = call(verb, settings, **options)
        else:
            result = verb(*arguments, **options)
        if (failures := result.failures()) and result.frame.empty:
            raise ValueError("\n".join(failures))
        return result

    return function


def call(verb: Callable[..., T], settings: Mapping[str, Any], **arguments: Any) -> T:
    """Call a verb's function with the settings that are named as its parameters.

    data.root, where a run's data set is now, becomes its data_root; a parameter `settings` takes
    all of them. arguments: override the settings.
    """
    function = inspect.unwrap(verb)
    names = inspect.signature(function).parameters
    given = {key: value for key, value in settings.items() if key in names}
    if "data_root" in names:
        given["data_root"] = settings["data"]["root"]
    if "settings" in names:
        given["settings"] = settings
    return function(**{**given, **arguments})


class Result:
    """The result of a verb: `str` is its table as the terminal shows it, `frame` its numbers.

    A subclass is a frozen dataclass with repr=False. failed, where it has several runs: directory
    -> error of those that could not be processed; the others were.
    """

    frame: pd.DataFrame
    failed: Mapping[Path, str]

    def text(self) -> str:
        """The table for a terminal, without the runs that failed."""
        return self.frame.to_string(index=False)

    def failures(self) -> list[str]:
        """One line for each run that failed."""
        failed = getattr(self, "failed", {})
        return [escaped(f"failed: {path}: {error}", lines=True) for path, error in failed.items()]

    @property
    def exit_code(self) -> int:
        """1 where a run failed, else 0."""
        return int(bool(self.failures()))

    def __str__(self) -> str:
        return "\n".join([self.text().rstrip("\n"), *self.failures()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        failures = "".join(f"<p>{html.escape(line)}</p>" for line in self.failures())
        return self.html() + failures

    def html(self) -> str:
        """The table for a notebook, with escaped names."""
        shown = self.frame.map(lambda value: escaped(value) if isinstance(value, str) else value)
        return shown.to_html(index=False, float_format=lambda x: f"{x:.3f}", border=0)
