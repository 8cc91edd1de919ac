"""Instruction tuning by trl's SFTTrainer: the loss is on the answers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig, SFTTrainer

from lep.config import Tune
from lep.engine.models import device
from lep.engine.pretraining import Watch, last_step
from lep.errors import DataError
from lep.progress import progress


@dataclass(frozen=True)
class Tuned:
    """How the tuning went; the model was changed in place."""

    losses: list[dict[str, float]]
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
    """Train all weights on conversations; goes on from the last checkpoint in `folder`.

    Args:
        model: float32 weights; activations in `settings.dtype`.
        tokenizer: its chat template renders the conversations.
        rows: `prompt` and `completion`, each a list of messages.
        settings: learning rate, batch, epochs.
        folder: for checkpoints.

    Raises:
        DataError: a conversation is longer than `settings.maximum_length` tokens.
    """
    tokens = _check_lengths(tokenizer, rows, limit=settings.maximum_length)
    steps = max(1, round(settings.epochs * len(rows) / settings.batch_size))
    trained = round(tokens * settings.epochs)
    watch = Watch(tokens_per_step=trained / steps)
    data = datasets.Dataset.from_list([{"prompt": row["prompt"], "completion": row["completion"]} for row in rows])
    trainer = SFTTrainer(
        model=model,
        args=_arguments(settings, steps=steps, folder=folder),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    done = last_step(folder)
    with progress("tuning", total=trained, unit="tokens", done=trained * done / steps) as advance:
        watch.advance = advance
        trainer.train(resume_from_checkpoint=bool(done))
    losses = [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]
    return Tuned(losses=losses, tokens=trained, tokens_per_second=watch.tokens_per_second)


def _check_lengths(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], *, limit: int) -> int:
    """Tokens of all conversations; `DataError` names the first that is too long."""
    total = 0
    for number, row in enumerate(rows, start=1):
        text = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
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
        gradient_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=max(1, steps // 3),
        save_total_limit=1,
        seed=settings.seed,
        use_cpu=device().type == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
