"""Before tuning: what would ruin the run, found in the conversations as the model will read them.

An error is what leaves nothing worth training. The rest is counted, so that the room can leave rows out and tell it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from lep.core.table_rows import Rows
from lep.core.untrained_rows import untrained_ids
from lep.data.chat_template import Rendered, Span
from lep.data.contamination import Leak, find_leaks
from lep.data.conversations import Conversation
from lep.errors import CheckpointError, DataError, TokenizerError

SHOWN = 3
"""Places that a remark names."""


@dataclass(frozen=True)
class Checked:
    """What the checks counted."""

    remarks: tuple[str, ...]
    """Each in one sentence."""
    too_long: tuple[str, ...]
    """Places of conversations whose answers the limit of length would cut."""
    leaks: tuple[Leak, ...]
    """Texts of evaluations that stand in the data."""
    untrained: Mapping[str, tuple[str, ...]]
    """By table, special tokens in the conversations whose rows were never trained."""


def check_instructions(
    conversations: Sequence[Conversation],
    rendered: Sequence[Rendered],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stops: Collection[int],
    maximum_length: int,
    tables: Mapping[str, Rows],
    frozen: Collection[str],
    evaluations: Mapping[str, Sequence[str]],
) -> Checked:
    """Check conversations and what `render` made of them.

    Args:
        conversations, rendered: to train on, as they are and as the tokenizer's template writes them.
        tokenizer: of the model.
        stops: ids at which the model's generation stops.
        maximum_length: tokens of a conversation that are trained on.
        tables: the model's `embed` and `head`.
        frozen: those of them that do not learn.
        evaluations: texts that the model will be measured with, by the evaluation's name.

    Raises:
        DataError: the template drops or repeats messages, or every conversation is too long.
        TokenizerError: no answer ends with a token at which generation stops.
        CheckpointError: a special token in the conversations has an untrained row in a table that does not learn.
    """
    _check_template(tokenizer, conversations)
    too_long = tuple(c.place for c, row in zip(conversations, rendered, strict=True) if len(row.ids) > maximum_length)
    untrained = _untrained(rendered, tokenizer=tokenizer, tables=tables, frozen=frozen)
    leaks = tuple(find_leaks(conversations, evaluations))
    remarks = (
        _about_lengths(too_long, rendered, maximum_length=maximum_length),
        _about_ends(conversations, rendered, tokenizer=tokenizer, stops=stops),
        *_about_answers(conversations, rendered),
        _about_marks(conversations, tokenizer),
        *(f"{table}: never trained, and learnt only now: {', '.join(tokens)}" for table, tokens in untrained.items()),
        *_about_leaks(leaks, evaluations),
    )
    return Checked(tuple(filter(None, remarks)), too_long, leaks, untrained)


def _check_template(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> None:
    """Whether the template writes every message once, by messages like no other in each order of roles that occurs."""
    for conversation in {tuple(m.role for m in c.messages): c for c in reversed(conversations)}.values():
        roles = [message.role for message in conversation.messages]
        marks = [f"marker {i} of lep." for i in range(len(roles))]
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        for role, mark in zip(roles, marks, strict=True):
            if (times := text.count(mark)) != 1:
                does = "drops" if not times else f"writes {times} times"
                raise DataError(
                    f"{conversation.place}: the chat template {does} a message of role {role!r} in a conversation of "
                    f"{', '.join(roles)}; use a template that knows such conversations, or leave them out"
                )


def _about_lengths(too_long: Sequence[str], rendered: Sequence[Rendered], *, maximum_length: int) -> str:
    if not too_long:
        return ""
    longest = max(len(row.ids) for row in rendered)
    if len(too_long) == len(rendered):
        raise DataError(
            f"every conversation is longer than maximum_length={maximum_length} tokens, the shortest has "
            f"{min(len(row.ids) for row in rendered)}; raise it"
        )
    return (
        f"{len(too_long)} of {len(rendered)} conversations are longer than maximum_length={maximum_length} tokens, so "
        f"that their answers would be cut (the longest has {longest}): {_first(too_long)}"
    )


def _about_ends(
    conversations: Sequence[Conversation],
    rendered: Sequence[Rendered],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stops: Collection[int],
) -> str:
    """Whether answers are learnt together with a token that ends generation."""
    answers = [(c.place, row, span) for c, row in zip(conversations, rendered, strict=True) for span in row.answers]
    endless = [answer for answer in answers if not set(stops) & set(answer[1].ids[slice(*answer[2])])]
    if not endless:
        return ""
    if len(endless) == len(answers):
        _, row, span = endless[-1]
        raise TokenizerError(f"no answer would teach the model to stop: {_why_endless(row, span, tokenizer, stops)}")
    places = list(dict.fromkeys(place for place, _, _ in endless))
    return f"{len(endless)} of {len(answers)} answers are learnt without a token that ends generation: {_first(places)}"


def _why_endless(row: Rendered, span: Span, tokenizer: PreTrainedTokenizerBase, stops: Collection[int]) -> str:
    added = tokenizer.added_tokens_decoder
    after = next((id_ for id_ in row.ids[span[1] : span[1] + 2] if id_ in added), None)
    last = next((id_ for id_ in reversed(row.ids[slice(*span)]) if id_ in added), None)
    names = ", ".join(f"{id_} {_named(tokenizer, id_)}" for id_ in sorted(stops)) or "no token"
    if after is not None and after in stops:
        return (
            f"{_named(tokenizer, after)} stands after the answers, outside of what the chat template marks as "
            "`generation`; let the marks include it"
        )
    if last is not None:
        return (
            f"the chat template ends answers with {_named(tokenizer, last)}, generation stops at {names}; add {last} "
            "to eos_token_id in generation_config.json"
        )
    return (
        f"the chat template ends answers with no special token, generation stops at {names}; write eos_token after an "
        "assistant's message in the template"
    )


def _about_answers(conversations: Sequence[Conversation], rendered: Sequence[Rendered]) -> list[str]:
    fewer, crossed, changed = [], [], []
    for conversation, row in zip(conversations, rendered, strict=True):
        answers = [m for m in conversation.messages[conversation.first_answer :] if m.role == "assistant"]
        if len(row.answers) < len(answers):
            fewer.append(conversation.place)
        if row.crossed:
            crossed.append(conversation.place)
        if not _holds(row.text, conversation):
            changed.append(conversation.place)
    told = {
        "{} conversations are learnt by their last answer alone, since the chat template writes earlier ones in another"
        " way": fewer,
        "in {} conversations an answer's first token begins before the answer, so that it is not learnt": crossed,
        "in {} conversations the chat template changes what a message says": changed,
    }
    return [f"{words.format(len(places))}: {_first(places)}" for words, places in told.items() if places]


def _about_marks(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase) -> str:
    """Whether a message has a special token's text in it, which the model reads as that token."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    mark = re.compile("|".join(map(re.escape, special)) or "(?!)")
    places = [c.place for c in conversations if any(mark.search(message.content) for message in c.messages)]
    if not places:
        return ""
    return f"in {len(places)} conversations a message holds the text of a special token: {_first(places)}"


