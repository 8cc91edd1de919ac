"""Read and write model, tokenizer and artifact files."""
