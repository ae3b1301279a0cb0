"""Measuring a model on held-out samples, and using it on new ones."""

from residual.evaluation.evaluation import Evaluation, EvaluationStopped, Mistake, evaluate, evaluate_split
from residual.evaluation.predict import FilePrediction, find_images, predict_files

__all__ = [
    "Evaluation",
    "EvaluationStopped",
    "FilePrediction",
    "Mistake",
    "evaluate",
    "evaluate_split",
    "find_images",
    "predict_files",
]
