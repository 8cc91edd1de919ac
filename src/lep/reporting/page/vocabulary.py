"""What a new vocabulary changed: how much text a token holds, the same texts in tokens, and what was proved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lep.reporting import formatting as rounding
from lep.reporting.i18n import say
from lep.reporting.run_data import Facts
from lep.results.stages import Retokenized

_MARKS = str.maketrans({" ": "·", "\n": "↵", "\r": "␍", "\t": "⇥"})
_BYTE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary, as the page shows it."""

    key: str
    numbers: Retokenized
    proofs: tuple[tuple[bool, str], ...]
    """Whether each promise holds, and what it says."""

    @property
    def densest(self) -> float:
        """Symbols per token of the longest bar."""
        return max((max(c.before, c.after) for c in self.numbers.symbols_per_token.values()), default=0.0) or 1.0


@dataclass(frozen=True)
class Part:
    """Of a token: text with its white space made visible, or the digits of a byte that is only part of a character."""

    text: str = ""
    digits: str = ""


def vocabularies(facts: Facts) -> list[Vocabulary]:
    """Those that the run made."""
    return [
        Vocabulary(room.key, numbers, tuple(_proofs(numbers, _promises()))) for room, numbers in facts.of(Retokenized)
    ]


def parts(token: str) -> list[Part]:
    """A token as it is shown."""
    found = [
        Part(digits=part) if index % 2 else Part(part.translate(_MARKS))
        for index, part in enumerate(_BYTE.split(token))
        if part
    ]
    return found or [Part("∅")]


def _proofs(numbers: Retokenized, promises: dict[str, str]) -> Iterator[tuple[bool, str]]:
    for proof in numbers.proofs:
        if proof.promised:
            counts = {"held": rounding.count(proof.held), "of": rounding.count(proof.of)}
            yield proof.held == proof.of, say("{held} of {of} {promise}", promise=promises[proof.name], **counts)


def _promises() -> dict[str, str]:
    """What each proof of a vocabulary says, after its count."""
    return {
        "reachable": say("new tokens can be reached from their own bytes"),
        "old_ids": say("old tokens keep their ids"),
        "special_ids": say("special tokens keep their ids"),
        "special_tokens": say("special tokens are carried over"),
        "settings": say("of normalizer, pre-tokenizer and decoder are the base's"),
        "base_ids": say("texts, with each new token spelt in its pieces, give the base tokenizer's ids"),
        "round_trips": say("texts come back from their tokens as they do from the base's"),
        "sentencepiece": say("texts get the same tokens from tokenizer.model"),
    }
