"""Advise: every size as `retokenize` would make it, a recommendation with reasons, a chart, and clear refusals."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from lep.cli.main import main
from lep.config import AdviseSettings, RetokenizeSettings
from lep.core import vocabulary_sizing
from lep.errors import DataError, LepError, TokenizerError, UsageError
from lep.io.artifact import read_manifest
from lep.registry import parse_stage_result
from lep.reporting.tables.vocabulary_sizing import build_size_tables
from lep.results.advice import AdviceResult, ModelDimensions, SizeRecommendation

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and occurrences for a thousand sentences; a wide terminal."""
    monkeypatch.setattr(vocabulary_sizing, "SMALLEST_SIZE", 10)
    monkeypatch.setattr(vocabulary_sizing, "MIN_OCCURRENCES", 20)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def model(bases: dict[str, Path]) -> Path:
    return bases["untied"]


@pytest.mark.parametrize("family", ["byte_level", "tiktoken", "sentencepiece_bpe", "metaspace"])
@pytest.mark.parametrize("kind", ["extended", "optimized"])
def test_every_size_compresses_as_retokenize_would(
    family: str, kind: Any, tokenizers, corpus: Path, run_stage: Run, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"base": tokenizers[family], "corpus": corpus, "kind": kind, "mixture": {"ru": 1}}
    shared |= {"kept_tokens": 400} if kind == "optimized" else {}
    result = run_stage(AdviseSettings(**shared, max_added_tokens=50), tmp_path / "advice")
    assert [point.new_tokens for point in result.points] == [0, 10, 20, 40]
    for point in result.points[1:]:
        settings = RetokenizeSettings(**shared, new_tokens=point.new_tokens)
        made = run_stage(settings, tmp_path / str(point.new_tokens))
        assert point.vocabulary_size == made.vocab_size
        for language, change in made.characters_per_token.items():
            assert result.base.compression[language].characters_per_token == pytest.approx(change.before)
            assert point.compression[language].characters_per_token == pytest.approx(change.after)


def test_a_model_determines_the_costs(model: Path, corpus: Path, run_stage: Run, tmp_path: Path) -> None:
    settings = AdviseSettings(base=model, corpus=corpus, mixture={"ru": 1}, max_added_tokens=80)
    result = run_stage(settings, tmp_path / "a")
    assert result.model is not None and (result.model.hidden_size, result.model.tied) == (32, False)
    assert result.model.num_embeddings == 500
    costs = {point.new_tokens: point.cost for point in result.points}
    rows = {0: 500, 10: 512, 20: 576, 40: 576, 80: 640}
    assert {n: cost and cost.parameters for n, cost in costs.items()} == {
        n: (count - 500) * 32 * 2 for n, count in rows.items()
    }
    assert all(point.decode_speedup and point.decode_speedup < point.prefill_speedup for point in result.points[1:])
    assert set(result.texts) == {"ru", "en"} and set(result.language_weights) == {"ru"}


def test_a_described_model_determines_them_too(tokenizers, corpus: Path, run_stage: Run, tmp_path: Path) -> None:
    described = {"hidden_size": 32, "tie_word_embeddings": True, "num_parameters": 100_000}
    settings = AdviseSettings(base=tokenizers["byte_level"], corpus=corpus, max_added_tokens=20, **described)
    result = run_stage(settings, tmp_path / "a")
    assert result.model == ModelDimensions(hidden_size=32, tied=True, num_parameters=100_000, num_embeddings=512)
    assert result.points[1].cost is not None and result.points[1].cost.parameters == 0  # 510 tokens fit the padded rows
    assert sum("Generation" in sentence for sentence in result.assumptions) == 1


def test_without_a_model_the_assumptions_name_what_is_missing(
    tokenizers, corpus: Path, run_stage: Run, tmp_path: Path
) -> None:
    settings = AdviseSettings(base=tokenizers["byte_level"], corpus=corpus, max_added_tokens=20)
    result = run_stage(settings, tmp_path / "a")
    assert result.model is None and "only a tokenizer" in result.assumptions[-1]
    assert "generation" not in build_size_tables(result)[1].headings


