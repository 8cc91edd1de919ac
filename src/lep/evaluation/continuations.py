"""What models write when they go on with the openings of held-out texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.evaluation.skills import BATCH, SHOWN
from lep.modeling.generation import Answer, generate
from lep.progress import progress

OPENING, LENGTH = 120, 64
"""Characters of an opening, and tokens of a continuation, at the most."""


@dataclass(frozen=True)
class Opening:
    """The beginning of a text in a language."""

    language: str
    prompt: str


def openings(texts: Mapping[str, Sequence[str]], *, count: int) -> list[Opening]:
    """The beginnings of the longest documents of each language, cut after a word."""
    return [
        Opening(language, document[:OPENING].rsplit(" ", 1)[0])
        for language, documents in texts.items()
        for document in sorted(documents, key=len, reverse=True)[:count]
    ]


def continue_openings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, found: Sequence[Opening]
) -> list[Answer]:
    """Greedily, as plain text: no chat template, and nothing before the opening."""
    answers: list[Answer] = []
    with progress("continuing texts", total=len(found), unit="texts") as advance:
        for at in range(0, len(found), BATCH):
            prompts = [opening.prompt for opening in found[at : at + BATCH]]
            answers += generate(model, tokenizer, prompts, longest=LENGTH)
            advance(len(prompts))
    return answers


def shown(found: Sequence[Opening], answers: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The first openings of each language, with every model's continuation."""
    places = {opening.language: 0 for opening in found}
    rows = []
    for i, opening in enumerate(found):
        places[opening.language] += 1
        if places[opening.language] <= SHOWN:
            rows.append({**asdict(opening), "texts": {name: own[i] for name, own in answers.items()}})
    return rows
