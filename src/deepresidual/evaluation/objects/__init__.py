"""Evaluation of detectors: what was found held against what is annotated, as COCO and Pascal VOC do."""

from deepresidual.evaluation.objects.comparison import DetectorComparison
from deepresidual.evaluation.objects.detect import evaluate_detections
from deepresidual.evaluation.objects.measure import measure
from deepresidual.evaluation.objects.mistakes import DetectionMistake
from deepresidual.evaluation.objects.result import ClassFigures, DetectionEvaluation, ErrorCount
from deepresidual.evaluation.objects.results import compare_results, evaluate_results
from deepresidual.evaluation.objects.rules import Rules
from deepresidual.evaluation.objects.setup import DetectionSetup, compare_detectors

__all__ = [
    "ClassFigures",
    "DetectionEvaluation",
    "DetectionMistake",
    "DetectionSetup",
    "DetectorComparison",
    "ErrorCount",
    "Rules",
    "compare_detectors",
    "compare_results",
    "evaluate_detections",
    "evaluate_results",
    "measure",
]
