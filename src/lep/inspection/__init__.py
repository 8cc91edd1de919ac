"""Inspection of model, tokenizer and artifact folders."""
