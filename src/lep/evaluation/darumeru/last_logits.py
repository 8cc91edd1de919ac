"""The harness's model in memory, which asks the head only for what is compared. Heavy: it imports the harness.

The harness compares the last tokens of a prompt, often one, and has the head compute logits for the whole prompt. With
a vocabulary made larger that is most of the memory: of 8 prompts of 4,096 tokens and 175,000 logits each, 23 GB in
float32, more than once.
"""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

_Harness: Any = HFLM
"""The harness registers it by a decorator, which hides its type."""


class LastLogits(_Harness):
    """The harness's class, with logits at the ends of prompts alone; they are the same numbers."""

    _continuation = 0

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        self._continuation = max((len(request[2]) for request in requests), default=0)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits `[batch, kept, vocabulary]`. The harness finds its place from the end, whatever is kept.

        It pads with zeros at the right: no prompt has more of padding than it ends in zeros.
        """
        if not self.model._supports_logits_to_keep():
            return super()._model_call(inps, *args, **kwargs)
        padding = int((inps.flip(1) == 0).int().cumprod(1).sum(1).max())
        with torch.no_grad():
            return self.model(inps, logits_to_keep=min(padding + self._continuation, inps.shape[1])).logits
