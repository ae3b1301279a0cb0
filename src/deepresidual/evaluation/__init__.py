"""Measuring models on held-out samples, comparing them, and using one on new samples."""

from deepresidual.evaluation.calibration import Bin, Temperature
from deepresidual.evaluation.comparison import Comparison, compare
from deepresidual.evaluation.ensemble import EnsembleEvaluation, evaluate_ensemble
from deepresidual.evaluation.evaluation import EvaluationStopped, evaluate, evaluate_split
from deepresidual.evaluation.figures import ClassFigures, CorrectPrediction, Evaluation, Mistake
from deepresidual.evaluation.predict import FilePrediction, FoundImages, find_images, predict_files
from deepresidual.evaluation.robustness import (
    Corruption,
    RobustnessRow,
    evaluate_robustness,
    parse_corruptions,
)
from deepresidual.evaluation.views import Views

__all__ = [
    "Bin",
    "ClassFigures",
    "Comparison",
    "CorrectPrediction",
    "Corruption",
    "EnsembleEvaluation",
    "Evaluation",
    "EvaluationStopped",
    "FilePrediction",
    "FoundImages",
    "Mistake",
    "RobustnessRow",
    "Temperature",
    "Views",
    "compare",
    "evaluate",
    "evaluate_ensemble",
    "evaluate_robustness",
    "evaluate_split",
    "find_images",
    "parse_corruptions",
    "predict_files",
]
