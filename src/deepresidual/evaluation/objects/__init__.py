"""Evaluation of detectors: what was found held against what is annotated, as COCO and Pascal VOC do."""

from deepresidual.evaluation.objects.detect import evaluate_detections
from deepresidual.evaluation.objects.measure import measure
from deepresidual.evaluation.objects.result import ClassFigures, DetectionEvaluation
from deepresidual.evaluation.objects.rules import Rules

__all__ = ["ClassFigures", "DetectionEvaluation", "Rules", "evaluate_detections", "measure"]
