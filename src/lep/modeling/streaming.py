"""One answer of a model, told while it is made, and how fast it came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from lep.errors import DataError
from lep.modeling.loading import positions


@dataclass(frozen=True)
class Said:
    """An answer, without special tokens."""

    text: str
    tokens: int
    """What the model made, the end included."""
    seconds: float


class _Teller(TextStreamer):
    """Tells pieces of text as they become readable, and counts tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, told: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore[reportArgumentType]
        self.told = told
        self.tokens = -1  # the prompt comes first
        self.text = ""

    def put(self, value: Any) -> None:
        self.tokens += 1
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text += text
        self.told(text)


def speak(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    *,
    longest: int,
    greedy: bool,
    told: Callable[[str], None],
) -> Said:
    """Continue a prompt, by the model's own generation settings.

    An interruption (Ctrl-C) while the model speaks ends the answer, not the program.

    Args:
        prompt: ids.
        longest: tokens at the most; fewer where the model's positions end.
        greedy: always take the likeliest token, whatever the settings say.
        told: called with each piece of the answer.

    Raises:
        DataError: the prompt fills all positions of the model.
    """
    most = positions(model)
    room = longest if most is None else min(longest, most - len(prompt))
    if room < 1:
        raise DataError(f"{len(prompt):,} tokens so far, and the model has {most:,} positions: begin anew")
    teller = _Teller(tokenizer, told)
    ids, begun = torch.tensor([list(prompt)], device=model.device), perf_counter()
    try:
        with torch.inference_mode():
            model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=room,
                streamer=teller,
                **({"do_sample": False} if greedy else {}),
            )
    except KeyboardInterrupt:
        teller.end()
    return Said(teller.text, teller.tokens, perf_counter() - begun)
