"""Readers of published files: tensors and graphs as NumPy arrays, and nothing is executed."""
