"""Texts that share most of their runs of words share a key, others do not; keys are the same everywhere."""

from __future__ import annotations

import random

import pytest

from lep.data import deduplication as near_duplicates
from lep.data.deduplication import Sketcher, shingles


def pair(similarity: float, *, seed: int, words: int = 400) -> tuple[str, str]:
    """Two texts with about this Jaccard similarity: the second begins like the first and ends otherwise."""
    draw = random.Random(seed)
    same = round(2 * similarity / (1 + similarity) * words)  # of n shingles each, s shared: J = s / (2n - s)
    first, second = ([f"w{draw.randrange(10**9)}" for _ in range(words)] for _ in range(2))
    return " ".join(first), " ".join(first[:same] + second[same:])


def found(threshold: float, similarity: float, *, pairs: int = 60) -> float:
    """Share of pairs of this similarity that share a key."""
    sketcher = Sketcher(threshold)
    keys = [tuple(set(sketcher.keys(text)) for text in pair(similarity, seed=seed)) for seed in range(pairs)]
    return sum(bool(first & second) for first, second in keys) / pairs


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_pairs_are_found_from_the_threshold_on(threshold: float) -> None:
    assert found(threshold, min(0.98, threshold + 0.12)) > 0.95
    assert found(threshold, threshold - 0.3) < 0.3
    assert found(threshold, 0.05) == 0


def test_as_often_as_the_bands_foretell() -> None:
    """1 - (1 - J^length)^bands."""
    sketcher = Sketcher(0.8)
    foretold = 1 - (1 - 0.75**sketcher.length) ** sketcher.bands
    assert abs(found(0.8, 0.75, pairs=200) - foretold) < 0.12


def test_case_and_punctuation_do_not_count() -> None:
    one, two = "Он сказал: «Пойдём домой, уже поздно, и темно». — Да!", "он сказал пойдём домой  уже поздно и\nТЕМНО да"
    assert Sketcher(0.8).keys(one) == Sketcher(0.8).keys(two)
    assert shingles(one) == shingles(two)


def test_shingles_are_runs_of_five_words_in_every_script() -> None:
    assert shingles("a b c d e f") == [b"a b c d e", b"b c d e f"]
    assert shingles("a, b.") == [b"a b"]
    assert shingles("") == [b""]
    assert shingles("我喜欢读书。再见") == [
        "我 喜 欢 读 书".encode(),
        "喜 欢 读 书 再".encode(),
        "欢 读 书 再 见".encode(),
    ]
    assert shingles("हिन्दी भाषा") == ["हिन्दी भाषा".encode()]


def test_keys_are_the_same_everywhere() -> None:
    keys = Sketcher(0.8).keys("The keys of a text are the same in every run and on every machine.")
    assert len(set(keys)) == Sketcher(0.8).bands
    assert keys[:2] == [6955261851764976552, 16698459844150600129]


def test_a_long_text_is_hashed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pair(0.5, seed=0, words=5000)[0]
    sliced = Sketcher(0.8).keys(text)
    monkeypatch.setattr(near_duplicates, "_SLICE", 10**9)
    assert Sketcher(0.8).keys(text) == sliced
