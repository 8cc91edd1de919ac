"""The texts that an evaluation reads, each by its language or kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lep.config import Evaluate
from lep.data.corpus import corpus_languages, heldout_excerpt
from lep.data.documents import read_excerpt
from lep.errors import DataError
from lep.progress import note

Documents = dict[str, list[str]]
"""By language or kind."""


@dataclass(frozen=True)
class Texts:
    """Documents by what they are for; no name stands twice."""

    heldout: Documents
    """Of the corpus."""
    other: Documents
    """Of `side_effects`."""
    kinds: Documents
    """Of `efficiency`."""

    @property
    def all(self) -> Documents:
        """Of all three."""
        return self.heldout | self.other | self.kinds


def read_texts(settings: Evaluate) -> Texts:
    """The beginnings of all texts.

    Raises:
        DataError: a text is not there, or empty; two have one name; or there is none in the language of `efficiency`.
    """
    efficiency, side_effects, corpus = settings.efficiency, settings.side_effects, settings.corpus
    found = Texts(
        heldout={
            language: heldout_excerpt(corpus, language, characters=settings.characters)
            for language in corpus_languages(corpus)
        }
        if corpus
        else {},
        other=_read(side_effects.texts, characters=side_effects.characters) if side_effects else {},
        kinds=_read(efficiency.texts, characters=settings.characters) if efficiency else {},
    )
    names = Counter([*found.heldout, *found.other, *found.kinds])
    if twice := [name for name, times in names.items() if times > 1]:
        raise DataError(f"evaluate: more than one text is called {twice[0]!r}; give each a name of its own")
    if efficiency and efficiency.language not in names:
        raise DataError(
            f"efficiency.language: no text of language {efficiency.language!r} to measure speed with; there are: "
            f"{', '.join(names) or 'none'}"
        )
    return found


def _read(texts: Mapping[str, Sequence[Path]], *, characters: int) -> Documents:
    found = {}
    for name, files in texts.items():
        skipped: Counter[str] = Counter()
        found[name] = read_excerpt(files, characters=characters, skipped=skipped)
        if skipped:
            note(f"{name}: left out {', '.join(f'{n} documents ({reason})' for reason, n in skipped.items())}")
    return found
