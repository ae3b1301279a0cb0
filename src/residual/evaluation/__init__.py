"""Measuring models on held-out samples, comparing them, and using one on new samples."""

from residual.evaluation.calibration import Bin, Temperature
from residual.evaluation.comparison import Comparison, compare
from residual.evaluation.ensemble import EnsembleEvaluation, evaluate_ensemble
from residual.evaluation.evaluation import EvaluationStopped, evaluate, evaluate_split
from residual.evaluation.figures import ClassFigures, Evaluation, Hit, Mistake
from residual.evaluation.predict import FilePrediction, FoundImages, find_images, predict_files
from residual.evaluation.robustness import Corruption, RobustnessRow, evaluate_robustness, parse_corruptions
from residual.evaluation.views import Views

__all__ = [
    "Bin",
    "ClassFigures",
    "Comparison",
    "Corruption",
    "EnsembleEvaluation",
    "Evaluation",
    "EvaluationStopped",
    "FilePrediction",
    "FoundImages",
    "Hit",
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
