"""Settings of `pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lep.config.base import Dtype, NonNegativeFloat, PositiveFloat, PositiveInt, RuntimeOnly, Settings, UnitInterval
from lep.config.benchmark import BenchmarkSettings

DecayRate = Annotated[float, Field(ge=0, lt=1)]
AttentionImplementation = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"]


class PretrainSettings(Settings):
    """Initialized model + corpus → adapted model: trains the embeddings and the layers selected by `trainable`."""

    model: Path
    """A model made by `initialize`."""
    corpus: Path
    """A corpus made by `collect`."""
    mixture: Annotated[dict[str, PositiveFloat], Field(min_length=1)]
    """Weight of each language in the training tokens, in any unit: `{ru: 9, en: 1}`."""
    tokens: PositiveInt
    """Number of training tokens; a shorter corpus is repeated, each epoch in another order."""
    trainable: Literal["embeddings", "new_tokens", "embeddings+lora", "first_last", "full"] = "embeddings"
    """`embeddings`: input and output embeddings; `new_tokens`: only their rows that `initialize` composed;
    `embeddings+lora`: the embeddings, and LoRA adapters on all linear layers, merged at the end; `first_last`: the
    embeddings, the first and the last layer; `full`: everything."""
    learning_rate: PositiveFloat = 2e-4
    """Peak learning rate of the embeddings of new tokens."""
    old_token_learning_rate: PositiveFloat | None = None
    """Peak learning rate of the embeddings that the base model had; None: `learning_rate`."""
    layer_learning_rate: PositiveFloat | None = None
    """Peak learning rate of what is trained in the layers; None: `learning_rate`."""
    lora_rank: PositiveInt = 32
    """Rank r of the LoRA adapters."""
    lora_alpha: PositiveInt = 32
    """α of the LoRA adapters: their product is scaled by α / r."""
    sequence_length: Annotated[int, Field(ge=3)] = 1024
    """Tokens per training sample."""
    document_masking: bool = True
    """Keep attention inside each document of a sample, and restart positions with each."""
    batch_size: PositiveInt = 256
    """Samples per optimizer step, over all processes."""
    micro_batch_size: Annotated[PositiveInt, RuntimeOnly] = 4
    """Samples per forward pass of one process; times the number of processes, it must divide `batch_size`."""
    parallel: Annotated[Literal["ddp", "fsdp2"], RuntimeOnly] = "ddp"
    """Distributed training: with `ddp` each process holds the full model, with `fsdp2` a shard of it."""
    lr_scheduler_type: Literal["cosine", "warmup_stable_decay"] = "cosine"
    """After the warm-up: cosine decay to 0, or constant and then linear decay to 0."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Number of steps of linear warm-up."""
    decay_ratio: UnitInterval = 0.1
    """Fraction of all steps in which `warmup_stable_decay` decays."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW's weight decay, on trained embeddings and matrices."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
    """AdamW's β₁ and β₂."""
    epsilon: PositiveFloat = 1e-5
    """AdamW's ε."""
    dtype: Dtype = "bfloat16"
    """Precision of frozen weights and of activations; trained weights are kept in float32."""
    attn_implementation: Annotated[AttentionImplementation | None, RuntimeOnly] = None
    """Attention implementation of transformers; None: `sdpa` on an accelerator, `eager` on a CPU."""
    gradient_checkpointing: Annotated[bool, RuntimeOnly] = False
    """Recompute the layers' activations in the backward pass: less memory, a third more work."""
    use_liger_kernel: Annotated[bool, RuntimeOnly] = False
    """Use the fused kernels of liger-kernel for norms, rotary embeddings and gates; on a GPU."""
    torch_compile: Annotated[bool, RuntimeOnly] = False
    """Compile the layers with `torch.compile`: a minute or more at the start, faster steps afterwards."""
    num_evaluations: PositiveInt = 4
    """Number of evaluations on held-out text, evenly over the run, each with a checkpoint; the best one is the
    result."""
    evaluation_characters: PositiveInt = 20_000
    """Characters of held-out text per language in those evaluations."""
    benchmark: BenchmarkSettings | None = None
    """Run Darumeru in those evaluations too, and before the first step; choose few `tasks` and a small `limit`. None:
    do not run it."""
    tensorboard: Annotated[bool, RuntimeOnly] = False
    """Also log to TensorBoard, into `tensorboard/` of the result; the library must be installed."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of samples and of the initial adapters."""

    @model_validator(mode="after")
    def _check_learning_rates(self) -> PretrainSettings:
        if self.trainable == "new_tokens" and self.old_token_learning_rate is not None:
            raise ValueError(
                "old_token_learning_rate needs trained rows of old tokens; trainable=new_tokens freezes them"
            )
        if self.trainable in ("embeddings", "new_tokens") and self.layer_learning_rate is not None:
            raise ValueError(f"layer_learning_rate needs trained layers; trainable={self.trainable} trains none")
        return self

    @model_validator(mode="after")
    def _check_benchmark(self) -> PretrainSettings:
        benchmark = self.benchmark
        if benchmark and (benchmark.base_models or benchmark.endpoints or benchmark.backend == "vllm"):
            raise ValueError(
                "benchmark: base_models, endpoints and backend are for evaluate; here the model in training is measured"
            )
        if benchmark and self.parallel == "fsdp2":
            raise ValueError(
                "benchmark needs the full model in each process, and parallel=fsdp2 shards it; use parallel=ddp, or "
                "leave benchmark out and evaluate the result"
            )
        return self

    @model_validator(mode="after")
    def _check_steps(self) -> PretrainSettings:
        if not self.steps:
            step = self.sequence_length * self.batch_size
            raise ValueError(
                f"tokens={self.tokens:,} are less than one step of sequence_length × batch_size = {step:,} tokens; "
                "give more tokens or a smaller batch_size"
            )
        decay = f", {self.decay_steps} of them for the decay" if self.decay_steps else ""
        if self.warmup_steps + max(1, self.decay_steps) > self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}: learning_rate would never be reached; tokens / (sequence_length × "
                f"batch_size) are {self.steps} steps{decay}. Give fewer warmup_steps or more tokens"
            )
        return self

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.tokens // (self.sequence_length * self.batch_size)

    @property
    def decay_steps(self) -> int:
        """Number of last steps in which `warmup_stable_decay` decays."""
        return round(self.decay_ratio * self.steps) if self.lr_scheduler_type == "warmup_stable_decay" else 0
