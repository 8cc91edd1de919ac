"""Every kind of vocabulary from every base: it loads, keeps everything else of the base, and passes its checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lep.config import RetokenizeSettings
from lep.data.corpus import read_corpus_documents
from lep.errors import TokenizerError
from lep.io.artifact import read_manifest
from lep.io.tokenizer_file import read_tokenizer
from lep.registry import parse_stage_result
from lep.results.stages import RetokenizationResult
from lep.stages import retokenize
from lep.tokenization.builders import BuiltVocabulary, VocabularyCandidate

BASES = ("byte_level", "sentencepiece_bpe", "metaspace", "sentencepiece_unigram")
CONTINUED = ("extended", "optimized")
CASES = [(b, k) for b in BASES for k in (*CONTINUED, "bpe", "unigram") if b != BASES[-1] or k not in CONTINUED]
REQUIRED = {"special_tokens", "settings", "round_trips"}


def settings(base: str, kind: str) -> dict[str, int | str]:
    if kind == "extended":
        return {"kind": kind, "new_tokens": 60}
    if kind == "optimized":
        return {"kind": kind, "new_tokens": 60, "kept_tokens": 380}
    return {"kind": kind, "vocab_size": 340 if base == "byte_level" else 430}


@pytest.fixture(scope="module")
def made(bases, tokenizers, corpus, make_artifact, tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Each kind from each base, learned from Russian; byte_level in its model folder."""
    root, folders = tmp_path_factory.mktemp("retokenized"), tokenizers | {"byte_level": bases["tied"]}
    for base, kind in CASES:
        values = settings(base, kind) | {"base": folders[base], "corpus": corpus, "mixture": {"ru": 1}}
        make_artifact(RetokenizeSettings.model_validate(values), root / f"{base}-{kind}")
    return {case: root / "-".join(case) for case in CASES}


