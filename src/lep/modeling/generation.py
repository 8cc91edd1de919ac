"""Generate text with a model in memory, one batch or many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import UsageError
from lep.modeling.loading import fork_rng_with_seed
from lep.progress import track_progress
from lep.results.evaluation import GeneratedText


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    ignore_eos: bool = False,
) -> list[GeneratedText]:
    """Continue prompts in one batch, padded on the left.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        prompts: Text that may contain special tokens; none are added.
        max_new_tokens: Limit of each continuation.
        temperature: Of sampling with torch's random generator; 0: greedy decoding.
        ignore_eos: Generate `max_new_tokens` even where the model would stop, to measure speed.

    Returns:
        The continuations, in the order of the prompts.
    """
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    new_ids = generate_ids(
        model,
        inputs["input_ids"],
        inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        min_new_tokens=max_new_tokens if ignore_eos else None,
        pad_token_id=tokenizer.pad_token_id,
        **({"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}),
    )
    texts = tokenizer.batch_decode(new_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    eos = model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
    end_ids = [tokenizer.pad_token_id, *(eos if isinstance(eos, list) else [] if eos is None else [eos])]
    lengths = (~torch.isin(new_ids, torch.tensor(end_ids, device=new_ids.device))).sum(dim=1).tolist()
    return [
        GeneratedText(text=text, tokens=length, truncated=length == max_new_tokens)
        for text, length in zip(texts, lengths, strict=True)
    ]


@torch.inference_mode()
def generate_ids(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch prompt"],
    attention_mask: Int[Tensor, "batch prompt"],
    **options: Any,
) -> Int[Tensor, "batch new"]:
    """Continue a batch of ids.

    Args:
        model: In evaluation mode.
        input_ids: The prompts.
        attention_mask: 0 at padding.
        **options: of transformers' `generate`.

    Returns:
        The new ids, without the prompts.
    """
    ids = model.generate(input_ids=input_ids, attention_mask=attention_mask, **options)  # pyright: ignore[reportCallIssue]
    return ids[:, input_ids.shape[1] :]


def generate_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    temperature: float = 0.0,
    get_seed: Callable[[int], int] | None = None,
    done: Collection[int] = (),
    memory_hint: str = "use an accelerator with more memory",
) -> Iterator[dict[int, GeneratedText]]:
    """Continue prompts batch by batch, those with the lowest limit of new tokens first, else in their order.

    The batches depend on the prompts alone, so that a resumed run gives the same continuations.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        prompts: Text that may contain special tokens; none are added.
        max_new_tokens: Limit of all continuations, or of each; a batch gets the highest limit in it.
        batch_size: Prompts in a batch.
        temperature: Of sampling; 0: greedy decoding.
        get_seed: Returns the seed of a batch, given the index of its first prompt; None: the random state goes on.
        done: Indices of prompts whose continuations are known; a batch is skipped if all of it is done.
        memory_hint: What to do if the memory is too small.

    Yields:
        The continuations of one batch, by index of the prompt.

    Raises:
        UsageError: The memory of the accelerator is too small for a batch.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    order = sorted(range(len(prompts)), key=lambda i: limits[i])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        if all(i in done for i in batch):
            continue
        try:
            with fork_rng_with_seed(get_seed(batch[0])) if get_seed else nullcontext():
                continuations = generate(
                    model,
                    tokenizer,
                    [prompts[i] for i in batch],
                    max_new_tokens=max(limits[i] for i in batch),
                    temperature=temperature,
                )
        except torch.OutOfMemoryError:
            raise UsageError(
                f"{model.name_or_path}: too little memory on the accelerator to continue {len(batch)} prompts at once; "
                f"{memory_hint}"
            ) from None
        yield dict(zip(batch, continuations, strict=True))


def generate_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    label: str,
    unit: str,
) -> list[GeneratedText]:
    """Continue prompts greedily in batches, and report the progress.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        prompts: Text that may contain special tokens; none are added.
        max_new_tokens: Limit of all continuations, or of each.
        batch_size: Prompts in a batch.
        label: Of the progress.
        unit: Of the progress, as `items`.

    Returns:
        The continuations, in the order of the prompts.
    """
    continuations: dict[int, GeneratedText] = {}
    with track_progress(label, total=len(prompts), unit=unit) as advance:
        for batch in generate_batches(model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size):
            continuations |= batch
            advance(len(batch))
    return [continuations[i] for i in range(len(prompts))]
