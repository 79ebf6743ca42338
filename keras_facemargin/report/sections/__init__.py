"""Sections that several pages share: curves, thresholds, rules, groups, searches, hardest pairs."""
