"""vLLM's padding and llama.cpp's hash, as their sources define them."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from lep.gguf import known_pre_tokenizers as pre_tokenizers
from lep.gguf.known_pre_tokenizers import (
    PRE_TOKENIZER_ALIASES,
    PRE_TOKENIZER_BY_HASH,
    PRE_TOKENIZER_PATTERNS,
    compute_check_hash,
    extract_patterns,
    find_llama_cpp_name,
)
from lep.inspection.inspect import inspect
from lep.io.tokenizer_file import read_tokenizer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def read_fact(folder: Path, name: str = "llama.cpp") -> str:
    return next(fact.value for fact in inspect(folder).facts if fact.name == name)


def build_split(*regexes: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    """Build a pre-tokenizer of tokenizer.json."""
    parts = [{"type": "Split", "pattern": {"Regex": r}, "behavior": behavior, "invert": invert} for r in regexes]
    return {"type": "Sequence", "pretokenizers": [*parts, BYTES]}


def test_vllm_pads_to_64(model: Path, change, change_rows) -> None:
    assert read_fact(model, "vLLM") == "pads 500 rows to 512, a multiple of 64"
    change_rows(model, lambda table: table[list(range(500)) + [3] * 12])
    change(model / "config.json", vocab_size=512)
    assert read_fact(model, "vLLM") == "needs no padding: 512 rows are a multiple of 64"
    change(model / "config.json", vocab_size=500)
    assert read_fact(model, "vLLM") == "fails: vocab_size is 500, the embedding matrix has 512 rows"


def test_an_unknown_hash_comes_with_the_lines_to_add(healthy: Path) -> None:
    (remark,) = [remark for remark in inspect(healthy).remarks if "chkhsh" in remark]
    ids = read_tokenizer(healthy).tokenizer.encode(pre_tokenizers.CHECK_TEXT).ids
    assert (
        f'if chkhsh == "{compute_check_hash(ids)}":\n            res = "smollm"' in remark
        and "get_vocab_base_pre" in remark
    )
    assert read_fact(healthy) == f"does not know the hash {compute_check_hash(ids)[:8]}…; the pre-tokenizer is smollm"


def test_a_known_hash_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = read_tokenizer(model).tokenizer.encode(pre_tokenizers.CHECK_TEXT).ids
    monkeypatch.setitem(PRE_TOKENIZER_BY_HASH, compute_check_hash(ids), "starcoder")
    assert read_fact(model).endswith("as pre-tokenizer starcoder") and not inspect(model).remarks
    monkeypatch.setitem(PRE_TOKENIZER_BY_HASH, compute_check_hash(ids), "pixtral")
    (remark,) = inspect(model).remarks
    assert "chooses pre-tokenizer pixtral, which splits texts differently; convert the model as smollm" in remark


def test_a_pre_tokenizer_that_is_new(model: Path, change) -> None:
    change(model / "tokenizer.json", pre_tokenizer=build_split(r"\p{L}+|\p{N}"))
    (remark,) = [remark for remark in inspect(model).remarks if "converter fails" in remark]
    assert "does not know the pre-tokenizer either: llama.cpp must support it first" in remark
    assert "unknown, too" in read_fact(model)


def test_the_hash_is_that_of_a_python_list() -> None:
    assert compute_check_hash([1, 2]) == sha256(b"[1, 2]").hexdigest()


@pytest.mark.parametrize("name", PRE_TOKENIZER_PATTERNS)
def test_patterns_have_names(name: str) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    gpt = BYTES | {"use_regex": True}
    special_cases = {"gpt-2": gpt, "smollm": {"type": "Sequence", "pretokenizers": [digits, gpt]}}
    pre_tokenizer = special_cases.get(name) or build_split(*PRE_TOKENIZER_PATTERNS[name])
    assert find_llama_cpp_name(pre_tokenizer, ignore_merges=True) == name
    if name not in special_cases:
        assert (
            find_llama_cpp_name(
                build_split(*PRE_TOKENIZER_PATTERNS[name], behavior="Removed", invert=True), ignore_merges=True
            )
            == name
        )
        assert (
            find_llama_cpp_name(build_split(*PRE_TOKENIZER_PATTERNS[name], behavior="Removed"), ignore_merges=True)
            is None
        )


def test_the_name_depends_on_ignore_merges() -> None:
    assert find_llama_cpp_name(build_split(*PRE_TOKENIZER_PATTERNS["llama-bpe"]), ignore_merges=False) == "smaug-bpe"
    assert extract_patterns(None) is None and extract_patterns(BYTES | {"add_prefix_space": True}) is None


def test_every_known_hash_has_a_pattern() -> None:
    assert {PRE_TOKENIZER_ALIASES.get(name, name) for name in PRE_TOKENIZER_BY_HASH.values()} <= set(
        PRE_TOKENIZER_PATTERNS
    )
    assert all(len(digest) == 64 for digest in PRE_TOKENIZER_BY_HASH)


def test_sentencepiece_needs_no_hash(tokenizers: dict[str, Path]) -> None:
    assert read_fact(tokenizers["sentencepiece_bpe"]) == "reads tokenizer.model; no hash is needed"


def test_sentencepiece_without_its_file_has_no_scores(tokenizers: dict[str, Path]) -> None:
    assert "tokenizer.model is missing" in read_fact(tokenizers["metaspace"])
    assert any("gives all pieces the same score" in remark for remark in inspect(tokenizers["metaspace"]).remarks)


def test_unigram_is_not_supported(tokenizers: dict[str, Path]) -> None:
    (remark,) = [r for r in inspect(tokenizers["sentencepiece_unigram"]).remarks if "Unigram" in r]
    assert "texts are tokenized differently" in remark


def test_two_tokenizer_files_that_differ(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizers["metaspace"], tmp_path / "both"))
    shutil.copy(tokenizers["sentencepiece_bpe"] / "tokenizer.model", folder)
    assert not inspect(folder).problems
    state = json.loads((folder / "tokenizer.json").read_text())
    vocab = state["model"]["vocab"]
    a, b = [text for text, id_ in vocab.items() if id_ in (350, 351)]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert any("have different tokens at 2 ids: 350 '" in problem for problem in inspect(folder).problems)
    shutil.copy(tokenizers["sentencepiece_unigram"] / "tokenizer.model", folder)
    assert any("tokenizer.model has 400 pieces, tokenizer.json 440 tokens" in p for p in inspect(folder).problems)


def test_a_tiktoken_file_beside_tokenizer_json_stops_the_converter(model: Path, tokenizers: dict[str, Path]) -> None:
    shutil.copy(tokenizers["tiktoken"] / "tokenizer.model", model)
    assert any("tokenizer.model is a tiktoken file" in remark for remark in inspect(model).remarks)
