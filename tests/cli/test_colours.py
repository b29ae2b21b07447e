"""Colours on a terminal, none in a pipe or where NO_COLOR is set."""

from __future__ import annotations

import io
import re

import pytest

from detzoo.cli.colours import paint

TEXT = "rank detector AP\n1    ssd      0.4\n2    yolo     0.3\n\nnote: a: b\nleft out: c\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_has_colours_that_change_no_letter():
    found = paint(TEXT, Terminal())
    assert re.sub(r"\x1b\[\d*m", "", found) == TEXT
    coloured = [text for text in found.split("\n") if "\x1b" in text]
    assert len(coloured) == 4 and all(text.endswith("\x1b[0m") for text in coloured)


@pytest.mark.parametrize(
    ("variable", "value", "plain"),
    [("NO_COLOR", "1", True), ("NO_COLOR", "", False), ("TERM", "dumb", True)],
)
def test_who_wants_none_gets_none(monkeypatch, variable, value, plain):
    monkeypatch.setenv(variable, value)
    assert (paint(TEXT, Terminal()) == TEXT) is plain


def test_a_pipe_has_none():
    assert paint(TEXT, io.StringIO()) == TEXT
