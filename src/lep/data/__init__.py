"""Text and conversations become training samples."""
