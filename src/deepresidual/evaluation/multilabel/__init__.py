"""Evaluation of several labels an image: average precision, F1 at thresholds, and how sure they are."""

from deepresidual.evaluation.multilabel.evaluate import LabelScores, evaluate_labels, measure
from deepresidual.evaluation.multilabel.result import LabelMetrics, LabelMistake, MultilabelEvaluation

__all__ = [
    "LabelMetrics",
    "LabelMistake",
    "LabelScores",
    "MultilabelEvaluation",
    "evaluate_labels",
    "measure",
]
