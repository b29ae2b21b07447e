"""A verb as a Hydra app: its configuration, its errors as one message, its exit code."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli.data import with_auto
from detzoo.config import folder
from detzoo.text import escaped

# Settings of what has a constructor
CONSTRUCTED = re.compile(r"(detector|backbone|proposals|data|resize|augment|recipe)\.[\w.]+=")

Task = Callable[[DictConfig], "int | None"]

# What a user can mend: said in one message. Anything else is our mistake and keeps its traceback.
EXPECTED = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)


def app(verb: str) -> Callable[[Task], Callable[[Sequence[str]], int]]:
    """Make `task` the Hydra app of conf/`verb`.yaml; gives main(arguments) -> exit code.

    Under a multirun the task is called once per job: see detzoo.cli.sweep.
    """

    def decorate(task: Task) -> Callable[[Sequence[str]], int]:
        def main(arguments: Sequence[str]) -> int:
            codes: list[int] = []
            arguments = with_auto(verb, arguments)

            def job(config: DictConfig) -> None:
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
            rest = [_open(argument) for argument in arguments if argument not in multirun]
            before, sys.argv = sys.argv, [f"detzoo {verb}", *multirun, *rest]
            try:
                hydra.main(version_base="1.3", config_path=str(folder("conf")), config_name=verb)(
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


def _open(argument: str) -> str:
    """detector.gamma=0 as ++detector.gamma=0, Hydra's "set it, whether it is there or not".

    A default lives in the constructor's signature alone, so that the configuration does not list
    every parameter; and a name that the constructor does not know is refused when it is built.
    """
    return f"++{argument}" if CONSTRUCTED.match(argument) else argument


def _guarded(verb: str, task: Task, config: DictConfig) -> int:
    try:
        return task(config) or 0
    except EXPECTED as error:
        tell(verb, error)
        return 1


def tell(verb: str, error: Exception) -> None:
    """Of an error: its message, and where it is a mistake of ours its traceback."""
    if not isinstance(error, EXPECTED):
        traceback.print_exception(error)
    print(escaped(f"detzoo {verb}: {error}", lines=True), file=sys.stderr)


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
