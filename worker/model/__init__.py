"""A model is data: a folder of weights and a JSON description, rebuilt by our own code."""