def _holds(text: str, conversation: Conversation) -> bool:
    """Whether a text has all messages, one after the other."""
    at = 0
    for message in conversation.messages:
        content = message.content.strip()  # templates trim
        found = text.find(content, at)
        if found < 0:
            return False
        at = found + len(content)
    return True


def _untrained(
    rendered: Sequence[Rendered],
    *,
    tokenizer: PreTrainedTokenizerBase,
    tables: Mapping[str, Rows],
    frozen: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """By table, special tokens without a trained row: in `head` of those that are learnt, in others of all."""
    added = tokenizer.added_tokens_decoder.keys()
    seen = added & {id_ for row in rendered for id_ in row.ids}
    learnt = added & {id_ for row in rendered for span in row.answers for id_ in row.ids[slice(*span)]}
    untrained: dict[str, tuple[str, ...]] = {}
    for name, table in tables.items():
        if ids := untrained_ids(table, sorted(learnt if name == "head" else seen)):
            untrained[name] = tuple(_named(tokenizer, id_) for id_ in ids)
            if name in frozen:
                raise CheckpointError(
                    f"the conversations hold special tokens whose rows in {name} were never trained, and do not learn: "
                    f"{', '.join(untrained[name])}; let {name} learn, or use a chat template of tokens that the model "
                    "knows"
                )
    return untrained


def _about_leaks(leaks: Sequence[Leak], evaluations: Mapping[str, Sequence[str]]) -> list[str]:
    told = []
    for name, texts in evaluations.items():
        found = [leak for leak in leaks if leak.evaluation == name]
        if found:
            numbers, places = {leak.number for leak in found}, list(dict.fromkeys(leak.place for leak in found))
            told.append(f"{len(numbers)} of {len(texts)} texts of {name} stand in the data: {_first(places)}")
    return told


def _first(places: Sequence[str]) -> str:
    return ", ".join(places[:SHOWN]) + (", …" if len(places) > SHOWN else "")


def _named(tokenizer: PreTrainedTokenizerBase, id_: int) -> str:
    return cast(str, tokenizer.convert_ids_to_tokens(id_))
