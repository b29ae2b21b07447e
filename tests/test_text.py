"""Names as they are shown."""

from __future__ import annotations

import pytest

from detzoo.text import escaped, interval_text, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("a b", "a b"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\x00", r"a\nb\tc\x00"),
        ("a\x7f\x9b", r"a\x7f\x9b"),
        ("a\u202egpj", r"a\u202egpj"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("\ufeffcat", r"\ufeffcat"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\ud800", r"\ud800"),
        ("\udcff", r"\udcff"),
        (r"C:\new", r"C:\new"),
        ("Käfer 猫 قط می\u200cخواهم 👩\u200d🚀", "Käfer 猫 قط می\u200cخواهم 👩\u200d🚀"),
        (3, "3"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: object, shown: str) -> None:
    assert escaped(text) == shown


def test_lines_stay_where_that_is_asked_for() -> None:
    assert escaped("a\nb\r\x1b", lines=True) == "a\nb\\r\\x1b"
    assert shortened("a\nbcdef", 5) == "a\\nb…"


@pytest.mark.parametrize(
    ("low", "high", "form", "text"),
    [
        (0.1234, 0.5, ".3f", "[0.123, 0.500]"),
        (-0.0001, 0.0001, ".2f", "[0.00, 0.00]"),
        (-0.0001, 0.002, "+.3f", "[+0.000, +0.002]"),
        (-0.006, -0.0049, ".2f", "[-0.01, 0.00]"),
    ],
)
def test_a_zero_of_an_interval_has_no_minus_sign(low, high, form, text) -> None:
    assert interval_text(low, high, form) == text
