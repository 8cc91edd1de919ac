"""The libraries' bars and chatter, silenced: ours stand in their place."""

from __future__ import annotations

import os
import warnings

from transformers.utils import logging


def silence_libraries() -> None:
    """No bars and no warnings from now on; errors still come through."""
    warnings.simplefilter("ignore", FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # trl's
