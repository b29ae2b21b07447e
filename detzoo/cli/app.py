"""A verb as a Hydra app: its configuration, its errors as one message, its exit code."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli.overrides import check_overrides, split
from detzoo.cli.positional import list_setting, split_paths
from detzoo.cli.start import add_published_settings, expand_start
from detzoo.config import folder
from detzoo.text import escaped
from detzoo.workflow.datasets import with_auto

if TYPE_CHECKING:
    from detzoo.workflow.verb import Result

Task = Callable[[DictConfig], "int | None"]
Positional = str | Callable[[Sequence[str]], list[str]] | None

# Errors that a user can fix are printed as one message; any other is a bug and keeps its traceback
EXPECTED = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)


# Flags with which Hydra prints something, or uses the user's own configuration
HELP = {"--hydra-help", "--version", "--shell-completion", "-sc"}
ONE_TRAINING = ("train", "as_published")  # configurations of one detector and one start
OTHER = {"--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd"}


@dataclass(frozen=True)
class App:
    """The Hydra app of conf/VERB.yaml: called with arguments, it returns an exit code.

    Every override is checked first: see detzoo.cli.overrides. Under a multirun the task is called
    once per job: see detzoo.cli.sweep. positional: the setting of arguments without a name, or a
    function that turns all arguments into settings. config_name: the configuration for given
    arguments, if the verb has several. explain_missing: a special reason why a setting does not
    exist, if any.
    """

    verb: str
    task: Task
    positional: Positional = None
    config_name: Callable[[Sequence[str]], str] | None = None
    explain_missing: Callable[[str], str | None] = lambda key: None

    def config_of(self, arguments: Sequence[str]) -> str:
        """Which file in conf/ the arguments are settings of."""
        return self.config_name(arguments) if self.config_name else self.verb

    def check_arguments(self, arguments: Sequence[str], multirun: bool = False) -> list[str]:
        """The arguments, positional ones among them, as overrides for Hydra. Raises ValueError."""
        config = self.config_of(arguments)
        overrides = check_overrides(
            self.verb,
            expand_start(with_auto(config, _settings(self.positional, arguments))),
            config=config,
            multirun=multirun,
            explain_missing=self.explain_missing,
        )
        asked = any("start" in text or "experiment=" in text for text in overrides)
        if asked and config in ONE_TRAINING and not multirun:
            return add_start_settings(config, overrides)
        return overrides

    def __call__(self, arguments: Sequence[str]) -> int:
        register_experiments()
        # argparse takes no overrides on both sides of a flag, so the flag goes to the front
        multirun = [flag for flag in ("-m", "--multirun") if flag in arguments]
        if "WORLD_SIZE" in os.environ and not self._may_be_launched(multirun):
            return 1
        if multirun:
            from detzoo.cli import sweep

            sweep.register()
        flags, rest = split([text for text in arguments if text not in multirun])
        if not (HELP | OTHER) & {flag.split("=")[0] for flag in flags}:
            try:
                rest = self.check_arguments(rest, bool(multirun))
            except EXPECTED as error:
                print_error(self.verb, error)
                return 1
        if not {"-h", "--help"} & set(flags):
            return self._run(arguments, [*multirun, *flags, *rest])
        with _uncopied_store():
            code = self._run(arguments, [*multirun, *flags, *rest])
        return code or self._print_parameters(self.config_of(arguments), rest)

    def _print_parameters(self, config: str, overrides: Sequence[str]) -> int:
        """Print the parameters of what the overrides choose, behind Hydra's help."""
        from detzoo.cli.parameters import help_text
        from detzoo.cli.schema import schema_of

        try:
            groups = schema_of(config).groups
            chosen = [text for text in overrides if text.split("=")[0].lstrip("+") in groups]
            print(help_text(config, chosen), end="")
        except EXPECTED as error:
            print_error(self.verb, error)
            return 1
        return 0

    def _may_be_launched(self, multirun: Sequence[str]) -> bool:
        """Whether torchrun may run this; if not, that is printed."""
        from detzoo.engine.distributed import launched

        if not launched() or (self.verb == "train" and not multirun):
            return True
        command = " ".join(["detzoo", self.verb, *multirun])
        print(f"{command}: torchrun is for one training: detzoo train", file=sys.stderr)
        return False

    def _run(self, arguments: Sequence[str], overrides: Sequence[str]) -> int:
        """Let Hydra compose the overrides and run the task. arguments: as the user typed them."""
        codes: list[int] = []
        typed = [f"detzoo {self.verb}", *arguments]

        def job(config: DictConfig) -> None:
            sys.argv = typed
            if config.get("journal"):
                from detzoo.cli import sweep

                sweep.run_job(config, self.task, partial(print_error, self.verb))
            else:
                codes.append(_run_task(self.verb, self.task, config))

        before, sys.argv = sys.argv, [f"detzoo {self.verb}", *overrides]
        conf = {"config_path": str(folder("conf")), "config_name": self.config_of(arguments)}
        try:
            hydra.main(version_base="1.3", **conf)(job)()
        except SystemExit as end:  # hydra's way to end a help or a bad override
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            goes_on = "interrupted; the same command continues from here"
            print(f"\ndetzoo {self.verb}: {goes_on}", file=sys.stderr)
            return 130
        finally:
            sys.argv = before
        return max(codes, default=0)


