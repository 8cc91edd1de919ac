"""Extend a BPE tokenizer by the pieces of another vocabulary, through merges, so that each piece kept is reachable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lep.core.bpe import merge
from lep.core.vocabulary import Kind
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.merge_continuation import Addition, Additions, check_merges, extended


@dataclass(frozen=True)
class Piece:
    """A token to add: how the base would store it, and its units: base tokens or new characters."""

    text: str
    units: tuple[int, ...]


def continue_with_pieces(base: TokenizerFile, source: TokenizerFile) -> Additions:
    """The tokens of another vocabulary, in its order, for each of which two tokens are found that merge into it.

    A piece is kept as soon as the base, with the pieces kept so far, segments it into two tokens: their merge, appended
    last, makes it and stays its only way. The others wait for pieces that come later, until nothing changes.

    Args:
        base: a BPE tokenizer.
        source: any tokenizer.

    Raises:
        TokenizerError: the base has no merges.

    Source: METHOD §4: the paper's extension, made reachable.
    """
    check_merges(base)
    dropped: Counter[str] = Counter()
    texts = _storable(base, source, dropped)
    characters = _characters(base, texts)
    start = extended(base, characters)
    waiting = _pieces(start, texts, dropped)
    found = list(characters)
    names = {id_: text for text, id_ in start.state["model"]["vocab"].items()}
    rules: dict[tuple[int, int], tuple[int, int]] = {}
    while True:
        left = []
        for piece in waiting:
            pair = merge(piece.units, rules)
            if len(pair) != 2:
                left.append(piece)
                continue
            id_ = len(base.vocabulary) + len(found)
            rules[pair[0], pair[1]] = (id_, id_)
            names[id_] = piece.text
            expansion = tuple(token.id for token in base.tokenizer.model.tokenize(piece.text))
            found.append(Addition(piece.text, (names[pair[0]], names[pair[1]]), expansion))
        if len(left) == len(waiting):
            dropped["no two tokens merge into it"] += len(left)
            return Additions(found, +dropped)
        waiting = left


def _storable(base: TokenizerFile, source: TokenizerFile, dropped: Counter[str]) -> list[str]:
    """The learnt tokens that the base lacks, as it would store them."""
    own = set(base.vocabulary.tokens)
    found: dict[str, None] = {}
    for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True):
        if kind is not Kind.NORMAL:
            continue
        text = base.stored(token)
        if token in own:
            dropped["the base has it"] += 1
        elif text is None:
            dropped["not whole characters"] += 1
        elif not base.is_word(token):
            dropped["more than a word to the base"] += 1
        else:
            found[text] = None
    return list(found)


def _characters(base: TokenizerFile, texts: list[str]) -> list[Addition]:
    """Characters that a SentencePiece base spells in bytes: no merge makes them."""
    if base.scheme == "byte_level":
        return []
    expansions = {
        text: tuple(token.id for token in base.tokenizer.model.tokenize(text)) for text in texts if len(text) == 1
    }
    return [Addition(text, None, ids) for text, ids in expansions.items() if len(ids) > 1]


def _pieces(start: TokenizerFile, texts: list[str], dropped: Counter[str]) -> list[Piece]:
    kinds, pieces = start.vocabulary.kinds, []
    for text in texts:
        tokens = start.tokenizer.model.tokenize(text)
        units = tuple(token.id for token in tokens)
        if any(kinds[unit] is not Kind.NORMAL for unit in units):
            dropped["a character that only bytes spell"] += 1
        elif "".join(token.value for token in tokens) != text:  # byte-level BPE leaves out what it lacks
            dropped["a byte that the base lacks"] += 1
        elif len(units) > 1:
            pieces.append(Piece(text, units))
    return pieces
