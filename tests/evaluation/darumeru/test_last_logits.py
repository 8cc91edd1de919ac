"""Log-probabilities are those of the harness's own class, from fewer logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from lep.evaluation.darumeru.last_logits import LastLogitsHFLM
from lep.modeling.loading import load_model, load_tokenizer

REQUESTS = [
    (("", ""), [5, 6, 7, 8, 9, 10, 11, 12], [3]),
    (("", ""), [5, 6, 7], [3, 4, 8, 9]),
    (("", ""), [9, 0, 0], [0, 7]),  # zeros that are not padding
    (("", ""), [4], [0, 0]),
    (("", ""), [4], [0, 3]),
]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_log_probabilities_are_the_same(make_random_model: Callable[..., Path], tmp_path: Path, batch: int) -> None:
    folder = make_random_model(tmp_path / "model")
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))

    def score(model_class: Any) -> list[tuple[float, bool]]:
        lm = model_class(pretrained=model, tokenizer=tokenizer, batch_size=batch)
        return lm._loglikelihood_tokens(REQUESTS, disable_tqdm=True)

    expected, all_rows = score(HFLM), list(rows)
    rows.clear()
    scores = score(LastLogitsHFLM)
    torch.testing.assert_close([value for value, _ in scores], [value for value, _ in expected])
    assert [greedy for _, greedy in scores] == [greedy for _, greedy in expected]
    assert len(rows) == len(all_rows)
    assert sum(rows) < sum(all_rows) or batch == 5  # where the longest and the shortest prompt meet
