"""Cut a BPE vocabulary to the tokens that a corpus uses, without breaking the way to any token that is kept.

A kept token needs the two tokens that merge into it, and theirs. With those kept, and the order of the merges, text
whose tokens are all kept is segmented as before: its merges are all still there, in the same order, and none is new.

Source: METHOD §4, `optimized`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lep.core.bpe import parts
from lep.core.vocabulary import Kind
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.io.tokenizer_json import with_model
from lep.tokenization.merge_continuation import check_merges


@dataclass(frozen=True)
class Cut:
    """A smaller tokenizer, and the base id of each of its ids."""

    tokenizer: TokenizerFile
    base_ids: list[int]
    used: int
    """Base tokens that the corpus uses."""
    share: float
    """Of the corpus's base tokens, those that are kept."""


def cut(base: TokenizerFile, words: Iterable[tuple[str, int]], *, size: int) -> Cut:
    """Keep the `size` tokens of the base that the words use most, with all that they are made of.

    Special tokens, bytes, and a byte-level base's alphabet are always kept. Ids stay in order and close their ranks.

    Args:
        base: a BPE tokenizer.
        words: as the base stores them, with counts.
        size: tokens to keep, special ones included.

    Raises:
        TokenizerError: the base has no merges.
        DataError: `size` is larger than the base, or smaller than what is always kept.
    """
    check_merges(base)
    usage: Counter[int] = Counter()
    for word, count in words:
        for piece in base.tokenizer.model.tokenize(word):
            usage[piece.id] += count
    kept = sorted(_chosen(base, usage, size=size))
    share = sum(usage[id_] for id_ in kept) / max(usage.total(), 1)
    return Cut(_with_tokens(base, kept), kept, used=len(usage), share=share)


def _chosen(base: TokenizerFile, usage: Counter[int], *, size: int) -> set[int]:
    made_of = _made_of(base)
    chosen = _always(base)
    there = sum(kind is not Kind.HOLE for kind in base.vocabulary.kinds)
    if not len(chosen) <= size <= there:
        raise DataError(
            f"{base.path}: cannot keep {size} tokens: it has {there}, and {len(chosen)} of them (special tokens and "
            "the alphabet) are always kept; give another kept_tokens"
        )
    for id_ in sorted(range(len(base.vocabulary)), key=lambda id_: (-usage[id_], id_)):
        if id_ in chosen or base.vocabulary.kinds[id_] is Kind.HOLE:
            continue
        needed = _ancestors(id_, made_of) - chosen
        if len(chosen) + len(needed) <= size:
            chosen |= needed
    return chosen


def _always(base: TokenizerFile) -> set[int]:
    vocab = base.state["model"]["vocab"]
    alphabet = {id_ for text, id_ in vocab.items() if len(text) == 1} if base.scheme == "byte_level" else set()
    special = {id_ for id_, kind in enumerate(base.vocabulary.kinds) if kind in (Kind.SPECIAL, Kind.BYTE)}
    return alphabet | special


def _made_of(base: TokenizerFile) -> dict[int, tuple[int, ...]]:
    """The two tokens that merge into each token when the base meets its text alone."""
    vocab = base.state["model"]["vocab"]
    rules: dict[tuple[str, str], tuple[int, str]] = {}
    for rank, merge in enumerate(base.merges):
        rules.setdefault(merge, (rank, "".join(merge)))
    found = {}
    for text, id_ in vocab.items():
        if base.vocabulary.kinds[id_] is Kind.NORMAL and len(text) > 1 and (pair := parts(text, rules)):
            found[id_] = (vocab[pair[0]], vocab[pair[1]])
    return found


def _ancestors(id_: int, made_of: dict[int, tuple[int, ...]]) -> set[int]:
    found, waiting = set(), [id_]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += made_of.get(one, ())
    return found


def _with_tokens(base: TokenizerFile, kept: Sequence[int]) -> TokenizerFile:
    """The base with these tokens alone, renumbered in order."""
    new = {old: id_ for id_, old in enumerate(kept)}
    model = base.state["model"]
    vocab = {text: new[old] for text, old in model["vocab"].items() if old in new}
    merges = [
        merge
        for merge, (left, right) in zip(model["merges"], base.merges, strict=True)
        if left in vocab and right in vocab and left + right in vocab
    ]
    ids = {text: new[old] for text, old in base.added.items()}
    state = with_model(base.state, model | {"vocab": vocab, "merges": merges}, ids=ids)
    return TokenizerFile(base.path, state, base.scheme)
