"""Modules that have moved: importing one by its old name raises an error with the new one.

For scripts that import internals, which have no stable names; what `detzoo` itself exports has.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

# Old name -> new name, both below detzoo
MOVED = {
    "cli.data": "workflow.datasets",
    "cli.devices": "workflow.devices",
    "cli.heatmaps": "workflow.heatmaps",
    "cli.overall": "workflow.total_progress",
    "cli.runs": "workflow.settings",
    "cli.select": "workflow.select",
    "cli.sheets": "workflow.sheets",
    "cli.stages": "workflow.stages",
    "cli.studies": "workflow.studies",
    "cli.timing": "workflow.timing",
    "cli.together": "workflow.parallel",
    "data.pieces": "data.splits",
    "data.proposed": "data.proposal_cache",
    "data.turned": "data.orientation",
    "data.words": "data.parsing",
    "metrics.swaps": "metrics.permutation",
    "report.answer": "report.analysis.verdict",
    "report.beyond": "report.analysis.rows",
    "report.charts": "report.figures.overview",
    "report.closer": "report.images.failures",
    "report.compare": "report.load.protocols",
    "report.contact": "report.images.contact",
    "report.datasets": "report.load.datasets",
    "report.detail_charts": "report.figures.details",
    "report.drawing": "report.images.drawing",
    "report.external": "report.load.external",
    "report.fonts": "report.figures.fonts",
    "report.gather": "report.book",
    "report.latency_chart": "report.figures.latency",
    "report.latex": "report.tables.latex",
    "report.overlay": "report.images.overlay",
    "report.page_rows": "report.page.rows",
    "report.palette": "report.figures.palette",
    "report.pictures": "report.images.side_by_side",
    "report.protocol": "report.page.protocol",
    "report.ratios": "report.analysis.speed_ratios",
    "report.result_images": "report.load.result_images",
    "report.results": "report.load.results",
    "report.runs": "report.load.runs",
    "report.speeds": "report.tables.latency",
    "report.studies": "report.analysis.studies",
    "report.summary": "report.analysis.summary",
    "report.tails": "report.analysis.tails",
    "report.terminal": "report.tables.terminal",
    "report.training": "report.analysis.training",
    "report.versus": "report.analysis.pairwise",
    "workflow.overall": "workflow.total_progress",
    "workflow.scored": "workflow.detections",
}


class MovedFinder(MetaPathFinder):
    """The last finder on `sys.meta_path`: it is called for modules that do not exist."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Raises ModuleNotFoundError with the new name of a module that has moved."""
        package, _, module = name.partition(".")
        if package == "detzoo" and module in MOVED:
            raise ModuleNotFoundError(f"{name} has moved to detzoo.{MOVED[module]}", name=name)
