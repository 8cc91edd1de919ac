"""Advise: every size as `retokenize` would make it, a recommendation in words, a picture, and clear refusals."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from lep.cli.main import main
from lep.config import Advise, Retokenize
from lep.core import vocabulary_sizing as advice
from lep.errors import DataError, LepError, TokenizerError, UsageError
from lep.io.artifact import read_manifest
from lep.reporting.tables.vocabulary_sizing import assumptions, parse_advised, tables, why

Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and occurrences for a thousand sentences; a wide terminal."""
    monkeypatch.setattr(advice, "FIRST", 10)
    monkeypatch.setattr(advice, "SEEN", 20)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def model(bases: dict[str, Path]) -> Path:
    return bases["untied"]


@pytest.mark.parametrize("family", ["byte_level", "tiktoken", "sentencepiece_bpe", "metaspace"])
@pytest.mark.parametrize("kind", ["extended", "optimized"])
def test_every_size_writes_as_retokenize_would_make_it(
    family: str, kind: Any, tokenizers, corpus: Path, run_room: Run, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"base": tokenizers[family], "corpus": corpus, "kind": kind, "mixture": {"ru": 1}}
    shared |= {"kept_tokens": 400} if kind == "optimized" else {}
    found = parse_advised(run_room(Advise(**shared, largest=50), tmp_path / "advice"))
    assert [point.new_tokens for point in found.points] == [0, 10, 20, 40]
    for point in found.points[1:]:
        made = run_room(Retokenize(**shared, new_tokens=point.new_tokens), tmp_path / str(point.new_tokens))
        assert point.vocabulary_size == made["vocabulary_size"]
        for language, symbols in made["symbols_per_token"].items():
            assert found.base.languages[language].symbols_per_token == pytest.approx(symbols["before"])
            assert point.languages[language].symbols_per_token == pytest.approx(symbols["after"])


