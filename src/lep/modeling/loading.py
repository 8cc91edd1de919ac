"""Load models and tokenizers with transformers, from local folders only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.liger import apply_liger_kernel

from lep.errors import CheckpointError, TokenizerError, UsageError
from lep.io.model_folder import nested_model_hint, read_json


def get_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """Check that torch has a device.

    Args:
        name: A device as torch names it, `cuda:1`.

    Raises:
        UsageError: There is no such CUDA device.
    """
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"device={name}: torch sees {count} CUDA devices here; give device=cpu")


def load_model(
    folder: Path, *, dtype: str, attn_implementation: str | None = None, use_liger_kernel: bool = False
) -> PreTrainedModel:
    """Load a causal language model in evaluation mode, on `get_device()`.

    Args:
        folder: The model's folder.
        dtype: Of its weights, as `bfloat16`.
        attn_implementation: Name of an attention implementation in transformers; `None`: `sdpa` on an accelerator,
            `eager` on a CPU.
        use_liger_kernel: Use the fused kernels of liger-kernel.

    Returns:
        The model.

    Raises:
        CheckpointError: It is no model folder, or transformers cannot load it; the message keeps its reason.
    """
    read_json(folder / "config.json")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation
            or ("eager" if get_device().type == "cpu" else "sdpa"),  # see docs/log.md
            local_files_only=True,
            use_safetensors=True,
        )
        if use_liger_kernel:
            apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})  # the loss is ours
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: transformers cannot load this model: {error}") from error
    return model.to(get_device()).eval()  # pyright: ignore[reportArgumentType]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder.

    Args:
        folder: A Hugging Face model folder.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: There is none, or transformers cannot load it.
    """
    if not any(folder.glob("tokenizer*")):
        raise TokenizerError(
            f"{folder}: no tokenizer found; expected a Hugging Face model folder{nested_model_hint(folder)}"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its loaders raise all kinds of errors
        raise TokenizerError(
            f"{folder}: transformers cannot load this tokenizer ({error}); compare its files with the published ones"
        ) from error


def get_max_position_embeddings(model: PreTrainedModel) -> int | None:
    """Return the longest context of a model by its configuration; `None` if that does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def fork_rng_with_seed(seed: int) -> Iterator[None]:
    """Seed torch's random numbers inside the context; outside they go on as if it had not been there."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
