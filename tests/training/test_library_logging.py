"""The libraries' progress bars and warnings are off, and their errors are not."""

from __future__ import annotations

import os
import warnings

import pytest
from transformers.utils import logging

from lep.training.library_logging import silence_libraries


def test_bars_and_warnings_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            silence_libraries()
            warnings.warn("old name", FutureWarning, stacklevel=1)
            warnings.warn("a problem", UserWarning, stacklevel=1)
        assert [str(warning.message) for warning in shown] == ["a problem"]
        assert not logging.is_progress_bar_enabled() and logging.get_verbosity() == logging.ERROR
        assert os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] == os.environ["TQDM_DISABLE"] == "1"
    finally:
        logging.set_verbosity(verbosity)
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
