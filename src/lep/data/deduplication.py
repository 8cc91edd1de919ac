"""Near duplicates: texts that share most of their runs of words.

A text is its set of shingles, runs of five words. MinHash (datasketch) makes a signature of the set, in which two sets
agree at a share of places that is, expected, their Jaccard similarity: shared shingles over all. The signature is cut
into bands; texts that agree in a whole band are near duplicates. Only a key of 64 bits a band has to be remembered.
datasketch's own index of bands (`MinHashLSH`) gives their number and length; it remembers several times as much.

Source: Broder 1997, "On the resemblance and containment of documents".
"""

from __future__ import annotations

import re

import xxhash
from datasketch import MinHash, MinHashLSH

_SHINGLE = 5
"""Words in a run, as is usual in cleaning of web text."""
_PERMUTATIONS = 128
"""Places of a signature, at most: bands × length."""
_WEIGHTS = (0.1, 0.9)
"""Of a pair wrongly found and of one missed: a missed one can be trained on and held out."""
_SLICE = 1024
"""Shingles that are hashed at once: bounds the memory of a long text."""

_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Thai … Han
)
"""Characters of scripts that part no words: each counts as a word."""
_PUNCTUATION = r"\s!-/:-@\[-`{-\xbf\u2000-\u206f\u3000-\u303f\uff01-\uff0f"
_WORD = re.compile(f"[{_ALONE}]|[^{_PUNCTUATION}{_ALONE}]+")


class Sketcher:
    """Gives texts keys: two texts are near duplicates when they share a key."""

    def __init__(self, threshold: float) -> None:
        """Choose bands whose texts are near duplicates from about this Jaccard similarity on.

        Well above the threshold nearly every pair shares a key, well below hardly one does; around it, chance decides.

        Args:
            threshold: from 0.5 to 0.95.
        """
        bands = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=_WEIGHTS)
        self.bands: int = bands.b
        self.length: int = bands.r
        self._empty = MinHash(num_perm=self.bands * self.length, hashfunc=xxhash.xxh32_intdigest)

    def keys(self, text: str) -> list[int]:
        """One key a band; the same in every run and on every machine."""
        found, minhash = shingles(text), self._empty.copy()
        for start in range(0, len(found), _SLICE):
            minhash.update_batch(found[start : start + _SLICE])
        signature = minhash.hashvalues.astype("<u4").reshape(self.bands, self.length)
        return [xxhash.xxh64_intdigest(places.tobytes(), seed=band) for band, places in enumerate(signature)]


def shingles(text: str) -> list[bytes]:
    """The runs of five words; all words as one run where they are fewer. Case and punctuation do not count."""
    words = _WORD.findall(text.casefold())
    runs = range(max(1, len(words) - _SHINGLE + 1))
    return [" ".join(words[start : start + _SHINGLE]).encode() for start in runs]
