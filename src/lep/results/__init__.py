"""The typed result of each stage: written by stages, read by the command line, the page and the model card."""
