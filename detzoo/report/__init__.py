"""From run directories, and nothing else, to tables, figures and one page. Imports no torch."""

from __future__ import annotations

from detzoo.report.build import build
from detzoo.report.tables import speed_table, table, text_table

__all__ = ["build", "speed_table", "table", "text_table"]
