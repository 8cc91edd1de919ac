"""Darumeru, a benchmark of 17 data sets, as tasks for lm-evaluation-harness.

The task files are in `tasks/`; they name functions of this package. docs/darumeru.md lists the scores, and where the
paper's text and its scripts differ.

Source: Tikhomirov and Chernyshev, "Facilitating large language model Russian adaptation with Learned Embedding
Propagation", arXiv 2412.21140, the section on Darumeru.
"""

from pathlib import Path

TASK_FILES = Path(__file__).parent / "tasks"
"""For `lm_eval --include_path`."""
