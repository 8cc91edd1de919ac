"""Stream one reply of a model while it is generated, and measure its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from lep.errors import DataError
from lep.modeling.loading import get_max_position_embeddings


@dataclass(frozen=True)
class Reply:
    """A reply, without special tokens."""

    text: str
    tokens: int
    """Generated tokens, the end-of-sequence token included."""
    seconds: float


class _CallbackStreamer(TextStreamer):
    """Passes on pieces of text as soon as they are readable, and counts tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore[reportArgumentType]
        self.on_text = on_text
        self.tokens = -1  # the prompt comes first
        self.text = ""

    def put(self, value: Any) -> None:
        """Override `TextStreamer.put`."""
        self.tokens += 1
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Override `TextStreamer.on_finalized_text`."""
        self.text += text
        self.on_text(text)


def stream_reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    greedy: bool,
    on_text: Callable[[str], None],
) -> Reply:
    """Continue a prompt with the model's own generation settings.

    An interruption (Ctrl-C) during generation ends the reply, not the program.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        prompt_ids: The prompt as token ids.
        max_new_tokens: Tokens of the reply at the most; fewer if the model's positions end before.
        greedy: Decode greedily, whatever the generation settings say.
        on_text: Called with each piece of the reply.

    Returns:
        The reply.

    Raises:
        DataError: The prompt fills all positions of the model.
    """
    positions = get_max_position_embeddings(model)
    limit = max_new_tokens if positions is None else min(max_new_tokens, positions - len(prompt_ids))
    if limit < 1:
        raise DataError(
            f"the conversation has {len(prompt_ids):,} tokens, and the model {positions:,} positions; start a new one"
        )
    streamer = _CallbackStreamer(tokenizer, on_text)
    ids, started = torch.tensor([list(prompt_ids)], device=model.device), perf_counter()
    try:
        with torch.inference_mode():
            model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=limit,
                streamer=streamer,
                **({"do_sample": False} if greedy else {}),
            )
    except KeyboardInterrupt:
        streamer.end()
    return Reply(streamer.text, streamer.tokens, perf_counter() - started)
