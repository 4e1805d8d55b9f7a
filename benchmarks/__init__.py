"""Measurements, each a ratio within one run; none of them is a test."""

SKIPPED = 77  # exit status of one that cannot be run here, and says why
