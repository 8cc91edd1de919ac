"""Settings of `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lep.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, RuntimeOnly
from lep.config.endpoint import Endpoint
from lep.config.tune import ConversationSource, FinetuningSettings


class CalibrateSettings(FinetuningSettings):
    """Propagated model + prompts → calibrated model: trains on the original instruct model's own answers."""

    teacher: Path | Endpoint
    """The original instruct model, which answers the prompts: a folder or an endpoint."""
    prompts: Path | ConversationSource
    """Prompts: rows with `prompt`, `instruction` or `text`, or conversations, without their last answers."""
    max_prompts: PositiveInt | None = None
    """Number of prompts to read, from the first; None: all."""
    backend: Annotated[Literal["transformers", "vllm"], RuntimeOnly] = "transformers"
    """Library that runs a teacher or judge that is a folder."""
    num_candidates: PositiveInt = 1
    """Answers per prompt, of which the best is kept: one greedy answer, or several sampled ones."""
    temperature: PositiveFloat = 0.7
    """Sampling temperature, where there are several candidates."""
    max_new_tokens: PositiveInt = 1024
    """Maximum length of an answer in tokens; an answer truncated there gets a lower score."""
    generation_batch_size: Annotated[PositiveInt, RuntimeOnly] = 32
    """Number of answers that transformers generates at once."""
    judge: Literal["rules"] | Path | Endpoint = "rules"
    """What scores answers from 1 to 5: `rules` about their form, a model folder, or an endpoint."""
    min_score: Annotated[int, Field(ge=1, le=5)] = 4
    """Drop answers with a lower score."""
    trainable_layers: Literal["all", "first_last"] = "first_last"
    """Layers to train."""
    lora_rank: PositiveInt = 8
    """Rank r of the adapters."""
    lora_alpha: PositiveInt = 1
    """α of the adapters: their product is scaled by α / r."""
    learning_rate: PositiveFloat = 2.5e-5
    """Peak learning rate; linear warm-up over a twentieth of the steps, then cosine decay."""
    batch_size: PositiveInt = 64
    """Samples per optimizer step, over all processes."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW's weight decay."""
    max_length: PositiveInt = 8096
    """Skip longer conversations, in tokens, and report them; no answer is ever truncated."""
