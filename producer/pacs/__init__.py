"""Hospitals' archives: images fetched from them and received, results sent back."""
