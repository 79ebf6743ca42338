"""Bytes only: how a container of images is stored on disk, without labels or pixels."""
