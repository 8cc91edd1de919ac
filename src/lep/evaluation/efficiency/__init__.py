"""Speed, memory and compression of models."""
