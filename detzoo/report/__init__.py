"""From run directories, and nothing else, to tables, figures and one page. Imports no torch."""

from __future__ import annotations

from detzoo.report.book import gather
from detzoo.report.build import build, write
from detzoo.report.tables.latency import speed_table
from detzoo.report.tables.leaderboard import table
from detzoo.report.tables.terminal import text_table

__all__ = ["build", "gather", "speed_table", "table", "text_table", "write"]
