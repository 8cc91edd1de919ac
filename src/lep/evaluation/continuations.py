"""Let models continue the beginnings of held-out texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.evaluation.skills import BATCH_SIZE, EXAMPLES_PER_GROUP
from lep.modeling.generation import generate_all
from lep.results.evaluation import GeneratedText, PromptContinuations

MAX_PROMPT_CHARACTERS, MAX_NEW_TOKENS = 120, 64
"""Limits of a prompt and of its continuation."""


@dataclass(frozen=True)
class ContinuationPrompt:
    """The beginning of a text in a language."""

    language: str
    prompt: str


def build_continuation_prompts(
    texts: Mapping[str, Sequence[str]], *, prompts_per_language: int
) -> list[ContinuationPrompt]:
    """Return the beginnings of the longest documents of each language, cut after a word.

    Args:
        texts: Documents by language.
        prompts_per_language: At most how many.

    Returns:
        The prompts, language by language.

    Example:
        >>> build_continuation_prompts({"en": ["a short text", "short"]}, prompts_per_language=1)
        [ContinuationPrompt(language='en', prompt='a short')]
    """
    return [
        ContinuationPrompt(language, document[:MAX_PROMPT_CHARACTERS].rsplit(" ", 1)[0])
        for language, documents in texts.items()
        for document in sorted(documents, key=len, reverse=True)[:prompts_per_language]
    ]


def generate_continuations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, continuation_prompts: Sequence[ContinuationPrompt]
) -> list[GeneratedText]:
    """Continue each prompt greedily, as plain text.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model. Its chat template is not used, and no special token is added.
        continuation_prompts: What to continue.

    Returns:
        The continuations, in the order of the prompts.
    """
    return generate_all(
        model,
        tokenizer,
        [item.prompt for item in continuation_prompts],
        max_new_tokens=MAX_NEW_TOKENS,
        batch_size=BATCH_SIZE,
        label="continuing texts",
        unit="texts",
    )


def compare_continuations(
    continuation_prompts: Sequence[ContinuationPrompt], continuations: Mapping[str, Sequence[GeneratedText]]
) -> tuple[PromptContinuations, ...]:
    """Return the first prompts of each language with the continuations of all models, which are given by model."""
    count: Counter[str] = Counter()
    rows = []
    for i, item in enumerate(continuation_prompts):
        count[item.language] += 1
        if count[item.language] <= EXAMPLES_PER_GROUP:
            outputs = {name: outputs[i] for name, outputs in continuations.items()}
            rows.append(PromptContinuations(language=item.language, prompt=item.prompt, outputs=outputs))
    return tuple(rows)
