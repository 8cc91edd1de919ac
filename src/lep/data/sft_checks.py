"""Check conversations before fine-tuning, as the model will read them.

What leaves nothing worth training is an error. Other problems are warnings, and their rows are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from lep.core.embedding_matrix import EmbeddingMatrix
from lep.core.untrained_rows import find_untrained_ids
from lep.data.chat_template import Span, TokenizedConversation, render_chat
from lep.data.contamination import Contamination, find_contamination
from lep.data.conversations import Conversation
from lep.errors import CheckpointError, DataError, TokenizerError

MAX_SHOWN_PLACES = 3
"""Places that a warning names."""


@dataclass(frozen=True)
class SFTCheckReport:
    """What the checks found."""

    warnings: tuple[str, ...]
    """One sentence each."""
    too_long: tuple[str, ...]
    """Places of conversations that are longer than the limit, which would truncate their answers."""
    contaminations: tuple[Contamination, ...]
    """Texts of evaluations in the conversations."""
    untrained_tokens: Mapping[str, tuple[str, ...]]
    """Special tokens in the conversations whose rows were never trained, by embedding matrix."""


def check_sft_conversations(
    conversations: Sequence[Conversation],
    tokenized: Sequence[TokenizedConversation],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stop_ids: Collection[int],
    max_length: int,
    embeddings: Mapping[str, EmbeddingMatrix],
    frozen_embeddings: Collection[str],
    evaluations: Mapping[str, Sequence[str]],
) -> SFTCheckReport:
    """Check conversations and their tokens.

    Args:
        conversations: To train on.
        tokenized: What `tokenize_conversation` returns for each.
        tokenizer: Of the model.
        stop_ids: Ids at which the model stops generating.
        max_length: In tokens; longer conversations are not trained on.
        embeddings: The model's embedding matrices, `embed` and `head`.
        frozen_embeddings: Those of them that are not trained.
        evaluations: Texts that the model will be evaluated on, by name of the evaluation.

    Returns:
        The warnings and what they count.

    Raises:
        DataError: The template drops or repeats messages, or every conversation is too long.
        TokenizerError: No answer ends with a token at which generation stops.
        CheckpointError: A special token in the conversations has an untrained row in a frozen embedding matrix.
    """
    _check_template(tokenizer, conversations)
    too_long = tuple(
        conversation.place
        for conversation, tokens in zip(conversations, tokenized, strict=True)
        if len(tokens.input_ids) > max_length
    )
    untrained = _find_untrained_tokens(
        tokenized, tokenizer=tokenizer, embeddings=embeddings, frozen_embeddings=frozen_embeddings
    )
    contaminations = tuple(find_contamination(conversations, evaluations))
    warnings = (
        _check_lengths(too_long, tokenized, max_length=max_length),
        _check_stop_tokens(conversations, tokenized, tokenizer=tokenizer, stop_ids=stop_ids),
        *_check_answers(conversations, tokenized),
        _check_special_token_text(conversations, tokenizer),
        *(f"{name}: first trained in this run: {', '.join(tokens)}" for name, tokens in untrained.items()),
        *_describe_contamination(contaminations, evaluations),
    )
    return SFTCheckReport(tuple(filter(None, warnings)), too_long, contaminations, untrained)


def _check_template(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> None:
    """Check that the template writes every message once, by unique messages in each order of roles that occurs."""
    examples = {tuple(message.role for message in c.messages): c for c in reversed(conversations)}
    for roles, conversation in examples.items():
        markers = [f"marker {i} of lep." for i in range(len(roles))]
        messages = [{"role": role, "content": marker} for role, marker in zip(roles, markers, strict=True)]
        text = render_chat(tokenizer, messages, add_generation_prompt=False, source=conversation.place)
        for role, marker in zip(roles, markers, strict=True):
            if (times := text.count(marker)) != 1:
                does = "drops" if not times else f"writes {times} times"
                raise DataError(
                    f"{conversation.place}: the chat template {does} a message of role {role!r} in a conversation of "
                    f"{', '.join(roles)}; use a template that supports such conversations, or leave them out"
                )


def _check_lengths(too_long: Sequence[str], tokenized: Sequence[TokenizedConversation], *, max_length: int) -> str:
    if not too_long:
        return ""
    lengths = [len(tokens.input_ids) for tokens in tokenized]
    if len(too_long) == len(tokenized):
        raise DataError(
            f"every conversation is longer than max_length={max_length} tokens, the shortest has {min(lengths)}; "
            "raise it"
        )
    return (
        f"{len(too_long)} of {len(tokenized)} conversations are longer than max_length={max_length} tokens and are "
        f"left out, as their answers would be truncated (the longest has {max(lengths)}): {_format_places(too_long)}"
    )


def _check_stop_tokens(
    conversations: Sequence[Conversation],
    tokenized: Sequence[TokenizedConversation],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stop_ids: Collection[int],
) -> str:
    """Check that the trained tokens of answers include one that ends generation."""
    answers = [
        (conversation.place, tokens, span)
        for conversation, tokens in zip(conversations, tokenized, strict=True)
        for span in tokens.answer_spans
    ]
    endless = [answer for answer in answers if not set(stop_ids) & set(answer[1].input_ids[slice(*answer[2])])]
    if not endless:
        return ""
    if len(endless) == len(answers):
        _, tokens, span = endless[-1]
        reason = _explain_missing_stop_token(tokens, span, tokenizer, stop_ids)
        raise TokenizerError(f"no answer would teach the model to stop: {reason}")
    places = list(dict.fromkeys(place for place, _, _ in endless))
    return (
        f"{len(endless)} of {len(answers)} answers are trained without a token that ends generation: "
        f"{_format_places(places)}"
    )


def _explain_missing_stop_token(
    conversation: TokenizedConversation, span: Span, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]
) -> str:
    added = tokenizer.added_tokens_decoder
    following = next((id_ for id_ in conversation.input_ids[span[1] : span[1] + 2] if id_ in added), None)
    last = next((id_ for id_ in reversed(conversation.input_ids[slice(*span)]) if id_ in added), None)
    names = ", ".join(f"{id_} {_get_token_text(tokenizer, id_)}" for id_ in sorted(stop_ids)) or "no token"
    if following is not None and following in stop_ids:
        return (
            f"{_get_token_text(tokenizer, following)} follows the answers, but is outside of what the chat template "
            "marks as `generation`; include it in the marks"
        )
    if last is not None:
        return (
            f"the chat template ends answers with {_get_token_text(tokenizer, last)}, generation stops at {names}; "
            f"add {last} to eos_token_id in generation_config.json"
        )
    return (
        f"the chat template ends answers with no special token, generation stops at {names}; write eos_token after an "
        "assistant's message in the template"
    )


def _check_answers(conversations: Sequence[Conversation], tokenized: Sequence[TokenizedConversation]) -> list[str]:
    fewer, misaligned, changed = [], [], []
    for conversation, tokens in zip(conversations, tokenized, strict=True):
        answers = [m for m in conversation.messages[conversation.first_trained_message :] if m.role == "assistant"]
        if len(tokens.answer_spans) < len(answers):
            fewer.append(conversation.place)
        if tokens.misaligned_answers:
            misaligned.append(conversation.place)
        if not _contains_all_messages(tokens.text, conversation):
            changed.append(conversation.place)
    warnings = {
        "in {} conversations only the last answer is trained, since the chat template renders earlier ones differently"
        "": fewer,
        "in {} conversations an answer's first token begins before the answer, so that it is not trained": misaligned,
        "in {} conversations the chat template changes the text of a message": changed,
    }
    return [f"{text.format(len(places))}: {_format_places(places)}" for text, places in warnings.items() if places]


def _check_special_token_text(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase) -> str:
    """Check for messages with the text of a special token, which the model reads as that token."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    pattern = re.compile("|".join(map(re.escape, special)) or "(?!)")
    places = [c.place for c in conversations if any(pattern.search(message.content) for message in c.messages)]
    if not places:
        return ""
    return f"in {len(places)} conversations a message contains the text of a special token: {_format_places(places)}"


