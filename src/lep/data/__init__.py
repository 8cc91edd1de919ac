"""Read, clean and check text and conversations, and turn them into training samples."""
