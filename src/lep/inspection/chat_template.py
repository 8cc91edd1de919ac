"""Check the chat template: it renders, its markers are tokens, and generation stops at the end of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lep.data.chat_template import render_chat
from lep.errors import DataError
from lep.inspection.findings import (
    GENERATION_CONFIG,
    Fact,
    Finding,
    InspectedFolder,
    Problem,
    Remark,
    find_first_difference,
    format_token,
)
from lep.inspection.special_ids import read_eos_token_ids

_QUESTION, _ANSWER = "Какая сегодня погода?", "It is sunny."
_MESSAGES = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
_NEXT_MESSAGE = {"role": "user", "content": "Thanks, bye!"}

_SPECIAL_TOKEN_PATTERN = re.compile(r"<\|[^<>|\s]+\|>|<｜[^<>\s]+｜>|</?[a-z][a-z_]*>|\[/?[A-Z_]+\]")
"""Texts that look like special tokens: `<|im_end|>`, `</s>`, `<start_of_turn>`, `[/INST]`."""


def check_chat_template(folder: InspectedFolder) -> Iterator[Finding]:
    """Render a short conversation and tokenize it."""
    tokenizer = folder.transformers_tokenizer
    group, name = "chat", "template"
    if not tokenizer.chat_template:
        yield Fact(group, name, "none")
        return
    source = "user, assistant, user"
    try:
        answered = render_chat(tokenizer, _MESSAGES, add_generation_prompt=False, source=source)
        prompt = render_chat(tokenizer, [*_MESSAGES, _NEXT_MESSAGE], add_generation_prompt=True, source=source)
    except DataError as error:
        yield Problem(f"the chat template does not render: {error}")
        return
    markers = list(dict.fromkeys(_SPECIAL_TOKEN_PATTERN.findall(prompt)))
    yield Fact(group, name, "renders, " + (f"with {' '.join(markers)}" if markers else "without special tokens"))
    yield from _check_markers(markers, folder)
    yield from _check_round_trip(prompt, tokenizer)
    yield from _check_answer_end(answered.rpartition(_ANSWER)[2], folder)


def _check_markers(markers: list[str], folder: InspectedFolder) -> Iterator[Finding]:
    """Check that each marker is a token."""
    for marker in markers:
        if marker not in folder.tokenizer.added_tokens and folder.tokenizer.tokenizer.token_to_id(marker) is None:
            ids = folder.transformers_tokenizer.encode(marker, add_special_tokens=False)
            yield Remark(f"the chat template writes {marker}, which is not a token: it is split into {len(ids)}")


def _check_round_trip(text: str, tokenizer: Any) -> Iterator[Finding]:
    """Check that decoding the ids of a conversation gives its text."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if decoded != text:
        start = find_first_difference(text, decoded)
        span = slice(max(start - 10, 0), start + 20)
        yield Remark(f"decoding a tokenized conversation does not give its text: {text[span]!r} → {decoded[span]!r}")


def _check_answer_end(text_after_answer: str, folder: InspectedFolder) -> Iterator[Finding]:
    """Check that generation stops where the template ends an answer."""
    added = folder.tokenizer.added_tokens
    ends = [(text_after_answer.find(text), added[text]) for text in added if text and text in text_after_answer]
    stop_ids = read_eos_token_ids(folder)
    if not ends:
        yield Remark("the chat template ends an answer without a special token, so generation cannot stop there")
        return
    _, end_id = min(ends)
    end_token = format_token(end_id, folder.tokenizer.vocabulary)
    yield Fact("chat", "answers end with", end_token)
    if stop_ids and end_id not in stop_ids:
        yield Remark(
            f"generation does not stop at {end_token}, with which the chat template ends an answer (it stops at "
            f"{', '.join(map(str, stop_ids))}); add {end_id} to eos_token_id in {GENERATION_CONFIG}"
        )
