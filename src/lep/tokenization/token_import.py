"""Extend a BPE tokenizer by the tokens of another vocabulary, through merges, so that each token can be reached."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lep.core.bpe import apply_merges
from lep.core.vocabulary import TokenKind
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.merge_continuation import NewToken, VocabularyExtension, append_tokens, check_merges


@dataclass(frozen=True)
class CandidateToken:
    """A token that could be added."""

    text: str
    """As the base would store it."""
    ids: tuple[int, ...]
    """The ids of base tokens and new characters that spell it."""


def import_tokens(base: TokenizerFile, source: TokenizerFile) -> VocabularyExtension:
    """Select the tokens of another vocabulary that merges of the base can reach.

    A token is taken as soon as the base, with the tokens taken so far, segments it into two tokens: their merge,
    appended last, is then the only way to make it. The others wait for tokens that are taken later, until nothing
    changes.

    Args:
        base: a BPE tokenizer.
        source: any tokenizer.

    Returns:
        The new tokens, in the order in which they can be appended.

    Raises:
        TokenizerError: the base has no merges.

    Source: the extension of arXiv 2412.21140, with merges so that tokens can be reached;
    docs/mathematics.md#continued-merges-and-why-they-are-exact.
    """
    check_merges(base)
    dropped: Counter[str] = Counter()
    texts = _list_storable_tokens(base, source, dropped)
    characters = _find_byte_spelled_characters(base, texts)
    start = append_tokens(base, characters)
    pending = _list_candidate_tokens(start, texts, dropped)
    tokens = list(characters)
    text_of = {id_: text for text, id_ in start.tokenizer_json["model"]["vocab"].items()}
    merges: dict[tuple[int, int], tuple[int, int]] = {}
    while True:
        postponed = []
        for candidate in pending:
            pair = apply_merges(candidate.ids, merges)
            if len(pair) != 2:
                postponed.append(candidate)
                continue
            id_ = len(base.vocabulary) + len(tokens)
            merges[pair[0], pair[1]] = (id_, id_)
            text_of[id_] = candidate.text
            base_ids = tuple(token.id for token in base.tokenizer.model.tokenize(candidate.text))
            tokens.append(NewToken(candidate.text, (text_of[pair[0]], text_of[pair[1]]), base_ids))
        if len(postponed) == len(pending):
            dropped["no two tokens merge into it"] += len(postponed)
            return VocabularyExtension(tokens, +dropped)
        pending = postponed


def _list_storable_tokens(base: TokenizerFile, source: TokenizerFile, dropped: Counter[str]) -> list[str]:
    """Return the learned tokens that the base lacks, as it would store them; the rest is counted in `dropped`."""
    base_tokens = set(base.vocabulary.tokens)
    texts: dict[str, None] = {}
    for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True):
        if kind is not TokenKind.NORMAL:
            continue
        text = base.to_stored_token(token)
        if token in base_tokens:
            dropped["the base has it"] += 1
        elif text is None:
            dropped["not valid UTF-8"] += 1
        elif not base.is_single_pre_token(token):
            dropped["more than one word of the base"] += 1
        else:
            texts[text] = None
    return list(texts)


def _find_byte_spelled_characters(base: TokenizerFile, texts: list[str]) -> list[NewToken]:
    """Return the characters that a SentencePiece base spells in bytes, which no merge can make."""
    if base.scheme == "byte_level":
        return []
    expansions = {
        text: tuple(token.id for token in base.tokenizer.model.tokenize(text)) for text in texts if len(text) == 1
    }
    return [NewToken(text, None, ids) for text, ids in expansions.items() if len(ids) > 1]


def _list_candidate_tokens(start: TokenizerFile, texts: list[str], dropped: Counter[str]) -> list[CandidateToken]:
    kinds, candidates = start.vocabulary.kinds, []
    for text in texts:
        tokens = start.tokenizer.model.tokenize(text)
        ids = tuple(token.id for token in tokens)
        if any(kinds[id_] is not TokenKind.NORMAL for id_ in ids):
            dropped["a character that only bytes spell"] += 1
        elif "".join(token.value for token in tokens) != text:  # byte-level BPE leaves out what it lacks
            dropped["a byte that the base lacks"] += 1
        elif len(ids) > 1:
            candidates.append(CandidateToken(text, ids))
    return candidates
