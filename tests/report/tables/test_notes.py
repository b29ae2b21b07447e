"""Which rows a note is about."""

from __future__ import annotations

from detzoo.report.tables.notes import group_notes


def test_a_note_names_each_of_its_rows_once() -> None:
    """Another program's results join every table of a page, and are one row to a reader."""
    given = [("ssd", ["slow"]), ("theirs", ["joined"]), ("yolo", ["slow"]), ("theirs", ["joined"])]
    assert group_notes(given) == {"slow": "ssd, yolo", "joined": "theirs"}


def test_a_note_of_all_rows_says_so_from_three_on() -> None:
    assert group_notes([(name, ["slow"]) for name in "abc"]) == {"slow": "all rows"}
    assert group_notes([(name, ["slow"]) for name in "ab"]) == {"slow": "a, b"}
