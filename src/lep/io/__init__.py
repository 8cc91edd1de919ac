"""Doors to the world: files in, values out."""
