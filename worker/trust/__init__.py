"""Measuring whether heatmaps can be believed: faithfulness, localisation, sanity, repeatability."""
