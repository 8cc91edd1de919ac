"""What became of other languages, and of arithmetic and code, in models that were adapted to one language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.data.document_tokens import document_prefix
from lep.errors import UsageError
from lep.evaluation.bootstrap import Estimate, estimate, share, with_interval
from lep.evaluation.side_effects.probes import probes
from lep.evaluation.tokenize import encode
from lep.modeling.likelihood import document_bits
from lep.modeling.loading import positions
from lep.progress import progress

PIECE = 1000
"""Characters that are predicted without those before them, at the most: cut alike for all models and tokens."""


def measure_side_effects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], *, name: str
) -> dict[str, Any]:
    """What one model does, unit by unit: bits of each document by text (`bits`), right answers by probe (`right`).

    Args:
        texts: documents by the name of the text.
        name: of the model, for progress and errors.

    Raises:
        TokenizerError: it cannot write a text.
        UsageError: a piece of a text does not fit into its context.
    """
    bits = {}
    for text, documents in texts.items():
        cut = [pieces(document, characters=PIECE) for document in documents]
        flat = iter(_bits(model, tokenizer, [piece for own in cut for piece in own], name=name, text=text))
        bits[text] = [sum(next(flat) for _ in own) for own in cut]
    right = {}
    for probe, items in probes().items():
        flat = iter(_bits(model, tokenizer, [option for item in items for option in item], name=name, text=probe))
        right[probe] = [_is_least(next(flat) for _ in item) for item in items]
    return {"bits": bits, "right": right}


def compare_side_effects(
    found: Mapping[str, Mapping[str, Any]], texts: Mapping[str, Sequence[str]], *, reference: str
) -> dict[str, Any]:
    """What is told of what `measure_side_effects` found: by model, and paired with the reference.

    Bits per byte are bootstrapped over documents, and their differences on the same draws; so are the differences of
    probes, over items. The shares themselves have Wilson's interval.
    """
    bits = {name: _bits_per_byte(one["bits"], texts) for name, one in found.items()}
    right = {name: _shares(one["right"]) for name, one in found.items()}
    return {
        "texts": {text: _size(documents) for text, documents in texts.items()},
        "models": {
            name: {
                "bits_per_byte": {text: with_interval(part, "value") for text, part in bits[name].items()},
                "probes": {probe: share(marks) for probe, marks in found[name]["right"].items()},
            }
            for name in found
        },
        "differences": {
            name: {
                "against": reference,
                "bits_per_byte": _less(bits[name], bits[reference]),
                "probes": _less(right[name], right[reference]),
            }
            for name in found
            if name != reference
        },
    }


def pieces(document: str, *, characters: int) -> list[str]:
    """A document in pieces of so many characters at the most, cut before a space where there is one."""
    found, at = [], 0
    while len(document) - at > characters:
        cut = document.rfind(" ", at + 1, at + characters)
        end = cut if cut > at else at + characters
        found.append(document[at:end])
        at = end
    return [*found, document[at:]]


def _bits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], *, name: str, text: str
) -> list[float]:
    """Of each document, in one window."""
    ids = encode(tokenizer, documents, model=name, text=text)
    longest = max(map(len, ids))
    room = positions(model)
    if room and longest > room:
        raise UsageError(
            f"side_effects: {PIECE} characters of {text!r} are {longest} tokens of {name}, which has only {room} "
            "positions; leave the text or the model out"
        )
    with progress(f"{name}: {text}", total=sum(map(len, ids)), unit="tokens") as advance:
        return document_bits(model, ids, prefix=document_prefix(tokenizer), block=longest, advance=advance)


def _is_least(bits: Iterable[float]) -> bool:
    """Whether the first needs fewer bits than any other."""
    right, *wrong = bits
    return right < min(wrong)


def _bits_per_byte(bits: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[str]]) -> dict[str, Estimate]:
    return {
        text: estimate(
            [(own, len(document.encode())) for own, document in zip(found, texts[text], strict=True)],
            _per_byte,
            task=text,
            seed=0,
        )
        for text, found in bits.items()
    }


def _per_byte(units: Sequence[tuple[float, int]]) -> float:
    return sum(bits for bits, _ in units) / sum(size for _, size in units)


def _shares(right: Mapping[str, Sequence[bool]]) -> dict[str, Estimate]:
    return {probe: estimate(marks, fmean, task=probe, seed=0) for probe, marks in right.items()}


def _less(ours: Mapping[str, Estimate], theirs: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {key: with_interval(part - theirs[key], "difference") for key, part in ours.items()}


def _size(documents: Sequence[str]) -> dict[str, int]:
    return {
        "documents": len(documents),
        "characters": sum(map(len, documents)),
        "bytes": sum(len(document.encode()) for document in documents),
    }
