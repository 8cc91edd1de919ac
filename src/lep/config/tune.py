"""Settings of `tune`, and those that it shares with `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import model_validator

from lep.config.base import Count, Dtype, How, NonNegative, Positive, Settings
from lep.config.data_source import Origin


class Conversations(Origin):
    """Conversations of one source: files, or a data set that `datasets` reads."""

    files: list[Path] | None = None
    """Files of conversations: .jsonl (also .gz, .xz) or .parquet; a folder stands for all such files in it."""
    minimum: dict[str, float] | None = None
    """The least value that a row must have in a column, as `{opus_score: 8}`; rows with a lower one are left out;
    none: all are read."""


class Copies(Settings):
    """Copy tasks: text that is held out of a corpus is to be repeated word by word."""

    corpus: Path
    """A corpus made by `collect`."""
    count: Count
    """How many tasks: half of them to copy a sentence, the others to copy an article, or as much of its beginning as
    `maximum_length` lets stand there twice."""


class Tuning(Settings):
    """What `tune` and `calibrate` have in common: what of a model learns from conversations, and how."""

    model: Path
    """Folder of the model to tune; its tokenizer must have a chat template."""
    adapters: Literal["lora", "dora", "none"] = "lora"
    """What learns in the layers: adapters on their linear maps, merged at the end (`dora`: with learnt lengths of the
    maps' rows), or, with `none`, the layers themselves."""
    layers: Literal["all", "first_last"] = "all"
    """Which layers learn."""
    lora_rank: Count = 32
    """Rank r of the adapters."""
    lora_alpha: Count = 16
    """α of the adapters: their product is scaled by α / r."""
    tables: Literal["frozen", "head", "both"] = "both"
    """Which tables learn, whole; where one matrix is both, it learns as `head` and as `both`."""
    epochs: Positive = 1.0
    """Passes over the data."""
    lr: Positive = 5e-5
    """Peak learning rate, linear warm-up over a twentieth of the steps, then cosine."""
    batch_size: Count = 128
    """Samples in an optimizer step, of all processes together."""
    micro_batch_size: Annotated[Count, How] = 8
    """Samples in a forward pass of one process; times the processes, it must divide `batch_size`."""
    weight_decay: NonNegative = 0.05
    """AdamW's weight decay."""
    maximum_length: Count = 4096
    """Conversations of more tokens are left out, and it is told; no answer is ever cut."""
    packing: bool = False
    """Put short conversations into one sample of up to `maximum_length` tokens; attention stays inside each."""
    parallel: Annotated[Literal["ddp", "fsdp2"], How] = "ddp"
    """How several processes share the work: `ddp`: each holds the whole model; `fsdp2`: each holds a part of it."""
    gradient_checkpointing: Annotated[bool, How] = False
    """Compute the layers' activations twice instead of keeping them: less memory, a third more work."""
    dtype: Dtype = "bfloat16"
    """Precision of the frozen weights and of activations; what learns is kept in float32."""
    copies: Copies | None = None
    """Copy tasks among the conversations."""
    skills: Path | None = None
    """Items that the model will be measured with, as in `evaluate`; it is told which of them stand in the data."""
    seed: int = 0
    """Order of the samples, the adapters at the start, and the choice of copy tasks."""


class Tune(Tuning):
    """Model + instruction data → tuned model: adapters and tables learn, merged; loss on answers only."""

    data: Path | dict[str, Path | Conversations]
    """Conversations: a file (.jsonl, .parquet) or a folder of such; or several sources, each with a name."""
    method: Literal["sft", "dpo", "kto"] = "sft"
    """`sft`: answers are learnt; `dpo`: of two answers to a prompt the chosen one is preferred to the rejected one;
    `kto`: answers are labelled good or bad. Both compare with the model as it was."""
    beta: Positive = 0.1
    """β of `dpo` and `kto`: the greater, the nearer the result stays to the model as it was."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        scored = isinstance(self.data, dict) and any(getattr(source, "minimum", None) for source in self.data.values())
        if self.method != "sft" and (self.packing or self.copies or self.skills or scored):
            raise ValueError(f"packing, copies, skills and minimum are for method=sft, not for {self.method}")
        if self.method == "kto" and self.micro_batch_size < 2:
            raise ValueError("method=kto compares the samples of a forward pass; give micro_batch_size=2 or more")
        return self
