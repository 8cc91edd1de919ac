"""What a folder is, and whether it is healthy."""
