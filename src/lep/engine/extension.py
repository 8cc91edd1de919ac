"""Extend a byte-level BPE tokenizer by continuing its own merges.

New merges are learnt on text that the base tokenizer has already segmented, and appended after the old ones. BPE
applies merges in order, so it first reaches the base's segmentation and then merges on: old ids stay, and expanding a
new token gives back the base's ids.

The learning is ordinary BPE over an alphabet whose letters are the base's tokens, so the `tokenizers` trainer does it:
each base token in the text is written as one private-use character.

Source: METHOD §4; arXiv 2512.03989.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_files import State, TokenizerFile

Pair = tuple[str, str]

SURPLUS = 1.1
"""Merges learnt for each one wanted: some are dropped (see `_keep`)."""

_PRIVATE = [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]


@dataclass(frozen=True)
class Extension:
    """A tokenizer with more merges, and the base ids that each new token expands to."""

    state: State
    expansions: dict[int, tuple[int, ...]]
    dropped: int
    """Learnt merges that could not be kept, because another path already spells their token."""


def extend(base: TokenizerFile, documents: Iterable[str], *, new_tokens: int) -> Extension:
    """Learn `new_tokens` merges on documents and append them.

    Args:
        base: a byte-level BPE tokenizer.
        documents: text of the language to learn.
        new_tokens: how many.

    Raises:
        TokenizerError: the base is not byte-level BPE, or its text has more distinct tokens than there are letters.
        DataError: the text does not yield so many merges.
    """
    if base.scheme != "byte_level" or base.state["model"].get("type") != "BPE":
        raise TokenizerError(f"{base.path}: kind=extended continues byte-level BPE merges; this is another kind")
    words = _count_words(base, documents)
    letters, spelling = _alphabet(words)
    learnt = _learn(letters, words, count=int(new_tokens * SURPLUS) + 8)
    kept, dropped = _keep(base, learnt, spelling=spelling, limit=new_tokens)
    if len(kept) < new_tokens:
        raise DataError(
            f"the text yields {len(kept)} new tokens of the {new_tokens} asked for; give more text or ask for fewer"
        )
    first = len(base.vocabulary)
    expansions = {first + i: expansion for i, (_, expansion) in enumerate(kept)}
    state = _append(base.state, merges=[pair for pair, _ in kept], first=first)
    return Extension(state=state, expansions=expansions, dropped=dropped)


def _count_words(base: TokenizerFile, documents: Iterable[str]) -> Counter[tuple[int, ...]]:
    """How often each word occurs, a word being the base ids of one pre-token."""
    counts: Counter[str] = Counter()
    tokenizer = base.tokenizer
    for document in documents:
        text = tokenizer.normalizer.normalize_str(document) if tokenizer.normalizer else document
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    words: Counter[tuple[int, ...]] = Counter()
    for word, count in counts.items():
        ids = tuple(piece.id for piece in tokenizer.model.tokenize(word))
        if len(ids) > 1:
            words[ids] += count
    return words


def _alphabet(words: Iterable[Sequence[int]]) -> tuple[dict[int, str], dict[str, int]]:
    """A private-use letter for every base token that occurs, and back."""
    used = sorted({id_ for word in words for id_ in word})
    if len(used) > len(_PRIVATE):
        raise TokenizerError(f"the text uses {len(used)} distinct base tokens; {len(_PRIVATE)} letters are to be had")
    letters = {id_: chr(code) for id_, code in zip(used, _PRIVATE, strict=False)}
    return letters, {letter: id_ for id_, letter in letters.items()}


def _learn(letters: dict[int, str], words: Counter[tuple[int, ...]], *, count: int) -> list[Pair]:
    """The `count` best merges, in order, as pairs of letter strings."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + count,
        initial_alphabet=list(letters.values()),
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(letters, words), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges]  # type: ignore


def _lines(letters: dict[int, str], words: Counter[tuple[int, ...]]) -> Iterator[str]:
    """Each word as often as it occurs, in lines of bounded length."""
    for word, count in words.items():
        text = "".join(letters[id_] for id_ in word) + " "
        whole, rest = divmod(count, 1000)
        for _ in range(whole):
            yield text * 1000
        yield text * rest


def _keep(
    base: TokenizerFile, learnt: Sequence[Pair], *, spelling: dict[str, int], limit: int
) -> tuple[list[tuple[Pair, tuple[int, ...]]], int]:
    """The merges, as stored strings, that make a token which nothing else makes, with its base ids; how many were not.

    A merge is dropped when its token is spelt like an old or an earlier new one (one id cannot have two expansions),
    when a part of it was dropped, or when the base segments the token's own bytes otherwise.
    """
    vocab = base.state["model"]["vocab"]
    stored = {id_: text for text, id_ in vocab.items()}
    taken = set(vocab) | set(base.added)
    text_of = {letter: stored[id_] for letter, id_ in spelling.items()}
    kept: list[tuple[Pair, tuple[int, ...]]] = []
    tried = 0
    for left, right in learnt:
        if len(kept) == limit:
            break
        tried += 1
        if left not in text_of or right not in text_of or text_of[left] + text_of[right] in taken:
            continue
        text = text_of[left] + text_of[right]
        expansion = tuple(spelling[letter] for letter in left + right)
        if tuple(piece.id for piece in base.tokenizer.model.tokenize(text)) != expansion:
            continue
        text_of[left + right] = text
        taken.add(text)
        kept.append(((text_of[left], text_of[right]), expansion))
    return kept, tried - len(kept)


def _append(state: State, *, merges: Sequence[Pair], first: int) -> State:
    """The base's state with merges and tokens appended, in the form in which it stores them.

    Added tokens are listed in the model's vocabulary as well: loaders renumber those that are not.
    """
    extended = copy.deepcopy(state)
    model = extended["model"]
    for item in extended.get("added_tokens", []):
        model["vocab"].setdefault(item["content"], item["id"])
    model["vocab"] |= {left + right: first + i for i, (left, right) in enumerate(merges)}
    as_strings = bool(model["merges"]) and isinstance(model["merges"][0], str)
    model["merges"] = [*model["merges"], *(f"{a} {b}" if as_strings else [a, b] for a, b in merges)]
    return extended
