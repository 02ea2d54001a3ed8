"""Generators of the invented small world, and the scripts that make the sample data and train the tiny GPT-2."""
