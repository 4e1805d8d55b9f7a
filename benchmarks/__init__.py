"""Measurements, each a ratio within one run; none of them is a test."""
