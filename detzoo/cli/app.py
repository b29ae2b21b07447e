"""A verb as a Hydra app: its configuration, its errors as one message, its exit code."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli.overrides import judge, split
from detzoo.cli.positional import list_setting, split_paths
from detzoo.config import folder
from detzoo.text import escaped
from detzoo.workflow.datasets import with_auto

if TYPE_CHECKING:
    from detzoo.workflow.verb import Result

Task = Callable[[DictConfig], "int | None"]

# What a user can mend: said in one message. Anything else is our mistake and keeps its traceback.
EXPECTED = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)


# Flags with which Hydra shows something, or takes a configuration that is not ours
HELP = {"-h", "--help", "--hydra-help", "--version", "--shell-completion", "-sc"}
OTHER = {"--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd"}


def app(
    verb: str,
    *,
    positional: str | Callable[[Sequence[str]], list[str]] | None = None,
    config_name: Callable[[Sequence[str]], str] | None = None,
    otherwise: Callable[[str], str | None] = lambda key: None,
) -> Callable[[Task], Callable[[Sequence[str]], int]]:
    """Make `task` the Hydra app of conf/`verb`.yaml; gives main(arguments) -> exit code.

    Every override is judged before anything is done: see detzoo.cli.overrides. Under a multirun the
    task is called once per job: see detzoo.cli.sweep. positional: the setting that arguments
    without a name belong to, or what makes settings of the arguments. config_name: of the
    arguments, where the verb has several configurations. otherwise: what to say of a setting that
    is not there.
    """

    def decorate(task: Task) -> Callable[[Sequence[str]], int]:
        def main(arguments: Sequence[str]) -> int:
            codes: list[int] = []
            typed = [f"detzoo {verb}", *arguments]

            def job(config: DictConfig) -> None:
                sys.argv = typed
                if config.get("journal"):
                    sweep.job(config, task, partial(tell, verb))
                else:
                    codes.append(_guarded(verb, task, config))

            experiments()
            # argparse takes no overrides on both sides of a flag, so the flag goes to the front
            multirun = [flag for flag in ("-m", "--multirun") if flag in arguments]
            if "WORLD_SIZE" in os.environ:
                from detzoo.engine.distributed import launched

                if launched() and (multirun or verb != "train"):
                    said = f"detzoo {' '.join([verb, *multirun])}"
                    print(f"{said}: torchrun is for one training: detzoo train", file=sys.stderr)
                    return 1
            if multirun:
                from detzoo.cli import sweep

                sweep.register()
            conf = config_name(arguments) if config_name else verb
            flags, rest = split([text for text in arguments if text not in multirun])
            if not (HELP | OTHER) & {flag.split("=")[0] for flag in flags}:
                try:
                    rest = with_auto(verb, _settings(positional, rest))
                    rest = judge(
                        verb, rest, config=conf, multirun=bool(multirun), otherwise=otherwise
                    )
                except EXPECTED as error:
                    tell(verb, error)
                    return 1
            before, sys.argv = sys.argv, [f"detzoo {verb}", *multirun, *flags, *rest]
            try:
                hydra.main(version_base="1.3", config_path=str(folder("conf")), config_name=conf)(
                    job
                )()
            except SystemExit as end:  # hydra's way to end a help or a bad override
                return end.code if isinstance(end.code, int) else int(end.code is not None)
            except KeyboardInterrupt:
                said = "interrupted; the same command goes on from here"
                print(f"\ndetzoo {verb}: {said}", file=sys.stderr)
                return 130
            finally:
                sys.argv = before
            return max(codes, default=0)

        return main

    return decorate


def _settings(
    positional: str | Callable[[Sequence[str]], list[str]] | None, arguments: Sequence[str]
) -> list[str]:
    """The arguments as settings, whatever has no name among them."""
    if callable(positional):
        return positional(arguments)
    named, rest = split_paths(arguments)
    if positional is None:
        return [*named, *rest]
    return list_setting(positional, named, rest)


def _guarded(verb: str, task: Task, config: DictConfig) -> int:
    try:
        return task(config) or 0
    except BrokenPipeError:  # who reads has seen enough, as in `detzoo check ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python says so once more when it ends
        return 1
    except EXPECTED as error:
        tell(verb, error)
        return 1


def tell(verb: str, error: Exception) -> None:
    """Of an error: its message, and where it is a mistake of ours its traceback."""
    if not isinstance(error, EXPECTED):
        traceback.print_exception(error)
    print(escaped(f"detzoo {verb}: {error}", lines=True), file=sys.stderr)


def show(result: Result) -> int:
    """Print the result of a verb and what failed; returns the exit code."""
    from detzoo.cli.colours import painted

    print(painted(result.text().rstrip("\n")))
    for line in result.failures():
        print(line, file=sys.stderr)
    return result.exit_code


def command() -> str:
    """The command that runs, as a shell would take it."""
    return f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".rstrip()


def experiments() -> None:
    """Offer every experiments/NAME.yaml as experiment=NAME, from a checkout and from a wheel.

    They lie beside conf/, where people look for them, and not in a group's folder inside it.
    """
    for path in sorted(folder("experiments").glob("*.yaml")):
        node: Any = OmegaConf.load(path)
        ConfigStore.instance().store(
            name=path.stem, node=node, group="experiment", package="_global_", provider="detzoo"
        )
