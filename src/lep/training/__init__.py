"""Continued pre-training and fine-tuning on top of the transformers and trl trainers."""
