"""Write data sets with boxes in the layouts of COCO, Pascal VOC and YOLO.

:mod:`.conversion` goes through the images of a data set twice: once to say what the format cannot hold, and
once to write. There is one file a format.
"""
