"""Measure throughput, memory and context length of models, against a reference.

Tokens cannot be compared between vocabularies, characters can. The speed of a model on a text is its tokens per second,
at prompt and output lengths that are the same for all models, times its characters per token on that text. What the
model generates has no influence. The reference and another model are measured by turns and each round has its own
ratio, so that a slow minute of the machine affects both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config.efficiency import EfficiencySettings
from lep.errors import DataError, UsageError
from lep.evaluation.efficiency.compression import measure_compression
from lep.evaluation.efficiency.memory import measure_memory, read_context_length
from lep.evaluation.efficiency.summary import ModelMeasurements, PairMeasurements, summarize_efficiency
from lep.evaluation.efficiency.throughput import Throughput, measure_throughput
from lep.evaluation.saved_measurements import load_or_measure
from lep.evaluation.tokenize import tokenize_documents
from lep.modeling.loading import get_device, load_model, load_tokenizer
from lep.progress import track_progress
from lep.results.efficiency import ContextLength, EfficiencyResults, MemorySummary, ThroughputProtocol


@dataclass(frozen=True)
class _LoadedModel:
    """A model in the memory of the CPU, and what it is measured with."""

    model: PreTrainedModel
    memory: MemorySummary
    context: ContextLength
    prompts: Sequence[Sequence[int]]


def measure_efficiency(
    settings: EfficiencySettings,
    models: Mapping[str, Path],
    texts: Mapping[str, Sequence[str]],
    *,
    reference: str,
    dtype: str,
    out: Path,
) -> EfficiencyResults:
    """Measure all models and compare them with the reference; see `summarize_efficiency`.

    Args:
        settings: Text, batch size and lengths of the prompts, and number of rounds.
        models: Folders by name.
        texts: Documents by the name of the text, among them `settings.language`.
        reference: Name of a model.
        dtype: Of weights and activations.
        out: Folder that keeps the measurements of each pair.

    Returns:
        The efficiency of all models, with ratios for all but the reference.

    Raises:
        DataError: The text of the prompts is too short.
        TokenizerError: The tokenizer of a model cannot encode a text.
        UsageError: The prompts do not fit into the context of a model, or into memory.
    """
    tokenizers = {name: load_tokenizer(folder) for name, folder in models.items()}
    compression = {
        name: measure_compression(tokenizer, texts, model_name=name) for name, tokenizer in tokenizers.items()
    }
    prompts = {
        name: _build_prompts(tokenizer, texts[settings.language], settings, model_name=name)
        for name, tokenizer in tokenizers.items()
    }

    @cache  # the reference is loaded once, if at all
    def load_reference() -> _LoadedModel:
        return _load_and_warm_up(models[reference], prompts[reference], settings, dtype=dtype)

    def measure_pair(name: str) -> PairMeasurements:
        pair = {reference: load_reference()}
        if name != reference:
            pair[name] = _load_and_warm_up(models[name], prompts[name], settings, dtype=dtype)
        return _measure_alternating(pair, settings)

    measurements = {
        name: load_or_measure(out / f"{name}.json", PairMeasurements, partial(measure_pair, name))
        for name in [name for name in models if name != reference] or [reference]
    }
    protocol = _describe_protocol(settings)
    return summarize_efficiency(measurements, compression, reference=reference, protocol=protocol)


def _build_prompts(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], settings: EfficiencySettings, *, model_name: str
) -> list[list[int]]:
    """Cut the beginning of a text into prompts of one length."""
    tokenized = tokenize_documents(tokenizer, documents, model_name=model_name, text_name=settings.language)
    ids = [id_ for document in tokenized for id_ in document]
    count, length = settings.batch_size, settings.prompt_tokens
    if len(ids) < count * length:
        raise DataError(
            f"efficiency: {count} prompts of {length} tokens are needed, but the text {settings.language!r} has only "
            f"{len(ids)} tokens of {model_name}; raise evaluate.heldout_characters, or lower efficiency.prompt_tokens"
        )
    return [ids[start : start + length] for start in range(0, count * length, length)]


def _load_and_warm_up(
    model_folder: Path, prompts: Sequence[Sequence[int]], settings: EfficiencySettings, *, dtype: str
) -> _LoadedModel:
    """Load a model and leave it on the CPU, so that the accelerator holds one model at a time."""
    model = load_model(model_folder, dtype=dtype)
    memory, context = measure_memory(model), read_context_length(model)
    length = settings.prompt_tokens + settings.generated_tokens
    if context.tokens and context.tokens < length:
        raise UsageError(
            f"{model_folder}: prompts and output have {length} tokens, but the model has {context.tokens} positions; "
            "lower efficiency.prompt_tokens or efficiency.generated_tokens"
        )
    measure_throughput(model, prompts, new_tokens=2)  # the first time, an accelerator compiles and allocates
    return _LoadedModel(_move_to_cpu(model), memory, context, prompts)


def _measure_alternating(models: Mapping[str, _LoadedModel], settings: EfficiencySettings) -> PairMeasurements:
    """Measure by turns; the order alternates, so that neither model has the better place."""
    throughput: dict[str, list[Throughput]] = {name: [] for name in models}
    label = f"speed: {', '.join(models)}"
    with track_progress(label, total=settings.rounds * len(models), unit="turns") as advance:
        for number in range(settings.rounds):
            for name in list(models)[:: -1 if number % 2 else 1]:
                loaded = models[name]
                with _on_accelerator(loaded.model):
                    throughput[name].append(
                        measure_throughput(loaded.model, loaded.prompts, new_tokens=settings.generated_tokens)
                    )
                advance(1)
    return {
        name: ModelMeasurements(loaded.memory, loaded.context, tuple(throughput[name]))
        for name, loaded in models.items()
    }


@contextmanager
def _on_accelerator(model: PreTrainedModel) -> Iterator[None]:
    model.to(get_device())  # pyright: ignore[reportArgumentType]
    yield
    _move_to_cpu(model)


def _move_to_cpu(model: PreTrainedModel) -> PreTrainedModel:
    return model.to("cpu")  # pyright: ignore[reportArgumentType]


def _describe_protocol(settings: EfficiencySettings) -> ThroughputProtocol:
    device = get_device()
    on_accelerator = device.type == "cuda"
    return ThroughputProtocol(
        **settings.model_dump(exclude={"texts"}),
        device=torch.cuda.get_device_name(device) if on_accelerator else "cpu",
        threads=None if on_accelerator else torch.get_num_threads(),
    )
