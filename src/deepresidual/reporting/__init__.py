"""Pages: of a run, from its folder alone, of any evaluation, and of two models or several runs in one."""

from deepresidual.reporting.evaluation_page import Measurement, write_evaluation
from deepresidual.reporting.report import write_report
from deepresidual.reporting.side_by_side import write_side_by_side

__all__ = ["Measurement", "write_evaluation", "write_report", "write_side_by_side"]
