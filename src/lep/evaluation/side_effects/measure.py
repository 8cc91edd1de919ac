"""Measure what an adaptation to one language does to other languages, and to arithmetic and code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.data.document_tokens import get_document_prefix_id
from lep.errors import UsageError
from lep.evaluation.bootstrap import BootstrapEstimate, bootstrap, estimate_fraction
from lep.evaluation.side_effects.probes import build_probes
from lep.evaluation.tokenize import tokenize_documents
from lep.modeling.likelihood import compute_document_bits
from lep.modeling.loading import get_max_position_embeddings
from lep.progress import track_progress
from lep.results.efficiency import ModelSideEffects, SideEffectDifferences, SideEffectResults, TextSize
from lep.results.statistics import Difference, FractionEstimate, MeasuredValue

MAX_CHUNK_CHARACTERS = 1000
"""Longest chunk that is scored without its left context: cut alike for all models and tokenizers."""


@dataclass(frozen=True)
class SideEffectMeasurements:
    """What was measured on one model."""

    bits: dict[str, tuple[float, ...]]
    """Bits of each document, by text."""
    correct: dict[str, tuple[bool, ...]]
    """Whether each item was answered right, by probe."""


def measure_side_effects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], *, model_name: str
) -> SideEffectMeasurements:
    """Measure the bits of each document and the answer to each probe.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        texts: Documents by the name of the text.
        model_name: For progress and errors.

    Returns:
        The measurements, in the order of documents and items.

    Raises:
        TokenizerError: The tokenizer cannot encode a document.
        UsageError: A chunk of a document does not fit into the context of the model.
    """
    bits = {}
    for text, documents in texts.items():
        chunks = [split_into_chunks(document, max_characters=MAX_CHUNK_CHARACTERS) for document in documents]
        bits[text] = tuple(map(sum, _compute_bits(model, tokenizer, chunks, model_name=model_name, text_name=text)))
    correct = {}
    for probe, items in build_probes().items():
        item_bits = _compute_bits(model, tokenizer, items, model_name=model_name, text_name=probe)
        correct[probe] = tuple(map(_is_first_lowest, item_bits))
    return SideEffectMeasurements(bits, correct)


def compare_side_effects(
    measurements: Mapping[str, SideEffectMeasurements],
    texts: Mapping[str, Sequence[str]],
    *,
    reference: str,
    wrong_script: Mapping[str, Mapping[str, Mapping[str, FractionEstimate]]],
) -> SideEffectResults:
    """Summarize each model, and compare it with the reference on the same documents and items.

    Bits per byte are bootstrapped over documents and the differences of probes over items, for both models on the same
    resamples. The accuracy of a probe has Wilson's interval.

    Args:
        measurements: By model.
        texts: Documents by the name of the text.
        reference: Name of the model that the others are compared with.
        wrong_script: Answers in another script than expected by model; see `compute_wrong_script_by_source`.

    Returns:
        The side effects of all models, with differences for all but the reference.
    """
    bits = {name: _estimate_bits_per_byte(model.bits, texts) for name, model in measurements.items()}
    accuracy = {name: _estimate_accuracy(model.correct) for name, model in measurements.items()}
    return SideEffectResults(
        models={
            name: ModelSideEffects(
                bits_per_byte={
                    text: MeasuredValue(estimate.value, estimate.supported_interval)
                    for text, estimate in bits[name].items()
                },
                probes={probe: estimate_fraction(outcomes) for probe, outcomes in model.correct.items()},
                wrong_script=wrong_script.get(name, {}),
            )
            for name, model in measurements.items()
        },
        texts={text: _measure_size(documents) for text, documents in texts.items()},
        differences={
            name: SideEffectDifferences(
                reference=reference,
                bits_per_byte=_compute_differences(bits[name], bits[reference]),
                probes=_compute_differences(accuracy[name], accuracy[reference]),
            )
            for name in measurements
            if name != reference
        },
    )


def split_into_chunks(document: str, *, max_characters: int) -> list[str]:
    """Split a document into chunks of at most `max_characters`, before a space where there is one.

    Args:
        document: Any text.
        max_characters: At least 1.

    Returns:
        The chunks; joined, they are the document.

    Example:
        >>> split_into_chunks("one two three", max_characters=8)
        ['one two', ' three']
    """
    chunks, start = [], 0
    while len(document) - start > max_characters:
        space = document.rfind(" ", start + 1, start + max_characters)
        end = space if space > start else start + max_characters
        chunks.append(document[start:end])
        start = end
    return [*chunks, document[start:]]


def _compute_bits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[str]],
    *,
    model_name: str,
    text_name: str,
) -> list[list[float]]:
    """Compute the bits of each string, in one window each; grouped as given."""
    strings = [string for group in groups for string in group]
    ids = tokenize_documents(tokenizer, strings, model_name=model_name, text_name=text_name)
    longest = max(map(len, ids))
    context = get_max_position_embeddings(model)
    if context and longest > context:
        raise UsageError(
            f"side_effects: {MAX_CHUNK_CHARACTERS} characters of {text_name!r} are {longest} tokens of {model_name}, "
            f"which has only {context} positions; leave the text or the model out"
        )
    with track_progress(f"{model_name}: {text_name}", total=sum(map(len, ids)), unit="tokens") as advance:
        bits = iter(
            compute_document_bits(
                model, ids, prefix_id=get_document_prefix_id(tokenizer), sequence_length=longest, advance=advance
            )
        )
    return [[next(bits) for _ in group] for group in groups]


def _is_first_lowest(bits: Iterable[float]) -> bool:
    """Return whether the first string needs fewer bits than any other."""
    right, *wrong = bits
    return right < min(wrong)


def _estimate_bits_per_byte(
    bits: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[str]]
) -> dict[str, BootstrapEstimate]:
    return {
        text: bootstrap(
            [(value, len(document.encode())) for value, document in zip(values, texts[text], strict=True)],
            _compute_bits_per_byte,
            name=text,
            seed=0,
        )
        for text, values in bits.items()
    }


def _compute_bits_per_byte(units: Sequence[tuple[float, int]]) -> float:
    return sum(bits for bits, _ in units) / sum(size for _, size in units)


def _estimate_accuracy(correct: Mapping[str, Sequence[bool]]) -> dict[str, BootstrapEstimate]:
    return {probe: bootstrap(outcomes, fmean, name=probe, seed=0) for probe, outcomes in correct.items()}


def _compute_differences(
    estimates: Mapping[str, BootstrapEstimate], reference: Mapping[str, BootstrapEstimate]
) -> dict[str, Difference]:
    differences = {key: estimate - reference[key] for key, estimate in estimates.items()}
    return {key: Difference(item.value, item.supported_interval) for key, item in differences.items()}


def _measure_size(documents: Sequence[str]) -> TextSize:
    return TextSize(
        documents=len(documents),
        characters=sum(map(len, documents)),
        bytes=sum(len(document.encode()) for document in documents),
    )
