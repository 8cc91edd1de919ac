"""Openings are beginnings of real documents; a rate is what was written over the seconds it took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lep.evaluation.generation import Answer
from lep.evaluation.speed import LENGTH, OPENING, OPENINGS, Speed, openings

DOCUMENTS = st.lists(st.text(st.sampled_from("абв \n"), min_size=1, max_size=300), min_size=1, max_size=20)


@given(DOCUMENTS)
def test_openings_are_beginnings_of_the_longest_documents(documents: list[str]) -> None:
    found = openings(documents)
    longest = sorted(documents, key=len, reverse=True)[:OPENINGS]
    assert len(found) == min(OPENINGS, len(documents))
    for opening, document in zip(found, longest, strict=True):
        assert document.startswith(opening) and len(opening) <= OPENING


def test_an_opening_ends_with_a_whole_word(texts) -> None:
    documents = [" ".join(texts["ru"][i : i + 4]) for i in range(12)]
    for opening in openings(documents):
        document = next(document for document in documents if document.startswith(opening))
        assert document[len(opening)] == " " and OPENING - 25 < len(opening) <= OPENING


def test_rates_are_over_all_openings_together() -> None:
    speed = Speed(answers=[Answer("абвг", LENGTH), Answer("аб", LENGTH)], seconds=2.0)
    assert speed.tokens_per_second == LENGTH and speed.characters_per_second == 3.0
