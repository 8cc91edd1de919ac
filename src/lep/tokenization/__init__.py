"""Build, compare and validate vocabularies."""
