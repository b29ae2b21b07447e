"""One command, `detzoo`, with one thin Hydra app per verb."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from detzoo import __version__
from detzoo.text import Escaping, escaped

VERBS = {
    "list": "detectors, peers and backbones: published weights, cost, licences",
    "check": "is this data set sane? what is wrong with it, and what training will do about it",
    "propose": "regions for R-CNN and Fast R-CNN, and how many objects they cover",
    "train": "train one detector, or several by a Hydra multirun",
    "tune": "the same search for every detector's settings, then the winners with their seeds",
    "watch": "progress and curves of runs in the terminal, while they are trained",
    "evaluate": "score trained runs on the test split",
    "speed": "time runs against one another, from encoded bytes to boxes",
    "report": "make the page and the tables of a set of runs",
    "compare": "two detectors on the same images: the difference, how sure it is, its causes",
    "pool": "the folds of a small data set as one run",
    "bench": "check, train, evaluate, speed and report in a row",
    "oracle": "score runs with parts of what they predict replaced by the truth",
    "explain": "maps of the pixels that detections depend on, and how faithful the maps are",
    "export": "a trained run's network as ONNX or for OpenVINO, checked against torch",
    "predict": "find objects in images of yours: JSON and drawn pictures",
}


# Verbs that several processes may run at once
SHARED = ("train", "evaluate", "oracle", "export", "predict")
WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
FORMAT_WARNING = warnings.formatwarning  # Python's own


def usage() -> str:
    verbs = "\n".join(f"  {verb:10}{what}" for verb, what in VERBS.items())
    return (
        "detzoo - object detectors that read like their papers, compared by one protocol\n\n"
        f"usage: detzoo VERB [setting=value ...]\n\n{verbs}\n\n"
        "detzoo VERB --help shows more. Settings are Hydra overrides: detzoo train seed=1\n"
        'Completion, in ~/.bashrc: eval "$(detzoo --shell-completion install=bash)"\n'
    )


def main(arguments: list[str] | None = None) -> int:
    """Run `detzoo VERB ...`; gives the exit code: 0 success, 1 failure, 2 unknown verb.

    Output is plain text: names may come from people and files, so control characters are escaped,
    and so are characters that a pipe or a terminal cannot hold. (On stderr the bars of the progress
    move the cursor; there, messages are escaped one by one.)
    """
    warnings.formatwarning = format_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with redirect_stdout(Escaping(sys.stdout)):
        return _main(arguments)


def format_warning(message: Warning | str, category: type, file: str, *where: Any) -> str:
    """A warning of our own as a sentence, without the line of source that Python shows with it."""
    if Path(file).is_relative_to(Path(__file__).parents[1]):
        return f"warning: {escaped(str(message))}\n"
    return FORMAT_WARNING(message, category, file, *where)


def _main(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if verb == "--version":
        print(f"detzoo {__version__}")
        return 0
    if verb in ("-sc", "--shell-completion"):
        return import_module("detzoo.cli.completion").main(rest)
    if verb not in VERBS:
        near = get_close_matches(verb.lower(), VERBS, 1, 0.5)
        meant = f". Did you mean detzoo {near[0]}?" if near else ""
        known = ", ".join(VERBS)
        print(f"detzoo: no verb {verb!r}; choose one of {known}{meant}", file=sys.stderr)
        return 2
    if verb in SHARED:
        set_wait_policy()
    return import_module(f"detzoo.cli.{verb}").main(rest)


def set_wait_policy() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has set a policy.

    By default they spin, so that two processes of two threads on two cores take one another's time
    slices: measured with 12 convolutions among other work, 0.12 steps a second, and 22 asleep.
    Read when torch is loaded, so it must be set before. Not where latencies are measured: to wake
    a thread takes tens of microseconds.
    """
    if not any(name in os.environ for name in WAITS):
        os.environ["OMP_WAIT_POLICY"] = "passive"