def _contains_all_messages(text: str, conversation: Conversation) -> bool:
    """Return whether a text contains all messages, one after the other."""
    start = 0
    for message in conversation.messages:
        content = message.content.strip()  # templates trim
        index = text.find(content, start)
        if index < 0:
            return False
        start = index + len(content)
    return True


def _find_untrained_tokens(
    tokenized: Sequence[TokenizedConversation],
    *,
    tokenizer: PreTrainedTokenizerBase,
    embeddings: Mapping[str, EmbeddingMatrix],
    frozen_embeddings: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """Find special tokens with untrained rows: in `head` those of the answers, else those of all text."""
    added = tokenizer.added_tokens_decoder.keys()
    read_ids = added & {id_ for tokens in tokenized for id_ in tokens.input_ids}
    answer_ids = added & {
        id_ for tokens in tokenized for span in tokens.answer_spans for id_ in tokens.input_ids[slice(*span)]
    }
    untrained: dict[str, tuple[str, ...]] = {}
    for name, embedding in embeddings.items():
        if ids := find_untrained_ids(embedding, sorted(answer_ids if name == "head" else read_ids)):
            untrained[name] = tuple(_get_token_text(tokenizer, id_) for id_ in ids)
            if name in frozen_embeddings:
                raise CheckpointError(
                    f"the conversations contain special tokens whose rows in {name} were never trained, and {name} is "
                    f"frozen: {', '.join(untrained[name])}; train {name}, or use a chat template of tokens that the "
                    "model knows"
                )
    return untrained


def _describe_contamination(
    contaminations: Sequence[Contamination], evaluations: Mapping[str, Sequence[str]]
) -> list[str]:
    warnings = []
    for name, texts in evaluations.items():
        matches = [contamination for contamination in contaminations if contamination.evaluation == name]
        if matches:
            numbers, places = {match.text_number for match in matches}, list(dict.fromkeys(m.place for m in matches))
            warnings.append(f"{len(numbers)} of {len(texts)} texts of {name} are in the data: {_format_places(places)}")
    return warnings


def _format_places(places: Sequence[str]) -> str:
    return ", ".join(places[:MAX_SHOWN_PLACES]) + (", …" if len(places) > MAX_SHOWN_PLACES else "")


def _get_token_text(tokenizer: PreTrainedTokenizerBase, id_: int) -> str:
    return cast(str, tokenizer.convert_ids_to_tokens(id_))
