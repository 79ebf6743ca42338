"""Sections that several pages share, one file each."""
