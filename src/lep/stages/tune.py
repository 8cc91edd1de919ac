"""Model + instruction data → tuned model: adapters and tables learn, and are merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lep.config import Tune
from lep.engine.models import load_model, load_tokenizer, seeded
from lep.engine.tuning import tune
from lep.errors import TokenizerError, UsageError
from lep.io.checkpoint import copy_model
from lep.io.documents import read_conversations
from lep.io.model import open_model


def run(settings: Tune, out: Path) -> dict[str, Any]:
    """Write a whole model folder; checkpoints stand in `out/checkpoints` until the end."""
    if settings.batch_size % settings.micro_batch_size:
        raise UsageError(
            f"tune: micro_batch_size {settings.micro_batch_size} does not divide batch_size {settings.batch_size}"
        )
    source = open_model(settings.model)
    rows = read_conversations(settings.data)
    tokenizer = load_tokenizer(settings.model)
    if not tokenizer.chat_template:
        raise TokenizerError(f"{settings.model}: its tokenizer has no chat template to render conversations with")
    with seeded(settings.seed):
        model = load_model(settings.model, dtype=settings.dtype)
        tuned = tune(model, tokenizer, rows, settings=settings, folder=out / "checkpoints")
    for name, tensor in copy_model(source, out).items():
        tensor.copy_(tuned.weights[name].to(tensor.dtype))
    shutil.rmtree(out / "checkpoints")
    return {
        "examples": len(rows),
        "trained_tokens": tuned.tokens,
        "tokens_per_second": tuned.tokens_per_second,
        "losses": tuned.losses,
    }
