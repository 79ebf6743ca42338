"""Confidence intervals by resampling identities, and error rates by group."""
