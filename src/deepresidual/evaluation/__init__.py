"""Measuring models on held-out samples, and comparing them."""

from deepresidual.evaluation.calibration import Bin, Temperature
from deepresidual.evaluation.comparison import PairedComparison, compare
from deepresidual.evaluation.ensemble import EnsembleEvaluation
from deepresidual.evaluation.evaluate import evaluate, evaluate_split
from deepresidual.evaluation.options import EvaluationOptions
from deepresidual.evaluation.result import ClassMetrics, CorrectPrediction, Evaluation, Mistake
from deepresidual.evaluation.robustness import (
    Corruption,
    RobustnessEvaluation,
    RobustnessRow,
    parse_corruptions,
)
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.evaluation.views import Views

__all__ = [
    "Bin",
    "ClassMetrics",
    "CorrectPrediction",
    "Corruption",
    "EnsembleEvaluation",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationSetup",
    "Mistake",
    "PairedComparison",
    "RobustnessEvaluation",
    "RobustnessRow",
    "Temperature",
    "Views",
    "compare",
    "evaluate",
    "evaluate_split",
    "parse_corruptions",
]
