"""Mathematics: tensors in, tensors and diagnostics out. No files, no tokenizer objects, no models."""
