"""Models and tokenizers in memory, by transformers' own loaders, from local folders only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.liger import apply_liger_kernel

from lep.errors import CheckpointError, TokenizerError, UsageError
from lep.io.model_folder import read_json, within


def device() -> torch.device:
    """The accelerator where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """`UsageError` when torch has no such device."""
    wanted, count = torch.device(name), torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise UsageError(f"device={name}: torch sees {count} CUDA devices here; give device=cpu")


def load_model(folder: Path, *, dtype: str, attention: str | None = None, liger: bool = False) -> PreTrainedModel:
    """A causal language model, in evaluation mode, on `device()`.

    Args:
        folder: the model.
        dtype: of its weights.
        attention: transformers' name of an implementation; none: the faster one that is always there.
        liger: with the kernels of liger-kernel.

    Raises:
        CheckpointError: it is no model folder, or transformers cannot load it; the message keeps its reason.
    """
    read_json(folder / "config.json")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=attention or ("eager" if device().type == "cpu" else "sdpa"),  # see docs/log.md
            local_files_only=True,
            use_safetensors=True,
        )
        if liger:
            apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})  # the loss is ours
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: transformers cannot load this model: {error}") from error
    return model.to(device()).eval()  # pyright: ignore[reportArgumentType]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder; `TokenizerError` when there is none, or transformers cannot load it."""
    if not any(folder.glob("tokenizer*")):
        raise TokenizerError(f"{folder}: no tokenizer is there; expected a Hugging Face model folder{within(folder)}")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its loaders raise whatever a file leads them into
        raise TokenizerError(
            f"{folder}: transformers cannot load this tokenizer ({error}); compare its files with the published ones"
        ) from error


def positions(model: PreTrainedModel) -> int | None:
    """Tokens that a model can look back on, by its configuration; none: it does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, and as if nothing had happened outside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