def app(
    verb: str,
    *,
    positional: Positional = None,
    config_name: Callable[[Sequence[str]], str] | None = None,
    explain_missing: Callable[[str], str | None] = lambda key: None,
) -> Callable[[Task], App]:
    """A decorator that makes a task the App of a verb; parameters are App's."""
    return lambda task: App(verb, task, positional, config_name, explain_missing)


def add_start_settings(conf: str, overrides: Sequence[str]) -> list[str]:
    """The overrides, preceded by the settings that their starting weights require."""
    from detzoo.cli.schema import schema_of

    schema = schema_of(conf, *overrides)
    return add_published_settings(
        str(schema.groups["detector"]), schema.tree["start"]["source"], overrides
    )


def _settings(positional: Positional, arguments: Sequence[str]) -> list[str]:
    """The arguments as settings, with names for the positional ones."""
    if callable(positional):
        return positional(arguments)
    named, rest = split_paths(arguments)
    if positional is None:
        return [*named, *rest]
    return list_setting(positional, named, rest)


def _run_task(verb: str, task: Task, config: DictConfig) -> int:
    try:
        return task(config) or 0
    except BrokenPipeError:  # the reader has closed the pipe, as in `detzoo check ... | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # or Python reports the broken pipe again at exit
        return 1
    except EXPECTED as error:
        print_error(verb, error)
        return 1


def print_error(verb: str, error: Exception) -> None:
    """Print an error's message, and for a bug its traceback."""
    if not isinstance(error, EXPECTED):
        traceback.print_exception(error)
    print(escaped(f"detzoo {verb}: {error}", lines=True), file=sys.stderr)


def show(result: Result) -> int:
    """Print the result of a verb and what failed; returns the exit code."""
    from detzoo.cli.colours import paint

    print(paint(result.text().rstrip("\n")))
    for line in result.failures():
        print(line, file=sys.stderr)
    return result.exit_code


def command() -> str:
    """The command line of this process, quoted for a shell."""
    return f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".rstrip()


@contextmanager
def _uncopied_store() -> Iterator[None]:
    """A context in which copies of Hydra's store are the store itself.

    For the list of choices in --help Hydra copies all that is stored a hundred times, only to read
    it; without that --help takes a third of the time.
    """
    store = ConfigStore.instance()
    store.__deepcopy__ = lambda memo: store  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del store.__deepcopy__  # type: ignore[attr-defined]


def register_experiments() -> None:
    """Offer every experiments/NAME.yaml as experiment=NAME, from a checkout and from a wheel.

    They are beside conf/, where people look for them, and not in a group's folder inside it.
    """
    for path in sorted(folder("experiments").glob("*.yaml")):
        node: Any = OmegaConf.load(path)
        ConfigStore.instance().store(
            name=path.stem, node=node, group="experiment", package="_global_", provider="detzoo"
        )
