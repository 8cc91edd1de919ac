"""Damage shows where there is some, in the same characters for every tokenizer, and nowhere else."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lep.errors import UsageError
from lep.evaluation.continuations import OPENING, continue_openings, openings, shown
from lep.evaluation.side_effects.measure import compare_side_effects, measure_side_effects, pieces
from lep.evaluation.side_effects.measure import measure as side_effects
from lep.evaluation.side_effects.probes import probes
from lep.evaluation.side_effects.wrong_script import pairs, written_in_benchmark, wrong_script, wrong_scripts
from lep.modeling.loading import load_model, load_tokenizer

TEXT = st.text(st.sampled_from("аб ß\n"), max_size=60)


@given(TEXT, st.integers(1, 20))
def test_pieces_are_the_whole_document(document: str, characters: int) -> None:
    found = pieces(document, characters=characters)
    assert "".join(found) == document and all(len(piece) <= characters for piece in found)
    assert all(found) or not document
    for one, other in pairwise(found):
        assert other.startswith(" ") or len(one) == characters


@pytest.fixture
def two(make_model, tokenizers, tmp_path) -> dict[str, Any]:
    """The same layers under two tokenizers."""
    kinds = {"old": "byte_level", "new": "russian_byte_level"}
    return {name: make_model(tmp_path / name, tokenizers[kind]) for name, kind in kinds.items()}


def measure(folder: Any, texts: dict[str, list[str]], name: str = "m") -> dict[str, Any]:
    return measure_side_effects(load_model(folder, dtype="float32"), load_tokenizer(folder), texts, name=name)


@pytest.fixture
def few(monkeypatch) -> None:
    monkeypatch.setattr(side_effects, "probes", lambda: {"arithmetic": [("1 + 1 = 2\n", "1 + 1 = 3\n")] * 4})


def test_every_model_predicts_the_same_characters(two, texts, few, monkeypatch) -> None:
    read: list[str] = []
    original = side_effects.encode

    def watched(tokenizer: Any, documents: Any, **more: Any) -> Any:
        read.append("|".join(documents))
        return original(tokenizer, documents, **more)

    monkeypatch.setattr(side_effects, "encode", watched)
    monkeypatch.setattr(side_effects, "PIECE", 50)
    documents = {"de": [" ".join(texts["en"][:4]), texts["ru"][0]]}
    found = {name: measure(folder, documents, name) for name, folder in two.items()}
    assert read[:2] == read[2:] and read[0].count("|") > 3
    assert [len(one["bits"]["de"]) for one in found.values()] == [2, 2]


def test_a_model_that_forgot_a_language_needs_more_bits_for_it_surely(two, texts, few) -> None:
    documents = {"de": texts["en"][:30]}
    whole = measure(two["old"], documents)
    hurt = {"bits": {"de": [bits * 1.1 + i % 2 for i, bits in enumerate(whole["bits"]["de"])]}, "right": whole["right"]}
    told = compare_side_effects({"old": whole, "same": whole, "hurt": hurt}, documents, reference="old")
    value = told["models"]["old"]["bits_per_byte"]["de"]
    assert value["interval"][0] < value["value"] < value["interval"][1]
    size = sum(len(text.encode()) for text in documents["de"])
    assert value["value"] == pytest.approx(sum(whole["bits"]["de"]) / size)
    assert told["differences"]["same"]["bits_per_byte"]["de"] == {"difference": 0, "interval": [0, 0]}
    difference = told["differences"]["hurt"]["bits_per_byte"]["de"]
    low, high = difference["interval"]
    assert difference["difference"] == pytest.approx(0.1 * value["value"] + 15 / size)
    assert 0 < low < difference["difference"] < high
    assert high - low < (value["interval"][1] - value["interval"][0])  # documents that are hard are so for both
    assert told["texts"]["de"] == {"documents": 30, "characters": sum(map(len, documents["de"])), "bytes": size}


def test_five_documents_have_no_interval(two, texts, few) -> None:
    documents = {"de": texts["en"][:5]}
    told = compare_side_effects(
        {"a": measure(two["old"], documents), "b": measure(two["new"], documents)}, documents, reference="a"
    )
    assert told["models"]["a"]["bits_per_byte"]["de"]["interval"] is None
    assert told["differences"]["b"]["bits_per_byte"]["de"]["interval"] is None


def test_a_piece_that_is_longer_than_a_context_is_named(two, texts, few) -> None:
    with pytest.raises(UsageError, match=r"1000 characters of 'th' are \d+ tokens of m, which has only 512 positions"):
        measure(two["old"], {"th": ["ก" * 1000]})


def test_the_likeliest_text_is_the_answer(two, monkeypatch) -> None:
    items = [("1 + 1 = 2\n", "1 + 1 = 3\n"), ("2\n", "3\n", "4\n")]
    monkeypatch.setattr(side_effects, "probes", lambda: {"sums": items})
    monkeypatch.setattr(side_effects, "document_bits", lambda *_, **__: [1.0, 2.0, 5.0, 5.0, 9.0])
    found = measure(two["old"], {})
    assert found["right"] == {"sums": [True, False]}  # a tie is not right
    told = compare_side_effects({"m": found}, {}, reference="m")["models"]["m"]["probes"]["sums"]
    assert (told["score"], told["items"]) == (0.5, 2) and 0 < told["interval"][0] < 0.5 < told["interval"][1] < 1


def test_probes_are_the_same_every_time_and_right_is_right() -> None:
    found = probes()
    probes.cache_clear()
    assert probes() == found and found.keys() == {"arithmetic", "code"}
    for items in found.values():
        assert all(len(item) == len(set(item)) == 3 for item in items) and len(items) == len(set(items))
    for item in found["arithmetic"]:
        marks = []
        for text in item:
            lines = [line.split(" = ") for line in text.splitlines()]
            assert all(eval(sum_) == int(result) for sum_, result in lines[:-1])  # our own text, not a model's
            marks.append(eval(lines[-1][0]) == int(lines[-1][1]))
        assert marks == [True, False, False] and len(set(map(len, item))) == 1


def test_code_is_code() -> None:
    for item in probes()["code"]:
        trees = [ast.dump(ast.parse(text)) for text in item]
        assert len(set(trees)) == len(trees) and max(map(len, item)) - min(map(len, item)) <= 3


def test_an_answer_in_another_script_is_counted_by_the_script_that_was_expected() -> None:
    answers = [("кот", "кошка"), ("кот", "cat и cats"), ("кот", "42"), ("cat", "кот"), ("7", "кот"), ("本", "ほん")]
    found = wrong_script(answers)
    assert {script: (told["score"] * told["items"], told["items"]) for script, told in found.items()} == {
        "Cyrillic": (1, 3),
        "Latin": (1, 1),
        "Han": (0, 1),
    }
    assert found["Cyrillic"]["interval"][0] < 1 / 3 < found["Cyrillic"]["interval"][1]
    assert wrong_script([]) == {}


def test_of_the_benchmark_what_was_written_counts(tmp_path) -> None:
    rows = [{"gold": "кот", "answer": "cat"}, {"gold": ["кот", "кошка"], "answer": "кот"}]
    (tmp_path / "written.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "chosen.jsonl").write_text(json.dumps({"gold": "A", "log_probabilities": [["A", -1.0]]}) + "\n")
    (tmp_path / "failed.error").write_text("no row")
    found = wrong_scripts({"skills": pairs([], []), "benchmark": written_in_benchmark(tmp_path)})
    assert found.keys() == {"benchmark"}
    assert (found["benchmark"]["Cyrillic"]["score"], found["benchmark"]["Cyrillic"]["items"]) == (0.5, 2)
    assert list(written_in_benchmark(tmp_path / "none")) == []


DOCUMENTS = st.lists(st.text(st.sampled_from("абв \n"), min_size=1, max_size=300), min_size=1, max_size=20)


@given(DOCUMENTS)
def test_openings_are_beginnings_of_the_longest_documents(documents: list[str]) -> None:
    found = openings({"ru": documents}, count=8)
    longest = sorted(documents, key=len, reverse=True)[:8]
    assert len(found) == min(8, len(documents))
    for opening, document in zip(found, longest, strict=True):
        assert document.startswith(opening.prompt) and len(opening.prompt) <= OPENING


def test_every_opening_is_continued_and_the_first_of_each_language_are_shown(two, texts) -> None:
    found = openings({language: documents[:9] for language, documents in texts.items()}, count=3)
    torch.manual_seed(0)
    model, tokenizer = load_model(two["old"], dtype="float32"), load_tokenizer(two["old"])
    answers = continue_openings(model, tokenizer, found)
    assert len(answers) == 6 and all(answer.tokens for answer in answers)
    rows = shown(found, {"m": answers})
    assert [row["language"] for row in rows] == ["ru", "ru", "en", "en"]
    assert [row["texts"]["m"] for row in rows] == [answers[i] for i in (0, 1, 3, 4)]
