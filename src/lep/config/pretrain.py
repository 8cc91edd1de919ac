"""Settings of `pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lep.config.base import Count, Dtype, How, NonNegative, Positive, Settings, Share
from lep.config.benchmark import Benchmark

Decay = Annotated[float, Field(ge=0, lt=1)]


Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"]


class Pretrain(Settings):
    """Initialized model + corpus → adapted model: its tables learn, and of its layers what `learn` says."""

    model: Path
    """A model made by `initialize`."""
    corpus: Path
    """A corpus made by `collect`."""
    mixture: Annotated[dict[str, Positive], Field(min_length=1)]
    """Share of training tokens by language, in any unit: `{ru: 9, en: 1}`."""
    tokens: Count
    """How many tokens to train on; when the corpus is shorter, it is read again in another order."""
    learn: Literal["embeddings", "new_rows", "embeddings+lora", "first_last", "full"] = "embeddings"
    """`embeddings`: the tables; `new_rows`: of them the rows that `initialize` composed; `embeddings+lora`: tables, and
    adapters on all linear layers, merged at the end; `first_last`: tables, first and last layer; `full`: everything."""
    lr: Positive = 2e-4
    """Peak learning rate of the new tokens' rows."""
    lr_old_rows: Positive | None = None
    """Peak learning rate of the rows that the base model had; none: as `lr`."""
    lr_layers: Positive | None = None
    """Peak learning rate of what learns in the layers; none: as `lr`."""
    lora_rank: Count = 32
    """Rank r of the adapters."""
    lora_alpha: Count = 32
    """α of the adapters: their product is scaled by α / r."""
    block: Annotated[int, Field(ge=3)] = 1024
    """Tokens in a training sample."""
    inside_documents: bool = True
    """Attention stays inside documents and positions restart, where several stand in a sample."""
    batch_size: Count = 256
    """Samples in an optimizer step, of all processes together."""
    micro_batch_size: Annotated[Count, How] = 4
    """Samples in a forward pass of one process; times the processes, it must divide `batch_size`."""
    parallel: Annotated[Literal["ddp", "fsdp2"], How] = "ddp"
    """How several processes share the work: `ddp`: each holds the whole model; `fsdp2`: each holds a part of it."""
    schedule: Literal["cosine", "warmup_stable_decay"] = "cosine"
    """After the warm-up: down to 0 by a cosine, or constant and then linearly down to 0."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up."""
    decay_share: Share = 0.1
    """Share of all steps in which `warmup_stable_decay` goes down."""
    weight_decay: NonNegative = 0.1
    """AdamW's weight decay, on the rows and matrices that learn."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    epsilon: Positive = 1e-5
    """AdamW's ε."""
    dtype: Dtype = "bfloat16"
    """Precision of what is frozen and of activations; what learns is kept in float32."""
    attention: Annotated[Attention | None, How] = None
    """transformers' implementation of attention; none: `sdpa` on an accelerator, `eager` on a processor."""
    gradient_checkpointing: Annotated[bool, How] = False
    """Compute the layers' activations twice instead of keeping them: less memory, a third more work."""
    liger: Annotated[bool, How] = False
    """Fused kernels of the library liger-kernel for norms, rotations and gates; on a GPU."""
    compile: Annotated[bool, How] = False
    """Compile the layers by torch: a minute or more at the start, faster steps after."""
    evaluations: Count = 4
    """How often, evenly over the run, held-out text is measured and a checkpoint is saved; the best is the result."""
    evaluation_characters: Count = 20_000
    """Characters of held-out text a language in those measurements."""
    benchmark: Benchmark | None = None
    """Darumeru on the model as it learns, in those measurements, too, and before the first step; choose few `tasks` and
    a small `limit`. None: not measured."""
    tensorboard: Annotated[bool, How] = False
    """Write the log for TensorBoard, too, into the result's `tensorboard/`; the library must be installed."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Order of the samples, and the adapters at the start."""

    @model_validator(mode="after")
    def _agree(self) -> Pretrain:
        if self.learn == "new_rows" and self.lr_old_rows is not None:
            raise ValueError("lr_old_rows is for rows that learn; with learn=new_rows they do not")
        if self.learn in ("embeddings", "new_rows") and self.lr_layers is not None:
            raise ValueError(f"lr_layers is for layers that learn; with learn={self.learn} none does")
        return self

    @model_validator(mode="after")
    def _can_measure(self) -> Pretrain:
        asked = self.benchmark
        if asked and (asked.base or asked.endpoints or asked.engine == "vllm"):
            raise ValueError("benchmark: base, endpoints and engine are for evaluate; the model that learns is asked")
        if asked and self.parallel == "fsdp2":
            raise ValueError(
                "benchmark needs a whole model in each process, and parallel=fsdp2 divides it; say parallel=ddp, or "
                "leave benchmark out and give the result to evaluate"
            )
        return self

    @model_validator(mode="after")
    def _has_time(self) -> Pretrain:
        if not self.steps:
            step = self.block * self.batch_size
            raise ValueError(
                f"tokens={self.tokens:,} are less than one step of block × batch_size = {step:,} tokens; give more "
                "tokens, or a smaller batch_size"
            )
        down = self.decay_steps
        if self.warmup_steps + max(1, down) > self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}: lr would never be reached, as tokens / (block × batch_size) make "
                f"{self.steps} steps" + (f", {down} of them to go down" if down else "") + "; warm up in fewer steps, "
                "or give more tokens"
            )
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps that the tokens make."""
        return self.tokens // (self.block * self.batch_size)

    @property
    def decay_steps(self) -> int:
        """The last of them, in which `warmup_stable_decay` goes down."""
        return round(self.decay_share * self.steps) if self.schedule == "warmup_stable_decay" else 0
