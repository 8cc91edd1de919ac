"""Settings of `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lep.config.base import Count, How, NonNegative, Positive
from lep.config.endpoint import Endpoint
from lep.config.tune import Conversations, Tuning


class Calibrate(Tuning):
    """Propagated model + prompts → calibrated model: it learns what the original instruct model answers to them."""

    teacher: Path | Endpoint
    """The original instruct model, which answers the prompts: a folder, or an endpoint."""
    prompts: Path | Conversations
    """What is asked: rows with `prompt`, `instruction` or `text`, or conversations, whose last answers are left out."""
    prompts_limit: Count | None = None
    """Only so many rows of them, the first; none: all."""
    engine: Annotated[Literal["transformers", "vllm"], How] = "transformers"
    """What runs a teacher or a judge that is a folder."""
    candidates: Count = 1
    """Answers to each prompt, of which the best is kept: one greedy answer, or several sampled ones."""
    temperature: Positive = 0.7
    """Temperature of sampling, where there are several candidates."""
    answer_tokens: Count = 1024
    """Tokens of an answer at the most; one that is cut there is graded down."""
    answer_batch: Annotated[Count, How] = 32
    """Answers that transformers generates at once."""
    judge: Literal["rules"] | Path | Endpoint = "rules"
    """What grades the answers from 1 to 5: `rules` about their form, a model's folder, or an endpoint."""
    threshold: Annotated[int, Field(ge=1, le=5)] = 4
    """Answers with a lower grade are dropped."""
    layers: Literal["all", "first_last"] = "first_last"
    """Which layers learn."""
    lora_rank: Count = 8
    """Rank r of the adapters."""
    lora_alpha: Count = 1
    """α of the adapters: their product is scaled by α / r."""
    lr: Positive = 2.5e-5
    """Peak learning rate, linear warm-up over a twentieth of the steps, then cosine."""
    batch_size: Count = 64
    """Samples in an optimizer step, of all processes together."""
    weight_decay: NonNegative = 0.1
    """AdamW's weight decay."""
    maximum_length: Count = 8096
    """Conversations of more tokens are left out, and it is told; no answer is ever cut."""
