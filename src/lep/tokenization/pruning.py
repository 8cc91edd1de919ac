"""Prune a BPE vocabulary to the tokens that a corpus uses, so that every kept token can still be merged.

A kept token needs the two tokens that merge into it, and so on down to the alphabet. With these kept, and the order of
the merges, text whose tokens are all kept is segmented as before: all its merges remain, in the same order, and none is
new.

Source: arXiv 2412.21140, the optimized vocabulary. Why it is exact: docs/mathematics.md#cutting-a-vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lep.core.bpe import find_last_merge
from lep.core.vocabulary import TokenKind
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.io.tokenizer_json import replace_model
from lep.tokenization.merge_continuation import check_merges


@dataclass(frozen=True)
class PrunedTokenizer:
    """A tokenizer with a part of a base's tokens."""

    tokenizer: TokenizerFile
    base_ids: list[int]
    """Base id of each id, ascending."""
    num_used: int
    """Base tokens that occur in the corpus."""
    kept_fraction: float
    """Fraction of the corpus's base-token occurrences whose tokens are kept."""


def prune_tokenizer(base: TokenizerFile, words: Iterable[tuple[str, int]], *, size: int) -> PrunedTokenizer:
    """Keep the tokens of the base that the words use most, and the tokens that these are merged from.

    Special tokens, bytes, and the alphabet of a byte-level base are always kept. Kept tokens are renumbered in order.

    Args:
        base: a BPE tokenizer.
        words: words as the base stores them, with counts.
        size: tokens to keep, special ones included.

    Returns:
        The smaller tokenizer and how it relates to the base.

    Raises:
        TokenizerError: the base has no merges.
        DataError: `size` exceeds the tokens of the base, or is smaller than what is always kept.
    """
    check_merges(base)
    usage: Counter[int] = Counter()
    for word, count in words:
        for token in base.tokenizer.model.tokenize(word):
            usage[token.id] += count
    kept_ids = sorted(_select_tokens(base, usage, size=size))
    fraction = sum(usage[id_] for id_ in kept_ids) / max(usage.total(), 1)
    return PrunedTokenizer(_keep_tokens(base, kept_ids), kept_ids, num_used=len(usage), kept_fraction=fraction)


def _select_tokens(base: TokenizerFile, token_counts: Counter[int], *, size: int) -> set[int]:
    parents = _find_merge_parents(base)
    chosen = _list_required_ids(base)
    available = sum(kind is not TokenKind.UNUSED for kind in base.vocabulary.kinds)
    if not len(chosen) <= size <= available:
        raise DataError(
            f"{base.path}: cannot keep {size} tokens: it has {available}, and {len(chosen)} of them (special tokens "
            "and the alphabet) are always kept; give another kept_tokens"
        )
    for id_ in sorted(range(len(base.vocabulary)), key=lambda id_: (-token_counts[id_], id_)):
        if id_ in chosen or base.vocabulary.kinds[id_] is TokenKind.UNUSED:
            continue
        needed = _collect_ancestors(id_, parents) - chosen
        if len(chosen) + len(needed) <= size:
            chosen |= needed
    return chosen


def _list_required_ids(base: TokenizerFile) -> set[int]:
    vocab = base.tokenizer_json["model"]["vocab"]
    alphabet = {id_ for text, id_ in vocab.items() if len(text) == 1} if base.scheme == "byte_level" else set()
    special = {
        id_ for id_, kind in enumerate(base.vocabulary.kinds) if kind in (TokenKind.SPECIAL, TokenKind.BYTE_FALLBACK)
    }
    return alphabet | special


def _find_merge_parents(base: TokenizerFile) -> dict[int, tuple[int, ...]]:
    """Map each token to the two tokens that merge into it when the base tokenizes its text alone."""
    vocab = base.tokenizer_json["model"]["vocab"]
    merges: dict[tuple[str, str], tuple[int, str]] = {}
    for rank, merge in enumerate(base.merges):
        merges.setdefault(merge, (rank, "".join(merge)))
    parents = {}
    for text, id_ in vocab.items():
        if base.vocabulary.kinds[id_] is TokenKind.NORMAL and len(text) > 1 and (pair := find_last_merge(text, merges)):
            parents[id_] = (vocab[pair[0]], vocab[pair[1]])
    return parents


def _collect_ancestors(id_: int, parents: dict[int, tuple[int, ...]]) -> set[int]:
    """Return a token, the tokens that merge into it, and so on down to the alphabet."""
    ancestors, pending = set(), [id_]
    while pending:
        if (token := pending.pop()) not in ancestors:
            ancestors.add(token)
            pending += parents.get(token, ())
    return ancestors


def _keep_tokens(base: TokenizerFile, kept_ids: Sequence[int]) -> TokenizerFile:
    """Return the base with these tokens alone, renumbered in order."""
    new_ids = {old: id_ for id_, old in enumerate(kept_ids)}
    model = base.tokenizer_json["model"]
    vocab = {text: new_ids[old] for text, old in model["vocab"].items() if old in new_ids}
    merges = [
        merge
        for merge, (left, right) in zip(model["merges"], base.merges, strict=True)
        if left in vocab and right in vocab and left + right in vocab
    ]
    added = {text: new_ids[old] for text, old in base.added_tokens.items()}
    model = model | {"vocab": vocab, "merges": merges}
    return TokenizerFile(base.path, replace_model(base.tokenizer_json, model, added_token_ids=added), base.scheme)
