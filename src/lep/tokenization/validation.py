"""What a vocabulary promises, checked: on every token, on held-out text, and on text that nobody writes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lep.core.vocabulary import Kind, Vocabulary
from lep.io.tokenizer_file import TokenizerFile

STRANGE = 1000
"""Texts of random characters that are probed beside the held-out ones."""

_SETTINGS = ("normalizer", "pre_tokenizer", "decoder")
_RANGES = ((0x20, 0x7F), (0x09, 0x0E), (0xA0, 0x250), (0x300, 0x370), (0x400, 0x530), (0x600, 0x700), (0x900, 0x980))
_RANGES += ((0x2000, 0x2070), (0x2500, 0x25FF), (0x4E00, 0x4F00), (0x1F300, 0x1F650), (0x10000, 0x10100))


@dataclass(frozen=True)
class Proof:
    """How many of how many keep a promise, and whether it was given for this kind of vocabulary."""

    name: str
    held: int
    of: int
    promised: bool

    @property
    def broken(self) -> bool:
        """Whether a promise was given and not kept."""
        return self.promised and self.held != self.of


def prove(
    base: TokenizerFile,
    new: TokenizerFile,
    *,
    kind: str,
    expansions: Mapping[int, tuple[int, ...]],
    texts: Sequence[str],
) -> list[Proof]:
    """Every proof of a vocabulary.

    Args:
        base: the old tokenizer.
        new: the tokenizer made from it.
        kind: extended, optimized, bpe or unigram: says what is promised.
        expansions: the base ids of every new id; empty when the vocabulary is no continuation of the base's.
        texts: held-out text; random text is added.
    """
    probes = [*texts, *strange_texts(STRANGE)]
    old_ids, new_ids = _ids(base, probes), _ids(new, probes)
    whole = [i for i, text in enumerate(_decoded(base, old_ids)) if text == probes[i]]
    back = _decoded(new, new_ids)
    special = _special(base.vocabulary)
    theirs = _special(new.vocabulary)
    same = [base.state.get(key) == new.state.get(key) for key in _SETTINGS]
    extended = kind == "extended"
    proofs = [
        Proof("special_tokens", sum(token in theirs for token in special), len(special), True),
        Proof("special_ids", _same_ids(base, new, special.values()), len(special), extended),
        Proof("old_ids", _same_ids(base, new, range(len(base.vocabulary))), len(base.vocabulary), extended),
        Proof("settings", sum(same), len(same), True),
        Proof("round_trips", sum(back[i] == probes[i] for i in whole), len(whole), True),
        _reachable(base, new, promised=kind != "unigram"),
    ]
    if expansions:
        proofs.append(_recovered(old_ids, new_ids, expansions))
    return proofs


def same_in_sentencepiece(base: TokenizerFile, new: TokenizerFile, file: Path, texts: Sequence[str]) -> Proof:
    """The `.model` file beside a tokenizer.json gives the same ids, on texts on which the base's two do."""
    from sentencepiece import SentencePieceProcessor

    def agreeing(tokenizer: TokenizerFile, model: Path) -> list[bool]:
        processor = SentencePieceProcessor(model_file=str(model))
        pairs = zip(_ids(tokenizer, texts), texts, strict=True)
        return [ids == processor.encode(text) for ids, text in pairs]

    before = agreeing(base, base.path.parent / file.name)
    after = agreeing(new, file)
    return Proof("sentencepiece", sum(b and a for b, a in zip(before, after, strict=True)), sum(before), True)


def strange_texts(count: int) -> list[str]:
    """Short texts of letters, signs, spaces and emoji of many scripts at random; the same ones every time."""
    chance = random.Random(0)
    return ["".join(_character(chance) for _ in range(chance.randint(1, 24))) for _ in range(count)]


def _character(chance: random.Random) -> str:
    return " " if chance.random() < 0.15 else chr(chance.randrange(*chance.choice(_RANGES)))


def _recovered(
    old_ids: Sequence[Sequence[int]], new_ids: Sequence[Sequence[int]], expansions: Mapping[int, tuple[int, ...]]
) -> Proof:
    """Texts all of whose base tokens were kept: expanding the new tokens gives exactly them."""
    kept = {old for expansion in expansions.values() for old in expansion}
    pairs = [(old, new) for old, new in zip(old_ids, new_ids, strict=True) if kept.issuperset(old)]
    recovered = sum([piece for id_ in new for piece in expansions[id_]] == list(old) for old, new in pairs)
    return Proof("base_ids", recovered, len(pairs), True)


def _reachable(base: TokenizerFile, new: TokenizerFile, *, promised: bool) -> Proof:
    """Tokens that the base lacks and that their own bytes become."""
    own = set(base.vocabulary.tokens)
    tokens, kinds = new.vocabulary.tokens, new.vocabulary.kinds
    asked = [id_ for id_, kind in enumerate(kinds) if kind is Kind.NORMAL and tokens[id_] not in own]
    reached = sum(list(new.segment(tokens[id_])) == [id_] for id_ in asked)
    return Proof("reachable", reached, len(asked), promised)


def _special(vocabulary: Vocabulary) -> dict[bytes, int]:
    """Special tokens with their ids."""
    pairs = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    return {token: id_ for id_, (token, kind) in enumerate(pairs) if kind is Kind.SPECIAL}


def _same_ids(base: TokenizerFile, new: TokenizerFile, ids: Iterable[int]) -> int:
    old, found = base.vocabulary, new.vocabulary
    return sum(
        id_ < len(found) and (old.tokens[id_], old.kinds[id_]) == (found.tokens[id_], found.kinds[id_]) for id_ in ids
    )


def _ids(tokenizer: TokenizerFile, texts: Sequence[str]) -> list[list[int]]:
    return [found.ids for found in tokenizer.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _decoded(tokenizer: TokenizerFile, ids: Sequence[Sequence[int]]) -> list[str]:
    return tokenizer.tokenizer.decode_batch([list(item) for item in ids], skip_special_tokens=False)
