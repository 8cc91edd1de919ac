"""Loaded models: what is trainable, likelihood, generation, saving."""
