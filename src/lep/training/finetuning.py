"""Tuning by trl: instruction tuning (SFT), and preferences by DPO and KTO.

The three are one training but for what a sample is and what the loss: trl's trainers. Theirs are the losses; ours is
what learns, how it is kept in checkpoints, and how it is divided among processes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer
from transformers.utils import SAFE_WEIGHTS_NAME
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from lep.config import Tuning
from lep.data.sft_dataset import Lessons, in_order
from lep.distributed import by_main, world
from lep.errors import TokenizerError, UsageError
from lep.io.model_folder import open_model
from lep.io.model_writer import TRAINING_LOG
from lep.modeling.document_masking import attends_inside_documents
from lep.modeling.loading import load_model, load_tokenizer, seeded
from lep.modeling.saving import let_learn, write_learnt
from lep.modeling.sharding import ShardedTrainer, gather, shard, share, whole
from lep.modeling.trainable_layers import decoder_layers
from lep.progress import Advance, progress
from lep.training.arguments import training_arguments
from lep.training.callbacks import Watch, last_checkpoint
from lep.training.resource_errors import explained

_CHECKPOINTS = 3
"""How many are made in a training; the last one is kept."""

_KEPT = {"loss": "loss", "rewards/accuracies": "accuracy", "rewards/margins": "margin"}
"""What the manifest tells of each step, by trl's names; the last two of preferences."""


def tune(settings: Tuning, lessons: Lessons, *, out: Path, beta: float = 0.1) -> dict[str, Any]:
    """Tune a model and write it, adapters merged in; returns the room's numbers. Goes on from `out`'s last checkpoint.

    Args:
        settings: the model, what learns and how.
        lessons: what is learnt.
        out: an existing folder.
        beta: β of DPO and KTO.

    Raises:
        LepError: the loss or the gradient is not finite, or memory is short.
        ArtifactError: the disk is full.
        UsageError: `packing` with a model whose attention does not stay inside a conversation.
        TokenizerError: there is no token to pad with.

    Source: METHOD §6.
    """
    source, tokenizer = open_model(settings.model), load_tokenizer(settings.model)
    folder = out / "checkpoints"
    watch = Watch(tokens_per_step=lessons.tokens / lessons.steps, log=out / TRAINING_LOG)
    lower = f"micro_batch_size ({settings.micro_batch_size}) or maximum_length ({settings.maximum_length})"
    with seeded(settings.seed), explained(folder, lower=lower):
        model = load_model(settings.model, dtype=settings.dtype)
        _check(model, tokenizer, settings)
        let_learn(model, settings, source=source)
        trainer = _trainer(model, tokenizer, lessons, settings=settings, folder=folder, beta=beta)
        trainer.add_callback(watch)
        checkpoint, done = last_checkpoint(folder)
        share_done = done / lessons.steps
        with progress("tuning", total=lessons.tokens, unit="tokens", done=lessons.tokens * share_done) as advance:
            watch.advance = advance
            trainer.train(resume_from_checkpoint=checkpoint)
    gather(model)
    by_main(partial(_finish, model, out, settings=settings, lessons=lessons))
    return {
        **lessons.numbers(),
        "tokens_per_second": watch.tokens_per_second,
        "losses": _losses(trainer.state.log_history),
    }


def _losses(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the manifest tells of each step."""
    steps = [row for row in history if "loss" in row]
    return [{"step": row["step"]} | {ours: row[name] for name, ours in _KEPT.items() if name in row} for row in steps]


def _check(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Tuning) -> None:
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise TokenizerError(f"{settings.model}: its tokenizer has neither a pad_token nor an eos_token to pad with")
    if settings.packing and not attends_inside_documents(model, batch=min(2, settings.micro_batch_size)):
        raise UsageError("packing: this model's attention does not stay inside a conversation; give packing=false")


def _finish(model: PreTrainedModel, out: Path, *, settings: Tuning, lessons: Lessons) -> None:
    write_learnt(model, open_model(settings.model), out)
    shutil.rmtree(out / "checkpoints")
    shutil.rmtree(lessons.folder)


class _OfWhatLearns:
    """Before one of trl's trainers: checkpoints hold what learns and nothing else, and nothing is sent anywhere."""

    model: nn.Module
    args: Any
    advance: Advance

    def _save(self, output_dir: str, state_dict: object = None) -> None:
        state = {name: whole(weight.detach()).contiguous() for name, weight in _learning(self.model).items()}
        if self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(state, Path(output_dir) / SAFE_WEIGHTS_NAME)

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME)
        for name, weight in _learning(self.model).items():
            weight.copy_(share(state[name], like=weight))

    def compute_ref_log_probs(self, *given: Any) -> Any:
        """Of a batch, by the model as it is before it learns."""
        found = super().compute_ref_log_probs(*given)  # pyright: ignore[reportAttributeAccessIssue]
        self.advance(1)
        return found

    def _send_telemetry(self) -> None: ...

    def create_model_card(self, *_: object, **__: object) -> None: ...


def _idle(amount: float) -> None: ...


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lessons: Lessons,
    *,
    settings: Tuning,
    folder: Path,
    beta: float,
) -> Trainer:
    """A trainer for this process's part of the work; divides the model when it is to be, after a look at it whole."""
    sharded = settings.parallel == "fsdp2" and world() > 1
    kind = {"sft": SFTTrainer, "dpo": DPOTrainer, "kto": KTOTrainer}[lessons.method]
    bases = (_OfWhatLearns, ShardedTrainer, kind) if sharded else (_OfWhatLearns, kind)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    samples = in_order(lessons, settings)
    batches = math.ceil(len(samples) / (settings.micro_batch_size * world()))
    looks = (
        progress("the model before", total=batches, unit="batches") if lessons.method != "sft" else nullcontext(_idle)
    )
    with looks as advance:
        made = cast(Any, type("Tuner", bases, {"advance": staticmethod(advance)}))
        trainer: Trainer = made(
            model=model,
            args=_arguments(lessons, settings, folder=folder, beta=beta),
            train_dataset=samples,
            processing_class=tokenizer,
            **({"data_collator": Packed(tokenizer)} if settings.packing else {}),
        )
    if sharded:
        shard(model, layers=decoder_layers(model), dtype=getattr(torch, settings.dtype))
    trainer.remove_callback(PrinterCallback)
    return trainer


class Packed:
    """Packed samples as batches: positions restart with each conversation, which tells attention where it begins."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.batch = DataCollatorForLanguageModeling(pad_token_id=cast(int, pad), return_position_ids=True)

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.batch(samples)
        del batch["attention_mask"]  # with one, positions would not be looked at
        return dict(batch)


def _arguments(lessons: Lessons, settings: Tuning, *, folder: Path, beta: float) -> Any:
    kinds: dict[str, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "kto": KTOConfig}
    compared = {"beta": beta, "precompute_ref_log_probs": True}
    return training_arguments(
        kinds[lessons.method],
        settings,
        steps=lessons.steps,
        folder=folder,
        save_every=max(1, lessons.steps // _CHECKPOINTS),
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, lessons.steps // 20),
        weight_decay=settings.weight_decay,
        bf16=settings.dtype == "bfloat16",
        activation_checkpointing=False,  # it is on already, where it is wanted
        max_length=None,
        **({"dataset_kwargs": {"skip_prepare_dataset": True}} if lessons.method == "sft" else compared),
    )
