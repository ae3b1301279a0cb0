"""Pages about runs, made from the files of their folders alone: one a run, and one that compares several."""

from deepresidual.reporting.report import write_report
from deepresidual.reporting.side_by_side import write_side_by_side

__all__ = ["write_report", "write_side_by_side"]
