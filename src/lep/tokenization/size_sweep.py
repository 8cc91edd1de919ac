"""What a draft's vocabulary makes of text at every size, from one pass over the text with the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lep.core.vocabulary_sizing import Size, counts_at, doublings
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.builders import Built, Draft


def sweep(
    base: TokenizerFile,
    draft: Draft,
    *,
    texts: Mapping[str, Sequence[str]],
    words: Iterable[tuple[str, int]],
    tokens: int | None,
) -> list[Size]:
    """The base as it is, then each size of `doublings`.

    Args:
        base: a BPE tokenizer.
        draft: continued merges of the base, or of what is kept of it.
        texts: held-out text by language.
        words: those of the training text, with counts.
        tokens: how many tokens training will see; none: the words as often as they are counted.
    """
    whole = draft.build(draft.available)
    parts = _parts(whole, first=draft.fixed)
    new = doublings(draft.available)
    ends = [draft.fixed + count for count in new]
    heldout = {
        language: counts_at(_uses(whole.tokenizer, found), parts, ends=ends) for language, found in texts.items()
    }
    train = counts_at(_uses_in_words(whole.tokenizer, words), parts, ends=ends)
    before = {language: sum(_uses(base, found)) for language, found in texts.items()}
    sizes = [Size(0, len(base.vocabulary), before, [], 0.0)]
    for count, end in zip(new, ends, strict=True):
        trained = float(tokens or sum(train[end]))
        factor = trained / sum(train[end])
        after = {language: sum(uses[end]) for language, uses in heldout.items()}
        occurrences = [uses * factor for uses in train[end][draft.fixed :]]
        sizes.append(Size(count, end, after, occurrences, trained))
    return sizes


def _parts(built: Built, *, first: int) -> dict[int, tuple[int, ...]]:
    """What makes each new token: the two tokens that merge into it or, where none do, those that spell it."""
    old = {expansion[0]: id_ for id_, expansion in built.expansions.items() if id_ < first}
    new = {id_: expansion for id_, expansion in built.expansions.items() if id_ >= first}
    spelt = {id_: tuple(old[piece] for piece in expansion) for id_, expansion in new.items()}
    vocab = built.tokenizer.state["model"]["vocab"]
    merged = ((vocab[left + right], (vocab[left], vocab[right])) for left, right in built.tokenizer.merges)
    return spelt | {id_: pair for id_, pair in merged if id_ in new}


def _uses(tokenizer: TokenizerFile, texts: Sequence[str]) -> list[int]:
    """How often each id occurs in texts."""
    encodings = tokenizer.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return _listed(tokenizer, ((id_, 1) for encoding in encodings for id_ in encoding.ids))


def _uses_in_words(tokenizer: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[int]:
    """How often each id occurs in counted words."""
    tokenize = tokenizer.tokenizer.model.tokenize
    return _listed(tokenizer, ((piece.id, count) for word, count in words for piece in tokenize(word)))


def _listed(tokenizer: TokenizerFile, uses: Iterable[tuple[int, int]]) -> list[int]:
    counts = [0] * len(tokenizer.vocabulary)
    for id_, count in uses:
        counts[id_] += count
    return counts
