"""Data sets with boxes: COCO, Pascal VOC, YOLO, and scenes of digits that are made here.

:mod:`.find` tells by looking which of them a folder is, without loading what reads it.
"""