def test_longer_training_trains_more_tokens(
    tokenizers, corpus: Path, run_stage: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_sizing, "MIN_OCCURRENCES", 1000)
    settings = AdviseSettings(base=tokenizers["byte_level"], corpus=corpus, mixture={"ru": 1}, max_added_tokens=80)
    once = run_stage(settings, tmp_path / "once")
    assert once.recommendation == SizeRecommendation(0, "occurrences", 20)
    assert once.explanation[0] == "Do not extend the base for this text."
    assert "training tokens (tokens=)" in once.explanation[-1]
    needed = once.find_point(20).training_tokens_needed
    longer = run_stage(settings.model_copy(update={"tokens": needed}), tmp_path / "longer")
    assert longer.recommendation.new_tokens >= 20 and len(longer.explanation) == 4
    shorter = run_stage(settings.model_copy(update={"tokens": needed * 9 // 10}), tmp_path / "shorter")
    assert shorter.recommendation.new_tokens == 0


def test_a_language_that_the_base_compresses_well_needs_no_extension(
    tokenizers, corpus: Path, run_stage: Run, tmp_path: Path
) -> None:
    settings = AdviseSettings(
        base=tokenizers["russian_byte_level"], corpus=corpus, mixture={"ru": 1}, max_added_tokens=10
    )
    result = run_stage(settings, tmp_path / "a")
    assert result.recommendation == SizeRecommendation(0, "covered", 10)
    assert result.explanation[-1].startswith("Even 10 new tokens would save only ")


def test_the_chart_is_a_standalone_file(model: Path, corpus: Path, run_stage: Run, tmp_path: Path) -> None:
    run_stage(AdviseSettings(base=model, corpus=corpus, mixture={"ru": 1}, max_added_tokens=80), tmp_path / "a")
    text = (tmp_path / "a" / "advice.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"base", "80", "Russian", "English", "prefill", "generation", "new tokens"} <= words
    assert any(word and word.startswith("recommended: ") for word in words)
    assert "var(--" not in text and not {"#010101", "#020202", "#030303", "#040404"} & set(text.split('"'))


def test_the_same_inputs_give_the_same_advice(model: Path, corpus: Path, run_stage: Run, tmp_path: Path) -> None:
    settings = AdviseSettings(base=model, corpus=corpus, max_added_tokens=40)
    assert run_stage(settings, tmp_path / "a") == run_stage(settings, tmp_path / "b")
    assert (tmp_path / "a" / "advice.svg").read_bytes() == (tmp_path / "b" / "advice.svg").read_bytes()


def test_refusals(tokenizers, model: Path, corpus: Path, run_stage: Run, tmp_path: Path) -> None:
    file = tmp_path / "ru.jsonl"
    file.write_text('{"text": "Один документ."}\n', encoding="utf-8")
    blank = tmp_path / "blank"
    blank.mkdir()
    (blank / "ru.train.jsonl").write_text('{"text": "Один документ."}\n', encoding="utf-8")
    (blank / "ru.heldout.jsonl").write_text('{"text": " "}\n', encoding="utf-8")
    base = tokenizers["byte_level"]
    described = {"hidden_size": 32, "tie_word_embeddings": True, "num_parameters": 100_000}
    too_small = described | {"num_parameters": 16_384}
    cases: list[tuple[dict[str, Any], type[LepError], str]] = [
        ({"base": base, "corpus": file}, DataError, "no text of 'ru' is held out"),
        ({"base": base, "corpus": blank}, DataError, "is white space"),
        ({"base": base, "corpus": corpus, "mixture": {"uk": 1}}, DataError, "no text of language 'uk'"),
        ({"base": tokenizers["sentencepiece_unigram"], "corpus": corpus}, TokenizerError, "no size to advise on"),
        ({"base": model, "corpus": corpus, **described}, UsageError, "has model weights; leave out hidden_size"),
        ({"base": base, "corpus": corpus, **too_small}, UsageError, "of this vocabulary alone have 16,384"),
    ]
    for i, (settings, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            run_stage(AdviseSettings(**settings), tmp_path / str(i))


def test_inconsistent_settings_are_refused() -> None:
    for extra, words in (({"hidden_size": 32}, "give all three"), ({"kept_tokens": 300}, "belongs to kind=optimized")):
        with pytest.raises(ValidationError, match=words):
            AdviseSettings.model_validate({"base": "b", "corpus": "c", **extra})


def test_the_command_prints_the_tables_and_the_next_command(model: Path, corpus: Path, tmp_path: Path, capsys) -> None:
    words = [
        "advise",
        f"base={model}",
        f"corpus={corpus}",
        "mixture={ru: 1}",
        "max_added_tokens=40",
        f"out={tmp_path / 'a'}",
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    result = parse_stage_result(read_manifest(tmp_path / "a").result, stage="advise")
    assert isinstance(result, AdviceResult)
    lines = out.splitlines()
    for table in build_size_tables(result):
        assert table.title in [line.strip() for line in lines]
        for row in table.rows:
            assert any(all(cell in line for cell in row) for line in lines), row
    assert " ".join(result.explanation) in out and all(sentence in out for sentence in result.assumptions)
    assert f"see {tmp_path / 'a' / 'advice.svg'}" in out
    following = next(line for line in lines if line.strip().startswith("then lep retokenize"))
    command = shlex.split(following)[2:]
    assert main([word if word != "out=…" else f"out={tmp_path / 'tokenizer'}" for word in command]) == 0
    assert read_manifest(tmp_path / "tokenizer").result["new_tokens"] == result.recommendation.new_tokens
