"""How fast models read and write, in how much memory, and how much text they can look back on.

Tokens are no measure across vocabularies, characters are. A model's speed in a text is tokens per second, at lengths
that are the same for all models, times the symbols per token of that text: what a weak model happens to write is not in
the measurement. The reference and another model take turns, and each turn has a ratio of its own: a slow minute of the
machine meets both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config.efficiency import Efficiency
from lep.errors import DataError, UsageError
from lep.evaluation.efficiency.compression import densities
from lep.evaluation.efficiency.memory import Footprint, footprint
from lep.evaluation.efficiency.summary import Turns, ledger
from lep.evaluation.efficiency.throughput import measure_rates
from lep.evaluation.tokenize import encode
from lep.io.atomic import once
from lep.modeling.loading import device, load_model, load_tokenizer
from lep.progress import progress


@dataclass(frozen=True)
class _Runner:
    """A model in memory, what it takes there, and what it reads."""

    model: PreTrainedModel
    footprint: Footprint
    prompts: Sequence[Sequence[int]]


def measure_efficiency(
    settings: Efficiency,
    models: Mapping[str, Path],
    texts: Mapping[str, Sequence[str]],
    *,
    reference: str,
    dtype: str,
    out: Path,
) -> dict[str, Any]:
    """All numbers of all models, and their ratios to the reference's: see `ledger`.

    Args:
        models: folders by name.
        texts: documents by the name of the text; `settings.language` is one of them.
        reference: the name of a model.
        dtype: of weights and activations.
        out: keeps the turns of each pair.

    Raises:
        DataError: the text to read is too short.
        TokenizerError: a model cannot write a text.
        UsageError: the prompts do not fit into a model's context, or into memory.
    """
    tokenizers = {name: load_tokenizer(folder) for name, folder in models.items()}
    dense = {name: densities(own, texts, model=name) for name, own in tokenizers.items()}
    prompts = {name: _prompts(own, texts[settings.language], settings, model=name) for name, own in tokenizers.items()}

    @cache  # the reference is loaded once, if at all
    def first() -> _Runner:
        return _load(models[reference], prompts[reference], settings, dtype=dtype)

    def turns(other: str) -> Turns:
        runners = {reference: first()}
        if other != reference:
            runners[other] = _load(models[other], prompts[other], settings, dtype=dtype)
        return _take_turns(runners, settings)

    others = [name for name in models if name != reference] or [reference]
    taken = {other: once(out / f"{other}.json", partial(turns, other)) for other in others}
    return {"settings": _told(settings), **ledger(taken, dense, reference=reference)}


def _prompts(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], settings: Efficiency, *, model: str
) -> list[list[int]]:
    """The beginning of a text, cut into pieces of one length."""
    found = encode(tokenizer, documents, model=model, text=settings.language)
    ids = [id_ for document in found for id_ in document]
    count, length = settings.prompts, settings.prompt_tokens
    if len(ids) < count * length:
        raise DataError(
            f"efficiency: {count} prompts of {length} tokens are to be read, but the text {settings.language!r} has "
            f"only {len(ids)} tokens of {model}; raise evaluate.characters, or lower efficiency.prompt_tokens"
        )
    return [ids[at : at + length] for at in range(0, count * length, length)]


def _load(folder: Path, prompts: Sequence[Sequence[int]], settings: Efficiency, *, dtype: str) -> _Runner:
    """A model that rests: one at a time is on the accelerator."""
    model = load_model(folder, dtype=dtype)
    found, length = footprint(model), settings.prompt_tokens + settings.new_tokens
    if found.positions and found.positions < length:
        raise UsageError(
            f"{folder}: {length} tokens are to be read and written, but the model has {found.positions} positions; "
            "lower efficiency.prompt_tokens or efficiency.new_tokens"
        )
    measure_rates(model, prompts, new_tokens=2)  # the first time, an accelerator compiles and allocates
    return _Runner(_rest(model), found, prompts)


def _take_turns(runners: Mapping[str, _Runner], settings: Efficiency) -> Turns:
    """Who begins alternates, so that neither has the better place."""
    found: Turns = {name: {"footprint": asdict(runner.footprint), "rates": []} for name, runner in runners.items()}
    label = f"speed: {', '.join(runners)}"
    with progress(label, total=settings.rounds * len(runners), unit="turns") as advance:
        for number in range(settings.rounds):
            for name in list(runners)[:: -1 if number % 2 else 1]:
                runner = runners[name]
                with _awake(runner.model):
                    rates = measure_rates(runner.model, runner.prompts, new_tokens=settings.new_tokens)
                found[name]["rates"].append(asdict(rates))
                advance(1)
    return found


@contextmanager
def _awake(model: PreTrainedModel) -> Iterator[None]:
    model.to(device())  # pyright: ignore[reportArgumentType]
    yield
    _rest(model)


def _rest(model: PreTrainedModel) -> PreTrainedModel:
    return model.to("cpu")  # pyright: ignore[reportArgumentType]


def _told(settings: Efficiency) -> dict[str, Any]:
    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    threads = {} if where.type == "cuda" else {"threads": torch.get_num_threads()}
    return {**settings.model_dump(exclude={"texts"}), "device": name, **threads}
