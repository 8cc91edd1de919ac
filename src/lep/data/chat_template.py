"""A conversation as a model's chat template writes it: its token ids, and which of them are learnt.

Where the template marks answers by `{% generation %}`, those marks say what is learnt. Elsewhere an answer is what the
template writes after the prompt for it, up to where its turn ends, marks of the end included. That needs a template
which writes the beginning of a conversation as it writes the whole; with one that does not (as those which cut thoughts
out of earlier answers), the last answer alone is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

from lep.data.conversations import Conversation, Message, turns
from lep.errors import DataError, TokenizerError

Span = tuple[int, int]

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Rendered:
    """A conversation in tokens."""

    text: str
    ids: list[int]
    answers: tuple[Span, ...]
    """Where answers that are learnt begin and end, in tokens."""
    crossed: int
    """Answers whose beginning shares a token with what stands before it."""

    @property
    def learnt(self) -> list[int]:
        """1 where a token carries loss, else 0: what trl calls `assistant_masks`."""
        mask = [0] * len(self.ids)
        for start, end in self.answers:
            mask[start:end] = [1] * (end - start)
        return mask


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Rendered:
    """Write a conversation by the tokenizer's chat template, and tell the answers in it.

    Raises:
        TokenizerError: there is no chat template, or the tokenizer cannot tell where its tokens stand in a text.
        DataError: the template refuses the conversation, or marks other answers than it has; the message names the row.
    """
    template = tokenizer.get_chat_template() if tokenizer.chat_template else ""
    if not template:
        raise TokenizerError(
            f"{tokenizer.name_or_path}: its tokenizer has no chat template to write conversations with"
        )
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"{tokenizer.name_or_path}: its tokenizer does not tell where its tokens stand in a text; save it as a "
            "tokenizer.json"
        )
    messages = conversation.messages
    text = _written(tokenizer, messages, place=conversation.place)
    read: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    asked = [i for i, message in enumerate(messages) if message.role == "assistant"]
    wanted = [i for i in asked if i >= conversation.first_answer]
    if _MARKED.search(template):
        marked = _marked(tokenizer, conversation, answers=len(asked))
        return Rendered(text, read["input_ids"], tuple(marked[len(asked) - len(wanted) :]), crossed=0)
    spans = _unmarked(tokenizer, conversation, text, wanted)
    offsets: list[Span] = read["offset_mapping"]
    crossed = sum(any(start < begin < end for start, end in offsets) for begin, _ in spans)
    return Rendered(text, read["input_ids"], tuple(_in_tokens(span, offsets) for span in spans), crossed)


def _marked(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, answers: int) -> list[Span]:
    """Runs of tokens that the template marks, one an answer."""
    read: Any = tokenizer.apply_chat_template(
        conversation.turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    spans: list[Span] = []
    at = 0
    for learnt, run in groupby(read["assistant_masks"]):
        length = len(list(run))
        if learnt:
            spans.append((at, at + length))
        at += length
    if len(spans) != answers:
        raise DataError(
            f"{conversation.place}: the chat template marks {len(spans)} answers by `generation`, the conversation has "
            f"{answers}; correct the template, or take the marks out of it"
        )
    return spans


def _unmarked(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, text: str, wanted: Sequence[int]
) -> list[Span]:
    """Where the wanted answers begin and end in the text; of the last alone, where beginnings are written otherwise."""
    messages, place = conversation.messages, conversation.place
    spans: list[Span] = []
    for i in wanted:
        before = _written(tokenizer, messages[:i], place=place, asks=True)
        if i == len(messages) - 1:
            return [*spans, (_same(before, text), len(text))]
        after = _written(tokenizer, messages[: i + 1], place=place)
        if text.startswith(before) and text.startswith(after):
            spans.append((len(before), len(after)))
        else:
            return _unmarked(tokenizer, conversation, text, wanted[-1:])
    return spans


def _same(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))


def _in_tokens(span: Span, offsets: Sequence[Span]) -> Span:
    """The tokens that begin inside a span of characters."""
    inside = [i for i, (start, _) in enumerate(offsets) if span[0] <= start < span[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _written(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, place: str, asks: bool = False) -> str:
    """What the template makes of messages; `DataError` with its own words when it refuses them.

    Args:
        tokenizer: has the template.
        messages: the beginning of a conversation.
        place: of the conversation.
        asks: whether the beginning of an answer is written after them.
    """
    try:
        return str(tokenizer.apply_chat_template(turns(messages), tokenize=False, add_generation_prompt=asks))
    except Exception as error:  # a template is a program of its own
        words = " ".join(str(error).split())[:200]
        if messages[0].role == "system":
            remedy = (
                "it may not know system messages: put their text into the first user message, or leave such rows out"
            )
        else:
            remedy = "leave such rows out, or correct the template"
        raise DataError(f"{place}: the chat template refuses this conversation ({words}); {remedy}") from None
