"""How exactly real tokenizers are mapped onto each other: one row for every ordered pair (old, new).

    sh tests/real/fetch.sh && python benchmarks/exactness.py [FOLDER]

`exact` is the share of the new tokens, special ones and holes aside, whose pieces spell exactly their bytes.
"""

from __future__ import annotations

import sys
import time
from itertools import permutations
from pathlib import Path

from lep.core.vocabulary import Kind, VocabularyMap
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer

COLUMNS = f"{'old':<12}{'new':<12}{'tokens':>9}{'shared':>9}{'composed':>9}{'pieces':>8}{'exact %':>9}{'seconds':>9}"


def exact_share(old: TokenizerFile, new: TokenizerFile, found: VocabularyMap) -> float:
    """Per cent of the new learnt tokens and bytes whose pieces spell them."""
    pieces, offsets = found.pieces.tolist(), found.offsets.tolist()
    tokens = old.vocabulary.tokens
    asked = [id_ for id_, kind in enumerate(new.vocabulary.kinds) if kind in (Kind.NORMAL, Kind.BYTE)]
    exact = sum(
        b"".join(tokens[piece] for piece in pieces[offsets[id_] : offsets[id_ + 1]]) == new.vocabulary.tokens[id_]
        for id_ in asked
    )
    return 100 * exact / len(asked)


def main(folder: Path) -> None:
    """Print the table."""
    read = {path.name: read_tokenizer(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    print(COLUMNS)
    for old, new in permutations(read, 2):
        started = time.perf_counter()
        found = map_vocabularies(read[old], read[new])
        seconds = time.perf_counter() - started
        composed = found.lengths[~found.shared & (found.lengths > 0)]
        print(
            f"{old:<12}{new:<12}{found.new_size:>9,}{int(found.shared.sum()):>9,}{len(composed):>9,}"
            f"{float(composed.double().mean()):>8.2f}{exact_share(read[old], read[new], found):>9.3f}{seconds:>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/real"))
