"""Run folders: the plan of a run as a value, the folder's one writer and its one reader.

``plan`` is what a run is; ``folder`` writes; ``read`` reads and checks, without torch.
"""
