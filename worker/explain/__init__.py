"""From the bytes of a radiograph to its prediction, heatmap and overlay."""
