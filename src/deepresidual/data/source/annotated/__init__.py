"""Data sets with boxes: COCO, Pascal VOC, YOLO, and scenes of digits that are made here."""

from deepresidual.data.source.annotated.split import DETECTION, AnnotatedSplit, Annotation, objects_of

__all__ = ["DETECTION", "AnnotatedSplit", "Annotation", "objects_of"]
