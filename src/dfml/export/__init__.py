"""A predictor for others, as one file that needs no dfml."""

from dfml.export.writing import Export, export

__all__ = ["Export", "export"]
