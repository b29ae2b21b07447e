"""From run directories, and nothing else, to tables, figures and one page. Imports no torch."""

from __future__ import annotations

from detzoo.report.build import build
from detzoo.report.tables import table, text_table

__all__ = ["build", "table", "text_table"]
