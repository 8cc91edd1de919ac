"""The vocabulary section of the page: characters per token, example texts in tokens, and the checks that passed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lep.reporting import formatting
from lep.reporting.i18n import gettext
from lep.reporting.run_data import RunData
from lep.results.stages import RetokenizationResult

_VISIBLE_WHITESPACE = str.maketrans({" ": "·", "\n": "↵", "\r": "␍", "\t": "⇥"})
_ESCAPED_BYTE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class VocabularySummary:
    """One vocabulary, as the page shows it."""

    key: str
    result: RetokenizationResult
    checks: tuple[tuple[bool, str], ...]
    """For each check whether it passed, and its description."""

    @property
    def max_characters_per_token(self) -> float:
        """The value of the longest bar."""
        return max((max(c.before, c.after) for c in self.result.characters_per_token.values()), default=0.0) or 1.0


@dataclass(frozen=True)
class TokenFragment:
    """Part of a token: text with visible white space, or the hexadecimal digits of a byte inside a character."""

    text: str = ""
    byte_hex: str = ""


def summarize_vocabularies(run_data: RunData) -> list[VocabularySummary]:
    """Return the vocabularies that the run made."""
    return [
        VocabularySummary(stage.key, result, tuple(_describe_checks(result, _check_descriptions())))
        for stage, result in run_data.find_results(RetokenizationResult)
    ]


def split_token(token: str) -> list[TokenFragment]:
    r"""Split a token into text and escaped bytes.

    Args:
        token: The token; bytes inside a character are escaped as `\xd0`.

    Returns:
        The fragments, with visible white space.

    Example:
        >>> split_token(r" о\xd0")
        [TokenFragment(text='·о', byte_hex=''), TokenFragment(text='', byte_hex='d0')]
    """
    fragments = [
        TokenFragment(byte_hex=part) if index % 2 else TokenFragment(part.translate(_VISIBLE_WHITESPACE))
        for index, part in enumerate(_ESCAPED_BYTE.split(token))
        if part
    ]
    return fragments or [TokenFragment("∅")]


def _describe_checks(result: RetokenizationResult, descriptions: Mapping[str, str]) -> Iterator[tuple[bool, str]]:
    for check in result.checks:
        if check.required:
            counts = {"passed": formatting.format_count(check.passed), "total": formatting.format_count(check.total)}
            description = descriptions.get(check.name, check.name)
            yield check.passed == check.total, gettext("{passed} of {total} {check}", check=description, **counts)


def _check_descriptions() -> dict[str, str]:
    """Return what each check of a vocabulary says, after its counts."""
    return {
        "reachable": gettext("new tokens can be produced from their own bytes"),
        "old_ids": gettext("old tokens keep their ids"),
        "special_ids": gettext("special tokens keep their ids"),
        "special_tokens": gettext("special tokens are carried over"),
        "settings": gettext("components equal the base's (normalizer, pre-tokenizer, decoder)"),
        "base_ids": gettext("texts, with each new token replaced by its old tokens, give the base tokenizer's ids"),
        "round_trips": gettext("texts are decoded as by the base tokenizer"),
        "sentencepiece": gettext("texts get the same tokens from tokenizer.model"),
    }
