"""The stages of the pipeline, one a file: `run(settings, out)` reads, computes, writes, and returns its result."""
