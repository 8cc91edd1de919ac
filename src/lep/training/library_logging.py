"""Silence the progress bars and warnings of the libraries; lep shows its own."""

from __future__ import annotations

import os
import warnings

from transformers.utils import logging


def silence_libraries() -> None:
    """Turn off progress bars and warnings of the libraries from now on; their errors still show."""
    warnings.simplefilter("ignore", FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # trl's
