"""A Hugging Face model for lm-evaluation-harness that computes logits only where they are compared.

This module imports the harness, which is slow. The harness compares the last tokens of a prompt, often one, but
computes logits for the whole prompt. With an extended vocabulary that is most of the memory: for 8 prompts of 4,096
tokens and 175,000 logits each, 23 GB in float32, more than once.
"""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

_HFLM: Any = HFLM
"""The harness registers the class with a decorator, which hides its type."""


class LastLogitsHFLM(_HFLM):
    """`HFLM` with logits at the ends of prompts only; the log-probabilities are the same."""

    _max_continuation_tokens = 0

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        self._max_continuation_tokens = max((len(request[2]) for request in requests), default=0)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `[batch, kept, vocabulary]`; the harness indexes them from the end, however many there are.

        The harness pads with zeros on the right, so no prompt has more padding than trailing zeros.
        """
        if not self.model._supports_logits_to_keep():
            return super()._model_call(inps, *args, **kwargs)
        padding = int((inps.flip(1) == 0).int().cumprod(1).sum(1).max())
        with torch.no_grad():
            return self.model(inps, logits_to_keep=min(padding + self._max_continuation_tokens, inps.shape[1])).logits
