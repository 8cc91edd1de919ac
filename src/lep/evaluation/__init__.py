"""Measure quality, speed and memory of models, and the side effects of an adaptation."""
