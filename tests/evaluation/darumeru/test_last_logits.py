"""Logits at the ends of prompts are those that the harness's own class finds among all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from lep.evaluation.darumeru.last_logits import LastLogits
from lep.modeling.loading import load_model, load_tokenizer

REQUESTS = [
    (("", ""), [5, 6, 7, 8, 9, 10, 11, 12], [3]),
    (("", ""), [5, 6, 7], [3, 4, 8, 9]),
    (("", ""), [9, 0, 0], [0, 7]),  # zeros that are no padding
    (("", ""), [4], [0, 0]),
    (("", ""), [4], [0, 3]),
]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_they_are_the_same_numbers(make_speaker: Callable[..., Path], tmp_path: Path, batch: int) -> None:
    folder = make_speaker(tmp_path / "speaker")
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda module, given, out: rows.append(out.shape[1]))

    def asked(kind: Any) -> list[tuple[float, bool]]:
        return kind(pretrained=model, tokenizer=tokenizer, batch_size=batch)._loglikelihood_tokens(
            REQUESTS, disable_tqdm=True
        )

    theirs, all_rows = asked(HFLM), list(rows)
    rows.clear()
    ours = asked(LastLogits)
    torch.testing.assert_close([value for value, _ in ours], [value for value, _ in theirs])
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert len(rows) == len(all_rows)
    assert sum(rows) < sum(all_rows) or batch == 5  # where the longest and the shortest prompt meet
