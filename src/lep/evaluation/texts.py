"""Read the texts of an evaluation, each by its language or kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lep.config.efficiency import EfficiencySettings, SideEffectsSettings
from lep.data.corpus import list_corpus_languages, read_heldout_excerpt
from lep.data.documents import read_excerpt
from lep.errors import DataError
from lep.progress import log_message

DocumentsByName = dict[str, list[str]]
"""Documents by language or kind."""


@dataclass(frozen=True)
class EvaluationTexts:
    """Documents by what they are used for; names are unique across all three."""

    heldout: DocumentsByName
    """Of the corpus."""
    side_effects: DocumentsByName
    """Of `side_effects`."""
    efficiency: DocumentsByName
    """Of `efficiency`."""

    @property
    def all(self) -> DocumentsByName:
        """All documents by name."""
        return self.heldout | self.side_effects | self.efficiency


def read_texts(
    corpus: Path | None,
    *,
    side_effects: SideEffectsSettings | None,
    efficiency: EfficiencySettings | None,
    max_characters: int,
) -> EvaluationTexts:
    """Read the beginning of each text.

    Args:
        corpus: Folder made by `collect`, whose held-out documents are read; or `None`.
        side_effects: Names further texts, and how much of each is read; or `None`.
        efficiency: Names further texts; or `None`.
        max_characters: Characters of each text of the corpus and of `efficiency`.

    Returns:
        The documents by name.

    Raises:
        DataError: A text is missing or empty, two texts have one name, or no text is in the language of `efficiency`.
    """
    texts = EvaluationTexts(
        heldout={
            language: read_heldout_excerpt(corpus, language, max_characters=max_characters)
            for language in list_corpus_languages(corpus)
        }
        if corpus
        else {},
        side_effects=_read_excerpts(side_effects.texts, max_characters=side_effects.characters) if side_effects else {},
        efficiency=_read_excerpts(efficiency.texts, max_characters=max_characters) if efficiency else {},
    )
    names = Counter([*texts.heldout, *texts.side_effects, *texts.efficiency])
    if duplicates := [name for name, count in names.items() if count > 1]:
        raise DataError(f"evaluate: more than one text is called {duplicates[0]!r}; give each a name of its own")
    if efficiency and efficiency.language not in names:
        raise DataError(
            f"efficiency.language: no text of language {efficiency.language!r} to measure speed with; there are: "
            f"{', '.join(names) or 'none'}"
        )
    return texts


def _read_excerpts(texts: Mapping[str, Sequence[Path]], *, max_characters: int) -> DocumentsByName:
    documents = {}
    for name, files in texts.items():
        documents[name], skipped = read_excerpt(files, max_characters=max_characters)
        if skipped:
            reasons = ", ".join(f"{count} documents ({reason})" for reason, count in skipped.items())
            log_message(f"{name}: left out {reasons}")
    return documents
