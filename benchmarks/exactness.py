"""How exactly real tokenizers are mapped onto each other: one row for every ordered pair (old, new).

    sh tests/real/fetch.sh && python benchmarks/exactness.py [FOLDER]

`exact` is the percentage of new tokens, without special and unused ones, whose segmentation has exactly their bytes.
"""

from __future__ import annotations

import sys
import time
from itertools import permutations
from pathlib import Path

from lep.core.vocabulary import TokenKind, VocabularyMap
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer

COLUMNS = f"{'old':<12}{'new':<12}{'tokens':>9}{'shared':>9}{'composed':>9}{'length':>8}{'exact %':>9}{'seconds':>9}"


def exact_percentage(old: TokenizerFile, new: TokenizerFile, mapping: VocabularyMap) -> float:
    """Return the percentage of new learned tokens and bytes whose segmentation has exactly their bytes."""
    segmentation, offsets = mapping.segmentation.tolist(), mapping.offsets.tolist()
    tokens, kinds = old.vocabulary.tokens, (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK)
    ids = [id_ for id_, kind in enumerate(new.vocabulary.kinds) if kind in kinds]
    exact = sum(
        b"".join(tokens[i] for i in segmentation[offsets[id_] : offsets[id_ + 1]]) == new.vocabulary.tokens[id_]
        for id_ in ids
    )
    return 100 * exact / len(ids)


def main(folder: Path) -> None:
    """Print the table."""
    tokenizers = {path.name: read_tokenizer(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    print(COLUMNS)
    for old, new in permutations(tokenizers, 2):
        started = time.perf_counter()
        mapping = map_vocabularies(tokenizers[old], tokenizers[new])
        seconds = time.perf_counter() - started
        exact = exact_percentage(tokenizers[old], tokenizers[new], mapping)
        composed = mapping.lengths[~mapping.shared & (mapping.lengths > 0)]
        print(
            f"{old:<12}{new:<12}{mapping.new_size:>9,}{int(mapping.shared.sum()):>9,}{len(composed):>9,}"
            f"{float(composed.double().mean()):>8.2f}{exact:>9.3f}{seconds:>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/real"))
