"""Teacher answers and their scores, for self-distillation."""
