"""Instruction tuning by trl and peft: LoRA on all linear layers, the tables whole, the loss on the answers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lep.config import Tune
from lep.engine.models import device
from lep.engine.watch import Watch, last_checkpoint
from lep.errors import DataError
from lep.progress import progress


@dataclass(frozen=True)
class Tuned:
    """The weights after tuning, and how it went."""

    weights: Mapping[str, Tensor]
    """All weights, the adapters merged in."""
    losses: list[dict[str, int | float]]
    tokens: int
    tokens_per_second: float


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    settings: Tune,
    folder: Path,
) -> Tuned:
    """Train adapters and tables on conversations, and merge them; goes on from the last checkpoint in `folder`.

    Args:
        model: to tune, in `settings.dtype`.
        tokenizer: its chat template renders the conversations.
        rows: `prompt` and `completion`, each a list of messages.
        settings: learning rate, batch, epochs, adapters.
        folder: for checkpoints.

    Raises:
        DataError: a conversation is longer than `settings.maximum_length` tokens.

    Source: METHOD §6.
    """
    tokens = _check_lengths(tokenizer, rows, limit=settings.maximum_length)
    steps = max(1, round(settings.epochs * len(rows) / settings.batch_size))
    trained = round(tokens * steps * settings.batch_size / len(rows))
    watch = Watch(tokens_per_step=trained / steps)
    trainer = _trainer(model, tokenizer, rows, settings=settings, args=_arguments(settings, steps=steps, folder=folder))
    trainer.add_callback(watch)
    checkpoint, done = last_checkpoint(folder)
    with progress("tuning", total=trained, unit="tokens", done=trained * done / steps) as advance:
        watch.advance = advance
        trainer.train(resume_from_checkpoint=checkpoint)
    history: list[dict[str, Any]] = trainer.state.log_history
    merged: Any = trainer.model
    return Tuned(
        weights=merged.merge_and_unload().state_dict(),
        losses=[{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row],
        tokens=trained,
        tokens_per_second=watch.tokens_per_second,
    )


def _with_float_tables(model: PreTrainedModel) -> PreTrainedModel:
    """Tables learn in float32: half precision would swallow small steps. Tied tables stay one parameter."""
    tables: Any = {id(part.weight): part.weight for part in _tables(model).values()}
    for table in tables.values():
        table.data = table.data.float()
    return model


def _tables(model: PreTrainedModel) -> dict[str, Any]:
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    return {name: module for name, module in model.named_modules() if module is embed or module is head}


def _adapters(model: PreTrainedModel, settings: Tune) -> LoraConfig:
    tied = len({id(part.weight) for part in _tables(model).values()}) == 1
    names = [name.rsplit(".", 1)[-1] for name in _tables(model)]
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        modules_to_save=names[:1] if tied else names,
        ensure_weight_tying=tied,
        task_type="CAUSAL_LM",
    )


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    settings: Tune,
    args: SFTConfig,
) -> SFTTrainer:
    trainer = SFTTrainer(
        model=_with_float_tables(model),
        args=args,
        train_dataset=datasets.Dataset.from_list([{key: row[key] for key in ("prompt", "completion")} for row in rows]),
        processing_class=tokenizer,
        peft_config=_adapters(model, settings),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check_lengths(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], *, limit: int) -> int:
    """Tokens of all conversations; `DataError` names the first that is too long."""
    total = 0
    for number, row in enumerate(rows, start=1):
        text = str(tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False))
        length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if length > limit:
            raise DataError(
                f"conversation {number} has {length} tokens, maximum_length is {limit}; raise it or leave the row out"
            )
        total += length
    return total


def _arguments(settings: Tune, *, steps: int, folder: Path) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 20),
        weight_decay=settings.weight_decay,
        max_length=settings.maximum_length,
        completion_only_loss=True,
        bf16=settings.dtype == "bfloat16",
        activation_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=max(1, steps // 3),
        save_total_limit=1,
        seed=settings.seed,
        use_cpu=device().type == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
