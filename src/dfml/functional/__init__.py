"""Equations alone: tensors and parameter dictionaries in, tensors out."""