def read_result(made, case) -> RetokenizationResult:
    result = parse_stage_result(read_manifest(made[case]).result, stage="retokenize")
    assert isinstance(result, RetokenizationResult)
    return result


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_loader_gives_the_same_ids(made, texts, case) -> None:
    reference = Tokenizer.from_file(str(made[case] / "tokenizer.json"))
    loaded = [kind.from_pretrained(made[case]) for kind in (AutoTokenizer, PreTrainedTokenizerFast)]
    size = read_result(made, case).vocab_size
    for text in [*texts["ru"][:40], *texts["en"][:40], "", "  a\n\tб 😀 €5 <s>", "<|im_end|>"]:
        for tokenizer in loaded:
            assert tokenizer(text)["input_ids"] == reference.encode(text).ids
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=False)
    assert [len(tokenizer) for tokenizer in loaded] == [size, size]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_special_tokens_and_the_chat_template_are_the_bases(made, bases, case) -> None:
    config = json.loads((made[case] / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    tokenizer = AutoTokenizer.from_pretrained(made[case])
    if case[0] == "byte_level":
        base = AutoTokenizer.from_pretrained(bases["tied"])
        assert tokenizer.chat_template == base.chat_template != None  # noqa: E711 (both, and some)
        assert tokenizer.special_tokens_map == base.special_tokens_map
        messages = [{"role": "user", "content": "Да?"}]
        assert tokenizer.apply_chat_template(messages, tokenize=False) == base.apply_chat_template(
            messages, tokenize=False
        )
    elif case[0] != "metaspace":  # A bare SentencePiece file names its special tokens.
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        assert tokenizer.special_tokens_map == names
        assert json.loads((made[case] / "special_tokens_map.json").read_text()) == names
        assert tokenizer("да")["input_ids"][0] == tokenizer.bos_token_id
    assert (made[case] / "tokenizer.model").exists() == case[0].startswith("sentencepiece")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_checks_pass_and_the_result_is_right(made, tokenizers, corpus, case) -> None:
    result = read_result(made, case)
    checks = {check.name: check for check in result.checks}
    required = REQUIRED | ({"base_ids"} if case[1] in CONTINUED else set())
    required |= {"special_ids", "old_ids"} if case[1] == "extended" else set()
    required |= {"reachable"} if case[1] != "unigram" else set()
    required |= {"sentencepiece"} if case[0].startswith("sentencepiece") else set()
    assert {name for name, check in checks.items() if check.required} == required
    assert all(checks[name].passed == checks[name].total > 0 for name in required)
    base, new = read_tokenizer(tokenizers[case[0]]), read_tokenizer(made[case])
    assert result.kind == case[1] and result.old_tokens == len(base.vocabulary)
    assert result.vocab_size == len(new.vocabulary) == result.kept_tokens + result.new_tokens
    expected = {"extended": len(base.vocabulary) + 60, "optimized": 440}
    assert result.vocab_size == expected.get(case[1], settings(*case).get("vocab_size"))
    for language, change in result.characters_per_token.items():
        texts = list(read_corpus_documents(corpus, language, "heldout"))
        for tokenizer, value in ((base, change.before), (new, change.after)):
            tokens = sum(len(tokenizer.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
            assert value == pytest.approx(sum(map(len, texts)) / tokens)
    assert result.characters_per_token.keys() == {"ru", "en"} and result.documents_skipped == {}
    assert (result.statistics.base_tokens_used is None) == (case[1] != "optimized")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_language_needs_fewer_tokens(made, case) -> None:
    result = read_result(made, case)
    change = result.characters_per_token["ru"]
    assert change.after > change.before * (1.5 if case[0] == "byte_level" else 0.9)
    example = result.examples[0]
    assert example.text and len(example.after) < len(example.before) * (1 if case[0] == "byte_level" else 1.2)


def test_old_text_keeps_its_ids_and_the_language_needs_fewer(bases, extended, corpus) -> None:
    base, new = (AutoTokenizer.from_pretrained(path) for path in (bases["tied"], extended))
    texts = {language: list(read_corpus_documents(corpus, language, "heldout")) for language in ("ru", "en")}
    count = {k: [sum(len(t(text)["input_ids"]) for text in v) for t in (base, new)] for k, v in texts.items()}
    assert count["ru"][1] < count["ru"][0] and count["en"][0] == count["en"][1]
    assert new.chat_template == base.chat_template and new.special_tokens_map == base.special_tokens_map
    for text in texts["ru"] + texts["en"]:
        assert new.decode(new(text)["input_ids"]) == text


def test_two_runs_make_the_same_tokenizer(made, bases, corpus, run_stage, tmp_path) -> None:
    for kind in ("extended", "optimized", "bpe", "unigram"):
        values = settings("byte_level", kind) | {"base": bases["tied"], "corpus": corpus, "mixture": {"ru": 1}}
        run_stage(RetokenizeSettings.model_validate(values), tmp_path / kind)
        again, first = ((path / "tokenizer.json").read_bytes() for path in (tmp_path / kind, made["byte_level", kind]))
        assert again == first


def test_a_failed_check_stops_the_stage(bases, corpus, make_artifact, tmp_path, monkeypatch) -> None:
    build_candidate = retokenize._build_candidate

    def build_broken_candidate(*arguments: Any) -> VocabularyCandidate:
        candidate = build_candidate(*arguments)

        def build(count: int) -> BuiltVocabulary:
            built = candidate.build(count)
            vocab = built.tokenizer.tokenizer_json["model"]["vocab"]
            built.tokenizer.tokenizer_json["model"]["vocab"] = {k: (v ^ 1 if v >= 500 else v) for k, v in vocab.items()}
            return built

        return replace(candidate, build=build)

    monkeypatch.setattr(retokenize, "_build_candidate", build_broken_candidate)
    message = r"the extended tokenizer fails required checks: base_ids: [\d,]+ of [\d,]+$"
    with pytest.raises(TokenizerError, match=message):
        make_artifact(
            RetokenizeSettings(base=bases["tied"], corpus=corpus, mixture={"ru": 1}, new_tokens=20), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
