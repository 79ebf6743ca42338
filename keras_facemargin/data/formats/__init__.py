"""Bytes only: what a container of images looks like on disk, without labels or pixels."""