def test_a_model_tells_its_costs(model: Path, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    found = parse_advised(run_room(Advise(base=model, corpus=corpus, mixture={"ru": 1}, largest=80), tmp_path / "a"))
    assert found.model is not None and (found.model.width, found.model.tied, found.model.rows) == (32, False, 500)
    costs = {point.new_tokens: point.cost for point in found.points}
    rows = {0: 500, 10: 512, 20: 576, 40: 576, 80: 640}
    assert {n: cost and cost.parameters for n, cost in costs.items()} == {
        n: (count - 500) * 32 * 2 for n, count in rows.items()
    }
    assert all(point.generation and point.generation < point.prefill for point in found.points[1:])
    assert set(found.texts) == {"ru", "en"} and set(found.shares) == {"ru"}


def test_a_described_model_counts_as_one(tokenizers, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    settings = Advise(base=tokenizers["byte_level"], corpus=corpus, largest=20, width=32, tied=True, parameters=100_000)
    found = parse_advised(run_room(settings, tmp_path / "a"))
    assert found.model == advice.Model(width=32, tied=True, parameters=100_000, rows=512)
    assert found.points[1].cost is not None and found.points[1].cost.parameters == 0  # 510 tokens fit the padded rows
    assert sum("Generation" in sentence for sentence in assumptions(found)) == 1


def test_without_a_model_it_says_what_is_missing(tokenizers, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    numbers = run_room(Advise(base=tokenizers["byte_level"], corpus=corpus, largest=20), tmp_path / "a")
    assert numbers["model"] is None and "only a tokenizer" in numbers["assumptions"][-1]
    assert "generation" not in tables(parse_advised(numbers))[1].headings


def test_training_longer_makes_more_tokens_learnable(
    tokenizers, corpus: Path, run_room: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "SEEN", 1000)
    settings = Advise(base=tokenizers["byte_level"], corpus=corpus, mixture={"ru": 1}, largest=80)
    once = run_room(settings, tmp_path / "once")
    assert once["recommendation"] == {"new_tokens": 0, "limit": "occurrences", "at": 20}
    assert once["why"][0] == "Do not extend the base for this text." and "training tokens (tokens=)" in once["why"][-1]
    enough = next(point["enough"] for point in once["points"] if point["new_tokens"] == 20)
    longer = run_room(settings.model_copy(update={"tokens": enough}), tmp_path / "longer")
    assert longer["recommendation"]["new_tokens"] >= 20 and len(longer["why"]) == 4
    less = run_room(settings.model_copy(update={"tokens": enough * 9 // 10}), tmp_path / "less")
    assert less["recommendation"]["new_tokens"] == 0


def test_a_language_that_the_base_writes_well_needs_nothing(
    tokenizers, corpus: Path, run_room: Run, tmp_path: Path
) -> None:
    settings = Advise(base=tokenizers["russian_byte_level"], corpus=corpus, mixture={"ru": 1}, largest=10)
    numbers = run_room(settings, tmp_path / "a")
    assert numbers["recommendation"] == {"new_tokens": 0, "limit": "covered", "at": 10}
    assert numbers["why"][-1].startswith("Even 10 new tokens would shorten the text by only ")


def test_the_picture_is_a_file_of_its_own(model: Path, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    run_room(Advise(base=model, corpus=corpus, mixture={"ru": 1}, largest=80), tmp_path / "a")
    text = (tmp_path / "a" / "advice.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"base", "80", "Russian", "English", "prefill", "generation", "new tokens"} <= words
    assert any(word and word.startswith("recommended: ") for word in words)
    assert "var(--" not in text and not {"#010101", "#020202", "#030303", "#040404"} & set(text.split('"'))


def test_the_same_inputs_give_the_same_advice(model: Path, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    settings = Advise(base=model, corpus=corpus, largest=40)
    assert run_room(settings, tmp_path / "a") == run_room(settings, tmp_path / "b")
    assert (tmp_path / "a" / "advice.svg").read_bytes() == (tmp_path / "b" / "advice.svg").read_bytes()


def test_refusals(tokenizers, model: Path, corpus: Path, run_room: Run, tmp_path: Path) -> None:
    file = tmp_path / "ru.jsonl"
    file.write_text('{"text": "Один документ."}\n', encoding="utf-8")
    blank = tmp_path / "blank"
    blank.mkdir()
    (blank / "ru.train.jsonl").write_text('{"text": "Один документ."}\n', encoding="utf-8")
    (blank / "ru.heldout.jsonl").write_text('{"text": " "}\n', encoding="utf-8")
    base = tokenizers["byte_level"]
    described = {"width": 32, "tied": True, "parameters": 100_000}
    wrong: list[tuple[dict[str, Any], type[LepError], str]] = [
        ({"base": base, "corpus": file}, DataError, "nothing of 'ru' is held out"),
        ({"base": base, "corpus": blank}, DataError, "is white space"),
        ({"base": base, "corpus": corpus, "mixture": {"uk": 1}}, DataError, "no text of language 'uk'"),
        ({"base": tokenizers["sentencepiece_unigram"], "corpus": corpus}, TokenizerError, "no size to advise on"),
        ({"base": model, "corpus": corpus, **described}, UsageError, "a whole model; leave out width"),
        ({"base": base, "corpus": corpus, **described, "parameters": 1000}, UsageError, "the tables alone have 16,384"),
    ]
    for i, (settings, error, words) in enumerate(wrong):
        with pytest.raises(error, match=words):
            run_room(Advise(**settings), tmp_path / str(i))


def test_settings_that_disagree() -> None:
    for extra, words in (({"width": 32}, "give all three"), ({"kept_tokens": 300}, "belongs to kind=optimized")):
        with pytest.raises(ValidationError, match=words):
            Advise.model_validate({"base": "b", "corpus": "c", **extra})


def test_the_command_shows_the_tables_and_says_what_to_do(model: Path, corpus: Path, tmp_path: Path, capsys) -> None:
    words = ["advise", f"base={model}", f"corpus={corpus}", "mixture={ru: 1}", "largest=40", f"out={tmp_path / 'a'}"]
    assert main(words) == 0
    out = capsys.readouterr().out
    found = parse_advised(read_manifest(tmp_path / "a").numbers)
    lines = out.splitlines()
    for table in tables(found):
        assert table.title in [line.strip() for line in lines]
        for row in table.rows:
            assert any(all(cell in line for cell in row) for line in lines), row
    assert " ".join(why(found)) in out and all(sentence in out for sentence in assumptions(found))
    assert f"see {tmp_path / 'a' / 'advice.svg'}" in out
    following = next(line for line in lines if line.strip().startswith("then lep retokenize"))
    command = shlex.split(following)[2:]
    assert main([word if word != "out=…" else f"out={tmp_path / 'tokenizer'}" for word in command]) == 0
    made = read_manifest(tmp_path / "tokenizer").numbers
    assert made["new_tokens"] == found.recommendation.new_tokens
