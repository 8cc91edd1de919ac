"""vLLM's padding, llama.cpp's hash: facts that their sources state, on tokenizers made here."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from lep.gguf import known_pre_tokenizers as pre_tokenizers
from lep.gguf.known_pre_tokenizers import HASHES, PATTERNS, SAME, check_hash, known_as, patterns
from lep.inspection.inspect import inspect
from lep.io.tokenizer_file import read_tokenizer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def told(folder: Path, name: str = "llama.cpp") -> str:
    return next(fact.value for fact in inspect(folder).facts if fact.name == name)


def split(*regexes: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    """A pre-tokenizer as tokenizer.json writes it."""
    parts = [{"type": "Split", "pattern": {"Regex": r}, "behavior": behavior, "invert": invert} for r in regexes]
    return {"type": "Sequence", "pretokenizers": [*parts, BYTES]}


def test_vllm_pads_to_64(model: Path, change, change_rows) -> None:
    assert told(model, "vLLM") == "pads 500 rows to 512, a multiple of 64, by itself"
    change_rows(model, lambda table: table[list(range(500)) + [3] * 12])
    change(model / "config.json", vocab_size=512)
    assert told(model, "vLLM") == "takes the 512 rows as they are, a multiple of 64"
    change(model / "config.json", vocab_size=500)
    assert told(model, "vLLM") == "stops: vocab_size says 500 rows, the table has 512"


def test_an_unknown_hash_comes_with_the_lines_to_add(healthy: Path) -> None:
    (words,) = [remark for remark in inspect(healthy).remarks if "chkhsh" in remark]
    ids = read_tokenizer(healthy).tokenizer.encode(pre_tokenizers.CHECK_TEXT).ids
    assert f'if chkhsh == "{check_hash(ids)}":\n            res = "smollm"' in words and "get_vocab_base_pre" in words
    assert told(healthy) == f"does not know the hash {check_hash(ids)[:8]}…, splits as smollm"


def test_a_known_hash_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = read_tokenizer(model).tokenizer.encode(pre_tokenizers.CHECK_TEXT).ids
    monkeypatch.setitem(HASHES, check_hash(ids), "starcoder")
    assert told(model).endswith("as pre-tokenizer starcoder") and not inspect(model).remarks
    monkeypatch.setitem(HASHES, check_hash(ids), "pixtral")
    (words,) = inspect(model).remarks
    assert "takes this for pixtral, which splits texts otherwise; convert it as smollm" in words


def test_a_pre_tokenizer_that_is_new(model: Path, change) -> None:
    change(model / "tokenizer.json", pre_tokenizer=split(r"\p{L}+|\p{N}"))
    (words,) = [remark for remark in inspect(model).remarks if "converter stops" in remark]
    assert "none of those known here either: llama.cpp must learn it first" in words
    assert "nothing known" in told(model)


def test_the_hash_is_of_the_ids_as_a_list() -> None:
    assert check_hash([1, 2]) == sha256(b"[1, 2]").hexdigest()


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_told_apart(name: str) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    gpt = BYTES | {"use_regex": True}
    made = {"gpt-2": gpt, "smollm": {"type": "Sequence", "pretokenizers": [digits, gpt]}}
    pre_tokenizer = made.get(name) or split(*PATTERNS[name])
    assert known_as(pre_tokenizer, ignores_merges=True) == name
    if name not in made:
        assert known_as(split(*PATTERNS[name], behavior="Removed", invert=True), ignores_merges=True) == name
        assert known_as(split(*PATTERNS[name], behavior="Removed"), ignores_merges=True) is None


def test_merges_that_are_not_ignored_have_another_name() -> None:
    assert known_as(split(*PATTERNS["llama-bpe"]), ignores_merges=False) == "smaug-bpe"
    assert patterns(None) is None and patterns(BYTES | {"add_prefix_space": True}) is None


def test_every_known_hash_has_a_pattern() -> None:
    assert {SAME.get(name, name) for name in HASHES.values()} <= set(PATTERNS)
    assert all(len(found) == 64 for found in HASHES)


def test_sentencepiece_needs_no_hash(tokenizers: dict[str, Path]) -> None:
    assert told(tokenizers["sentencepiece_bpe"]) == "reads tokenizer.model; no hash is needed"


def test_sentencepiece_without_its_file_has_no_scores(tokenizers: dict[str, Path]) -> None:
    assert "tokenizer.model is missing" in told(tokenizers["metaspace"])
    assert any("gives all pieces one score" in remark for remark in inspect(tokenizers["metaspace"]).remarks)


def test_unigram_is_read_as_something_else(tokenizers: dict[str, Path]) -> None:
    (words,) = [r for r in inspect(tokenizers["sentencepiece_unigram"]).remarks if "Unigram" in r]
    assert "texts are cut otherwise than here" in words


def test_two_files_of_one_tokenizer_that_differ(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizers["metaspace"], tmp_path / "both"))
    shutil.copy(tokenizers["sentencepiece_bpe"] / "tokenizer.model", folder)
    assert not inspect(folder).problems
    state = json.loads((folder / "tokenizer.json").read_text())
    vocab = state["model"]["vocab"]
    a, b = [text for text, id_ in vocab.items() if id_ in (350, 351)]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert any("have other tokens at 2 ids: 350 '" in problem for problem in inspect(folder).problems)
    shutil.copy(tokenizers["sentencepiece_unigram"] / "tokenizer.model", folder)
    assert any("tokenizer.model has 400 pieces, tokenizer.json 440 tokens" in p for p in inspect(folder).problems)


def test_a_tiktoken_file_beside_tokenizer_json_stops_the_converter(model: Path, tokenizers: dict[str, Path]) -> None:
    shutil.copy(tokenizers["tiktoken"] / "tokenizer.model", model)
    assert any("tokenizer.model is a tiktoken file" in remark for remark in inspect(model).remarks)
