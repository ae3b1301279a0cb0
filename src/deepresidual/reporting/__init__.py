"""Pages about runs, made from the files of their folders alone: one a run, and one that compares several."""

from deepresidual.reporting.comparison import write_comparison
from deepresidual.reporting.report import write_report

__all__ = ["write_comparison", "write_report"]
