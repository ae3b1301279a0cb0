"""Write a trained model as a file that other engines run; every file of this room writes, none runs alone."""

from deepresidual.exporting.export import Export, export

__all__ = ["Export", "export"]
