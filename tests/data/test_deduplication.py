"""Texts that share most of their 5-grams of words share a key; keys are reproducible."""

from __future__ import annotations

import random

import pytest

from lep.data import deduplication
from lep.data.deduplication import MinHasher, compute_shingles


def make_pair(similarity: float, *, seed: int, words: int = 400) -> tuple[str, str]:
    """Two texts with about this Jaccard similarity: the second begins like the first and ends otherwise."""
    draw = random.Random(seed)
    same = round(2 * similarity / (1 + similarity) * words)  # of n shingles each, s shared: J = s / (2n - s)
    first, second = ([f"w{draw.randrange(10**9)}" for _ in range(words)] for _ in range(2))
    return " ".join(first), " ".join(first[:same] + second[same:])


def recall(threshold: float, similarity: float, *, pairs: int = 60) -> float:
    """Share of pairs of this similarity that share a key."""
    hasher = MinHasher(threshold)
    keys = [
        tuple(set(hasher.compute_band_keys(text)) for text in make_pair(similarity, seed=seed)) for seed in range(pairs)
    ]
    return sum(bool(first & second) for first, second in keys) / pairs


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_pairs_above_the_threshold_are_found(threshold: float) -> None:
    assert recall(threshold, min(0.98, threshold + 0.12)) > 0.95
    assert recall(threshold, threshold - 0.3) < 0.3
    assert recall(threshold, 0.05) == 0


def test_recall_is_as_the_bands_predict() -> None:
    """1 - (1 - J^length)^bands."""
    hasher = MinHasher(0.8)
    expected = 1 - (1 - 0.75**hasher.rows_per_band) ** hasher.num_bands
    assert abs(recall(0.8, 0.75, pairs=200) - expected) < 0.12


def test_case_and_punctuation_do_not_count() -> None:
    text, same_words = (
        "Он сказал: «Пойдём домой, уже поздно, и темно». — Да!",
        "он сказал пойдём домой  уже поздно и\nТЕМНО да",
    )
    assert MinHasher(0.8).compute_band_keys(text) == MinHasher(0.8).compute_band_keys(same_words)
    assert compute_shingles(text) == compute_shingles(same_words)


def test_shingles_are_runs_of_five_words_in_every_script() -> None:
    assert compute_shingles("a b c d e f") == [b"a b c d e", b"b c d e f"]
    assert compute_shingles("a, b.") == [b"a b"]
    assert compute_shingles("") == [b""]
    assert compute_shingles("我喜欢读书。再见") == [
        "我 喜 欢 读 书".encode(),
        "喜 欢 读 书 再".encode(),
        "欢 读 书 再 见".encode(),
    ]
    assert compute_shingles("हिन्दी भाषा") == ["हिन्दी भाषा".encode()]


def test_keys_are_the_same_everywhere() -> None:
    keys = MinHasher(0.8).compute_band_keys("The keys of a text are the same in every run and on every machine.")
    assert len(set(keys)) == MinHasher(0.8).num_bands
    assert keys[:2] == [6955261851764976552, 16698459844150600129]


def test_a_long_text_is_hashed_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    text = make_pair(0.5, seed=0, words=5000)[0]
    batched = MinHasher(0.8).compute_band_keys(text)
    monkeypatch.setattr(deduplication, "_SHINGLE_BATCH", 10**9)
    assert MinHasher(0.8).compute_band_keys(text) == batched
