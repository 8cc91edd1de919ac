"""Render conversations by a chat template, and find the tokens of the answers.

A template can mark answers by `{% generation %}`; then those marks decide. Otherwise an answer is what the template
writes between the generation prompt and the end of the assistant's turn, end-of-turn tokens included. That needs a
template that renders the beginning of a conversation as a prefix of the whole. With other templates, such as those that
remove the reasoning from earlier answers, only the last answer is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

from lep.data.conversations import Conversation
from lep.errors import DataError, TokenizerError

Span = tuple[int, int]
"""Start and end."""

_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MAX_ERROR_CHARACTERS = 200


@dataclass(frozen=True)
class TokenizedConversation:
    """A conversation as text and as tokens."""

    text: str
    input_ids: list[int]
    answer_spans: tuple[Span, ...]
    """Tokens of each answer that is trained on."""
    misaligned_answers: int
    """Answers whose first token begins before the answer."""

    @property
    def assistant_masks(self) -> list[int]:
        """Return 1 for each token that carries loss, else 0, as trl's `assistant_masks`."""
        mask = [0] * len(self.input_ids)
        for start, end in self.answer_spans:
            mask[start:end] = [1] * (end - start)
        return mask


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    source: str,
) -> str:
    """Render messages as text by the tokenizer's chat template.

    Args:
        tokenizer: Has a chat template.
        messages: `role` and `content` of each.
        add_generation_prompt: End with what begins an assistant's turn.
        source: Where the conversation is from, for errors: `data.jsonl:7`.

    Returns:
        The text, special tokens included.

    Raises:
        DataError: The template raises an error; it names the source, the tokenizer and the template's own message.
    """
    return str(
        _apply_template(tokenizer, messages, source=source, tokenize=False, add_generation_prompt=add_generation_prompt)
    )


def tokenize_conversation(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> TokenizedConversation:
    """Render and tokenize a conversation, and find its answers.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        conversation: Ends on the assistant.

    Returns:
        Text, ids and the spans of the answers.

    Raises:
        TokenizerError: There is no chat template, or the tokenizer is not a fast one.
        DataError: The template raises an error, or marks another number of answers than the conversation has.
    """
    template = tokenizer.get_chat_template() if tokenizer.chat_template else ""
    if not template:
        raise TokenizerError(f"{tokenizer.name_or_path}: the tokenizer has no chat template to render conversations")
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"{tokenizer.name_or_path}: the tokenizer gives no character offsets of its tokens; save it as a "
            "tokenizer.json"
        )
    text = render_chat(tokenizer, conversation.chat_messages, add_generation_prompt=False, source=conversation.place)
    encoding: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoding["input_ids"]
    answer_indices = [i for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    trained_indices = [i for i in answer_indices if i >= conversation.first_trained_message]
    if _GENERATION_TAG.search(template):
        marked = _find_marked_spans(tokenizer, conversation, num_answers=len(answer_indices))
        trained = marked[len(answer_indices) - len(trained_indices) :]
        return TokenizedConversation(text, ids, tuple(trained), misaligned_answers=0)
    spans = _find_unmarked_spans(tokenizer, conversation, text, trained_indices)
    offsets: list[Span] = encoding["offset_mapping"]
    misaligned = sum(any(start < answer_start < end for start, end in offsets) for answer_start, _ in spans)
    return TokenizedConversation(text, ids, tuple(_to_token_span(span, offsets) for span in spans), misaligned)


def _find_marked_spans(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, num_answers: int
) -> list[Span]:
    """Return the runs of tokens that the template marks, one for each answer."""
    encoding = _apply_template(
        tokenizer,
        conversation.chat_messages,
        source=conversation.place,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    spans: list[Span] = []
    start = 0
    for is_answer, run in groupby(encoding["assistant_masks"]):
        length = len(list(run))
        if is_answer:
            spans.append((start, start + length))
        start += length
    if len(spans) != num_answers:
        raise DataError(
            f"{conversation.place}: the chat template marks {len(spans)} answers by `generation`, the conversation has "
            f"{num_answers}; correct the template, or remove the marks from it"
        )
    return spans


def _find_unmarked_spans(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, text: str, answer_indices: Sequence[int]
) -> list[Span]:
    """Return the characters of each answer; of the last one only, if a prefix of the messages is rendered otherwise."""
    messages, source = conversation.chat_messages, conversation.place
    spans: list[Span] = []
    for i in answer_indices:
        prompt = render_chat(tokenizer, messages[:i], add_generation_prompt=True, source=source)
        if i == len(messages) - 1:
            return [*spans, (_common_prefix_length(prompt, text), len(text))]
        answered = render_chat(tokenizer, messages[: i + 1], add_generation_prompt=False, source=source)
        if text.startswith(prompt) and text.startswith(answered):
            spans.append((len(prompt), len(answered)))
        else:
            return _find_unmarked_spans(tokenizer, conversation, text, answer_indices[-1:])
    return spans


def _common_prefix_length(first: str, second: str) -> int:
    return next((i for i, pair in enumerate(zip(first, second, strict=False)) if len(set(pair)) > 1), len(first))


def _to_token_span(span: Span, offsets: Sequence[Span]) -> Span:
    """Return the tokens that begin inside a span of characters."""
    inside = [i for i, (start, _) in enumerate(offsets) if span[0] <= start < span[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _apply_template(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, source: str, **options: Any
) -> Any:
    try:
        return tokenizer.apply_chat_template([dict(message) for message in messages], **options)
    except Exception as error:  # a template is a program and can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:_MAX_ERROR_CHARACTERS]}"
        if messages and messages[0].get("role") == "system":
            remedy = "it may not support system messages: put their text into the first user message"
        else:
            remedy = "correct the template"
        raise DataError(
            f"{source}: the chat template of {tokenizer.name_or_path} refuses this conversation ({reason}); {remedy}, "
            "or leave such conversations out"
        ) from None
