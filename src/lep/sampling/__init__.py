"""Generate and score answers of a teacher model, for self-distillation and best-of-n sampling."""
