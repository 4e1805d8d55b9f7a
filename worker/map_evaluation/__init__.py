"""Whether maps can be believed: faithfulness, localisation, weight randomisation, occlusion."""
