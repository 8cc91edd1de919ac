"""Darumeru, the benchmark of 17 data sets, as tasks for lm-evaluation-harness.

The task files are in `tasks/`; each names functions of this package. Nothing here imports the harness but `task`, which
only the harness loads. What each score is, and where the paper's text and its scripts differ: docs/darumeru.md.

Source: Tikhomirov and Chernyshev, "Facilitating large language model Russian adaptation with Learned Embedding
Propagation", arXiv 2412.21140, the section on Darumeru.
"""

from pathlib import Path

TASK_FILES = Path(__file__).parent / "tasks"
"""For the harness's `--include_path`."""
