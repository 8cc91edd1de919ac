"""Clean documents, and filter them by length, script and language."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lep.core.unicode_scripts import count_scripts
from lep.data.language_id import identify_language

_LINE_BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85]")
"""Line, paragraph and page breaks other than `\\n`."""
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class DocumentFilter:
    """Conditions that a document must meet."""

    min_characters: int
    script: str | None = None
    """Unicode script, as `Cyrillic`; None: any."""
    min_script_fraction: float = 0.0
    """Minimum fraction of the letters that are of this script."""
    language: str | None = None
    """ISO 639-1 code; None: any."""

    def find_rejection_reason(self, text: str) -> str:
        """Return why a document is dropped, or an empty string if it is kept."""
        if len(text) < self.min_characters:
            return "too short"
        if self.script and compute_script_fraction(text, self.script) < self.min_script_fraction:
            return "wrong script"
        if self.language and identify_language(text) != self.language:
            return "wrong language"
        return ""


def clean_text(text: str) -> str:
    r"""Normalize line breaks, and strip control characters and surrounding whitespace.

    Tabs, inner whitespace and paragraph breaks stay.

    Args:
        text: A raw document.

    Returns:
        The text with `\n` as its only line break.
    """
    return _CONTROL_CHARACTERS.sub("", _LINE_BREAKS.sub("\n", text)).strip()


def compute_script_fraction(text: str, script: str) -> float:
    """Compute the fraction of letters that are of a Unicode script.

    A letter is of the script if its Unicode name begins with it (`CYRILLIC SMALL LETTER A`).

    >>> compute_script_fraction("Да, no", "Cyrillic")
    0.5

    Args:
        text: Any text.
        script: Name of the script, in any case.

    Returns:
        The fraction; 0 for a text without letters.
    """
    letters = count_scripts(text, name_prefix=script)
    return letters[script.upper()] / letters.total() if letters else 0.0
