"""Throughput, memory, context length and characters per token of models."""
