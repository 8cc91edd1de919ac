"""Heavy machinery, thin over tokenizers, transformers, accelerate and trl."""
