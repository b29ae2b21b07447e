"""Hydra's completion under a program with verbs, in bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detzoo.cli import main


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("detzoo ev", {"evaluate", "train"}),
        ("detzoo train detector=retina", {"detector=retinanet"}),
        ("detzoo train resize.si", {"resize.size="}),
    ],
)
def test_a_line_is_completed(line, expected, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert main(["-sc", "query=bash"]) == 0
    assert expected <= set(capsys.readouterr().out.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_documented_line_works_in_bash(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with a space"
    folder.mkdir()
    program = folder / "detzoo"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m detzoo "$@"\n')
    program.chmod(0o755)
    line = "detzoo train detector=retina"
    script = f"""
        eval "$(detzoo --shell-completion install=bash)"
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=2
        complete -p detzoo
        hydra_bash_completion
        echo "${{COMPREPLY[@]}}"
    """
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"PATH": path}
    )
    assert "-F hydra_bash_completion detzoo" in done.stdout, done.stderr
    assert done.stdout.split()[-1] == "detector=retinanet", done.stdout + done.stderr
