"""Show results: the page of a run, tables for page and terminal, and model cards. Nothing here measures."""
