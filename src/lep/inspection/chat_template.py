"""The chat template: whether it renders, its marks are tokens, and an answer ends where generation stops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lep.inspection.findings import Fact, Finding, Folder, Problem, Remark, first_line, named
from lep.inspection.special_ids import ends

_QUESTION, _ANSWER = "Какая сегодня погода?", "It is sunny."
_TURNS = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
_NEXT = {"role": "user", "content": "Thanks, bye!"}

_MARK = re.compile(r"<\|[^<>|\s]+\|>|<｜[^<>\s]+｜>|</?[a-z][a-z_]*>|\[/?[A-Z_]+\]")
"""How special tokens are spelt: `<|im_end|>`, `</s>`, `<start_of_turn>`, `[/INST]`."""


def about_template(folder: Folder) -> Iterator[Finding]:
    """Render a short conversation, and read it as the model will."""
    tokenizer = folder.loaded
    group, name = "chat", "template"
    if not tokenizer.chat_template:
        yield Fact(group, name, "none")
        return
    try:
        answered = tokenizer.apply_chat_template(_TURNS, tokenize=False)
        asked = tokenizer.apply_chat_template([*_TURNS, _NEXT], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of its own
        yield Problem(f"the chat template does not render a user, an assistant and a user: {first_line(error)}")
        return
    marks = list(dict.fromkeys(_MARK.findall(asked)))
    yield Fact(group, name, "renders" + (f", with {' '.join(marks)}" if marks else ", without special tokens"))
    yield from _pieces(marks, folder)
    yield from _reversed(asked, tokenizer)
    yield from _end(answered.rpartition(_ANSWER)[2], folder)


def _pieces(marks: list[str], folder: Folder) -> Iterator[Finding]:
    """Marks that are no tokens."""
    for mark in marks:
        if mark not in folder.tokenizer.added and folder.tokenizer.tokenizer.token_to_id(mark) is None:
            ids = folder.loaded.encode(mark, add_special_tokens=False)
            yield Remark(f"the chat template writes {mark}, which is no token: it is read in {len(ids)} pieces")


def _reversed(text: str, tokenizer: Any) -> Iterator[Finding]:
    """Whether the conversation's ids spell it."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text:
        at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
        yield Remark(
            f"a conversation does not come back from its ids: {text[at - 10 : at + 20]!r} became "
            f"{back[at - 10 : at + 20]!r}"
        )


def _end(after: str, folder: Folder) -> Iterator[Finding]:
    """Whether generation stops where the template ends an answer."""
    added = folder.tokenizer.added
    marks = [(after.find(text), added[text]) for text in added if text and text in after]
    stops = ends(folder)
    if not marks:
        yield Remark("the chat template ends an answer with no special token, so that generation cannot stop there")
        return
    _, end = min(marks)
    end_name = named(end, folder.tokenizer.vocabulary)
    yield Fact("chat", "answers end with", end_name)
    if stops and end not in stops:
        yield Remark(
            f"the chat template ends an answer with {end_name}, at which generation does not stop (it does at "
            f"{', '.join(map(str, stops))}); add {end} to eos_token_id in generation_config.json"
        )
