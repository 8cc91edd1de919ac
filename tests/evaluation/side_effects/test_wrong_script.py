"""Answers in another script are counted by the script that was expected."""

from __future__ import annotations

import pytest

from lep.errors import ArtifactError
from lep.evaluation.darumeru.document_records import DocumentRecord, write_document_records
from lep.evaluation.side_effects.wrong_script import (
    compute_wrong_script,
    compute_wrong_script_by_source,
    pair_with_answers,
    read_benchmark_answers,
)
from lep.results.evaluation import GeneratedText


def test_an_answer_in_another_script_is_counted_by_the_expected_script() -> None:
    answers = [("кот", "кошка"), ("кот", "cat и cats"), ("кот", "42"), ("cat", "кот"), ("7", "кот"), ("本", "ほん")]
    fractions = compute_wrong_script(answers)
    assert {script: (round(item.score * item.items), item.items) for script, item in fractions.items()} == {
        "Cyrillic": (1, 3),
        "Latin": (1, 1),
        "Han": (0, 1),
    }
    assert fractions["Cyrillic"].interval[0] < 1 / 3 < fractions["Cyrillic"].interval[1]
    assert compute_wrong_script([]) == {}


@pytest.mark.parametrize(
    ("answer", "is_wrong"), [("кcc", True), ("ккc", False), ("кc", False), ("cк", True), ("к12345678c9c", True)]
)
def test_the_script_of_most_letters_counts_and_the_first_on_a_tie(answer: str, is_wrong: bool) -> None:
    assert compute_wrong_script([("кот", answer)])["Cyrillic"].score == is_wrong


def test_pairs_are_complete() -> None:
    assert list(pair_with_answers(["a"], [GeneratedText("b", 1)])) == [("a", "b")]
    with pytest.raises(ValueError, match="shorter"):
        list(pair_with_answers(["a"], []))


def test_of_the_benchmark_generated_answers_count(tmp_path) -> None:
    def record(number: int, gold: str, **values) -> DocumentRecord:
        return DocumentRecord(document=number, prompt="?", gold=gold, score=1.0, **values)

    generated = [record(1, "кот", answer="cat"), record(2, "кот", answer="кот")]
    write_document_records(tmp_path / "generated.jsonl", generated)
    write_document_records(tmp_path / "chosen.jsonl", [record(1, "A", log_probabilities=(("A", -1.0),))])
    (tmp_path / "failed.error").write_text("no row")
    fractions = compute_wrong_script_by_source(
        {"skills": pair_with_answers([], []), "benchmark": read_benchmark_answers(tmp_path)}
    )
    assert fractions.keys() == {"benchmark"}
    assert (fractions["benchmark"]["Cyrillic"].score, fractions["benchmark"]["Cyrillic"].items) == (0.5, 2)
    assert list(read_benchmark_answers(tmp_path / "none")) == []
    (tmp_path / "broken.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match=r"broken\.jsonl: not written by this version of lep"):
        list(read_benchmark_answers(tmp_path))
