"""Settings of `tune`, and those that `calibrate` shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import model_validator

from lep.config.base import Dtype, NonNegativeFloat, PositiveFloat, PositiveInt, RuntimeOnly, Settings
from lep.config.data_source import DataSource


class ConversationSource(DataSource):
    """Conversations of one source: files, or a data set."""

    files: list[Path] | None = None
    """Files of conversations: .jsonl (also .gz, .xz) or .parquet; a folder means all such files in it."""
    min_scores: dict[str, float] | None = None
    """Minimum value of a row in each of these columns, for example `{opus_score: 8}`; other rows are skipped. None:
    read all."""


class CopyTaskSettings(Settings):
    """Copy tasks: repeat held-out text of a corpus word by word."""

    corpus: Path
    """A corpus made by `collect`."""
    count: PositiveInt
    """Number of tasks: half of them copy a sentence, the others an article, or as much of its beginning as fits twice
    into `max_length`."""


class FinetuningSettings(Settings):
    """Settings shared by `tune` and `calibrate`: what is trained on conversations, and how."""

    model: Path
    """Folder of the model to fine-tune; its tokenizer must have a chat template."""
    adapter: Literal["lora", "dora", "none"] = "lora"
    """What is trained in the layers: `lora` or `dora` adapters on the linear layers, merged at the end, or, with
    `none`, the layers themselves."""
    trainable_layers: Literal["all", "first_last"] = "all"
    """Layers to train."""
    lora_rank: PositiveInt = 32
    """Rank r of the adapters."""
    lora_alpha: PositiveInt = 16
    """α of the adapters: their product is scaled by α / r."""
    trainable_embeddings: Literal["none", "head", "both"] = "both"
    """Embedding matrices to train, all rows: none, the output embeddings, or both; tied ones are trained as `head`
    too."""
    epochs: PositiveFloat = 1.0
    """Number of passes over the data."""
    learning_rate: PositiveFloat = 5e-5
    """Peak learning rate; linear warm-up over a twentieth of the steps, then cosine decay."""
    batch_size: PositiveInt = 128
    """Samples per optimizer step, over all processes."""
    micro_batch_size: Annotated[PositiveInt, RuntimeOnly] = 8
    """Samples per forward pass of one process; times the number of processes, it must divide `batch_size`."""
    weight_decay: NonNegativeFloat = 0.05
    """AdamW's weight decay."""
    max_length: PositiveInt = 4096
    """Skip longer conversations, in tokens, and report them; no answer is ever truncated."""
    packing: bool = False
    """Pack short conversations into samples of up to `max_length` tokens; attention stays inside each conversation."""
    parallel: Annotated[Literal["ddp", "fsdp2"], RuntimeOnly] = "ddp"
    """Distributed training: with `ddp` each process holds the full model, with `fsdp2` a shard of it."""
    gradient_checkpointing: Annotated[bool, RuntimeOnly] = False
    """Recompute the layers' activations in the backward pass: less memory, a third more work."""
    dtype: Dtype = "bfloat16"
    """Precision of frozen weights and of activations; trained weights are kept in float32."""
    copy_tasks: CopyTaskSettings | None = None
    """Copy tasks to mix into the conversations."""
    heldout_items: Path | None = None
    """Items that the model will be evaluated on, as in `evaluate`; those that occur in the data are reported."""
    seed: int = 0
    """Seed of the order of samples, the initial adapters, and the choice of copy tasks."""


class TuneSettings(FinetuningSettings):
    """Model + instruction data → tuned model: trains adapters and embeddings, with the loss on answers only."""

    data: Path | dict[str, Path | ConversationSource]
    """Conversations: a file (.jsonl, .parquet), a folder of such files, or several named sources."""
    method: Literal["sft", "dpo", "kto"] = "sft"
    """`sft`: train on answers; `dpo`: prefer the chosen to the rejected answer; `kto`: train on answers labeled good or
    bad. The reference of `dpo` and `kto` is the model before training."""
    beta: PositiveFloat = 0.1
    """β of `dpo` and `kto`: the larger, the closer the result stays to the model before training."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        sources = self.data.values() if isinstance(self.data, dict) else ()
        filtered = any(isinstance(source, ConversationSource) and source.min_scores for source in sources)
        if self.method != "sft" and (self.packing or self.copy_tasks or self.heldout_items or filtered):
            raise ValueError(
                f"packing, copy_tasks, heldout_items and min_scores are for method=sft, not for {self.method}"
            )
        if self.method == "kto" and self.micro_batch_size < 2:
            raise ValueError("method=kto compares the samples of a forward pass; give micro_batch_size=2 or more")
        return self
