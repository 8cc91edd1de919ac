"""Detect near duplicates by MinHash and locality-sensitive hashing.

A text is the set of its shingles, 5-grams of words. MinHash (datasketch) computes a signature of the set; the expected
fraction of equal positions in two signatures is the Jaccard similarity of the sets. The signature is divided into
bands; texts that are equal in a band are near duplicates. Only a 64-bit key of each band has to be stored. datasketch's
own index (`MinHashLSH`) chooses the number and length of the bands; it would store several times as much.

Source: Broder 1997, "On the resemblance and containment of documents".
"""

from __future__ import annotations

import re

import xxhash
from datasketch import MinHash, MinHashLSH

_SHINGLE_WORDS = 5
"""As is usual in cleaning of web text."""
_PERMUTATIONS = 128
"""Maximum length of a signature: bands × rows."""
_ERROR_WEIGHTS = (0.1, 0.9)
"""Weights of false positives and false negatives: a missed pair can be in both splits."""
_SHINGLE_BATCH = 1024
"""Shingles hashed at once, which bounds the memory for a long text."""

_UNSEGMENTED_CHARACTERS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Thai … Han
)
"""Characters of scripts without spaces between words: each counts as a word."""
_PUNCTUATION = r"\s!-/:-@\[-`{-\xbf\u2000-\u206f\u3000-\u303f\uff01-\uff0f"
_WORD = re.compile(f"[{_UNSEGMENTED_CHARACTERS}]|[^{_PUNCTUATION}{_UNSEGMENTED_CHARACTERS}]+")


class MinHasher:
    """Computes keys of texts: two texts are near duplicates if they share a key."""

    def __init__(self, threshold: float) -> None:
        """Choose the bands for a threshold of Jaccard similarity.

        Far above the threshold nearly every pair shares a key, far below hardly any; near it, chance decides.

        Args:
            threshold: From 0.5 to 0.95.
        """
        bands = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=_ERROR_WEIGHTS)
        self.num_bands: int = bands.b
        self.rows_per_band: int = bands.r
        self._empty_minhash = MinHash(num_perm=self.num_bands * self.rows_per_band, hashfunc=xxhash.xxh32_intdigest)

    def compute_band_keys(self, text: str) -> list[int]:
        """Return one key for each band, the same in every run and on every machine."""
        shingles, minhash = compute_shingles(text), self._empty_minhash.copy()
        for start in range(0, len(shingles), _SHINGLE_BATCH):
            minhash.update_batch(shingles[start : start + _SHINGLE_BATCH])
        signature = minhash.hashvalues.astype("<u4").reshape(self.num_bands, self.rows_per_band)
        return [xxhash.xxh64_intdigest(rows.tobytes(), seed=band) for band, rows in enumerate(signature)]


def compute_shingles(text: str) -> list[bytes]:
    """Return the 5-grams of words, ignoring case and punctuation; fewer words are one shingle.

    >>> compute_shingles("One, two, three, four, five, six!")
    [b'one two three four five', b'two three four five six']
    """
    words = _WORD.findall(text.casefold())
    starts = range(max(1, len(words) - _SHINGLE_WORDS + 1))
    return [" ".join(words[start : start + _SHINGLE_WORDS]).encode() for start in starts]
