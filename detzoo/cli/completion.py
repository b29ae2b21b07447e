"""Shell completion, which is Hydra's: eval "$(detzoo --shell-completion install=bash)"."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

from detzoo.cli import VERBS


def main(arguments: Sequence[str]) -> int:
    """What Hydra prints for `install=SHELL`, `uninstall=SHELL` and, at every TAB, `query=SHELL`.

    Hydra knows only programs with one configuration, so the verb is removed from the line and its
    app completes the rest.
    """
    verb = "train"
    if any(text.startswith("query=") for text in arguments):
        line = os.environ.get("COMP_LINE", "").split(" ", 2)
        if len(line) < 3:  # the verb itself
            print(" ".join(VERBS))
            return 0
        program, verb, rest = line
        if verb not in VERBS:
            return 0
        point = int(os.environ.get("COMP_POINT", 0)) - len(verb) - 1
        os.environ |= {"COMP_LINE": f"{program} {rest}", "COMP_POINT": str(point)}
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = import_module(f"detzoo.cli.{verb}").main(["--shell-completion", *arguments])
    text = printed.getvalue().replace(f"detzoo {verb}", "detzoo")
    # Hydra's script takes the program's path for several words where a folder has a space
    print(text.replace("($(command -v $helper))", '("$(command -v $helper)")'), end="")
    return code
