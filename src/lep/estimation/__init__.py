"""Estimates of the time, memory and disk space of a recipe, from shapes and sizes alone."""
