"""The vocabulary in the file, decoded independently, against the tokenizer; and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, TokenType
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from lep.errors import TokenizerError
from lep.gguf.export import ExportResult
from lep.gguf.known_pre_tokenizers import find_closest_name

TEXT = "The old professor прочитал 1234 страницы — «новый» 😀\n\n  x"
CONTROL, USER_DEFINED, NORMAL = TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.NORMAL


def read_keys(result: ExportResult) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(result.file).fields.items()}


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def model(make_model: Callable, tokenizers: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """`model(name)`: a model with one of the trained tokenizers, to change."""
    return lambda name: make_model(tmp_path / name, tokenizers[name])


def test_a_byte_level_vocabulary_tokenizes_as_the_tokenizer(family: Callable, exported: Callable) -> None:
    """A tokenizer built from the tokens and merges of the file gives the same ids."""
    keys = read_keys(exported(family("llama")))
    tokenizer = AutoTokenizer.from_pretrained(family("llama"))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    vocab = {text: id_ for id_, text in enumerate(tokens) if types[id_] in (NORMAL, CONTROL)}
    merges = [merge.split(" ") for merge in keys["tokenizer.ggml.merges"]]
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    rebuilt = Tokenizer.from_str(json.dumps(state | {"model": model}))
    assert rebuilt.encode(TEXT, add_special_tokens=False).ids == tokenizer.encode(TEXT, add_special_tokens=False)
    assert types[:3] == [CONTROL] * 3 and set(types[3:500]) == {NORMAL}
    assert tokens[500:] == [f"[PAD{i}]" for i in range(500, 512)] and set(types[500:]) == {TokenType.UNUSED}
    assert keys["llama.vocab_size"] == 512 and "tokenizer.ggml.scores" not in keys


def test_special_ids_and_the_template(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    edit(folder / "generation_config.json", eos_token_id=[2, 0, 7])
    keys = read_keys(exported(folder))
    roles = {role: keys.get(f"tokenizer.ggml.{key}_token_id") for role, key in ROLES.items()}
    assert roles == {"bos": 0, "eos": 2, "pad": 0, "unk": None, "eot": 0, "eom": 7}
    assert keys["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text()
    assert (keys["tokenizer.ggml.add_bos_token"], keys["tokenizer.ggml.add_eos_token"]) == (False, False)


ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown", "eot": "eot", "eom": "eom"}


def test_added_tokens_that_are_not_special_are_user_defined(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*added[:2], added[2] | {"special": False, "lstrip": True}])
    result = exported(folder)
    assert read_keys(result)["tokenizer.ggml.token_type"][:4] == [CONTROL, CONTROL, USER_DEFINED, NORMAL]
    assert any("does not strip the spaces around <|im_end|>" in remark for remark in result.remarks)


@pytest.fixture
def metaspace(model: Callable) -> Path:
    """A model with a SentencePiece-style tokenizer.json that adds <s> before each text, as Llama-2 does."""
    folder = model("metaspace")
    edit(folder / "tokenizer_config.json", bos_token="<s>", eos_token="</s>")
    return folder


def test_a_sentencepiece_vocabulary_has_scores_and_bytes(
    metaspace: Path, tokenizers: dict[str, Path], exported: Callable
) -> None:
    """Scores order the pieces as in the trained file."""
    from sentencepiece import SentencePieceProcessor

    keys = read_keys(exported(metaspace))
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.add_space_prefix"]) == ("llama", True)
    assert (keys["tokenizer.ggml.add_bos_token"], keys["tokenizer.ggml.bos_token_id"]) == (True, 1)
    types = keys["tokenizer.ggml.token_type"]
    assert types[:3] == [TokenType.UNKNOWN, CONTROL, CONTROL] and types[3:259] == [TokenType.BYTE] * 256
    assert keys["tokenizer.ggml.tokens"][3 + 0x41] == "<0x41>"
    trained = SentencePieceProcessor(model_file=str(tokenizers["sentencepiece_bpe"] / "tokenizer.model"))
    merged = [id_ for id_ in range(259, len(trained)) if len(trained.id_to_piece(id_)) > 1]
    scores = keys["tokenizer.ggml.scores"]
    assert sorted(merged, key=lambda id_: -scores[id_]) == sorted(merged, key=lambda id_: -trained.get_score(id_))


def pad_rows(folder: Path, count: int) -> None:
    """Add rows to both embedding matrices of a model."""
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            tensors[name] = torch.cat((tensors[name], tensors[name][:count]))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", vocab_size=len(tensors["model.embed_tokens.weight"]))


def test_scores_of_ids_without_a_piece(metaspace: Path, exported: Callable) -> None:
    """Padding has the lowest score of all tokens; an added token without a piece has a fixed one."""
    state = json.loads((metaspace / "tokenizer.json").read_text())
    merges, size = len(state["model"]["merges"]), len(state["model"]["vocab"])
    pad_rows(metaspace, 8)
    result = exported(metaspace)
    assert read_keys(result)["tokenizer.ggml.scores"][size:] == [-float(merges)] * 8
    shutil.rmtree(result.file.parent)
    added = [*state["added_tokens"], state["added_tokens"][-1] | {"id": size, "content": "<|im_end|>"}]
    edit(metaspace / "tokenizer.json", added_tokens=added)
    assert read_keys(exported(metaspace))["tokenizer.ggml.scores"][size:] == [-1e4] * 8


def test_a_space_before_the_first_text_only(metaspace: Path, exported: Callable) -> None:
    """llama.cpp can add it everywhere or nowhere; a chat model needs it nowhere."""
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    edit(metaspace / "tokenizer.json", normalizer=None, pre_tokenizer=space)
    result = exported(metaspace)
    assert read_keys(result)["tokenizer.ggml.add_space_prefix"] is True
    assert any("also after each special token" in remark for remark in result.remarks)
    shutil.rmtree(result.file.parent)
    (metaspace / "chat_template.jinja").write_text("{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}")
    result = exported(metaspace)
    assert read_keys(result)["tokenizer.ggml.add_space_prefix"] is False
    assert any("conversations are tokenized alike, plain texts are not" in remark for remark in result.remarks)


def test_merges_that_scores_cannot_express_are_refused(metaspace: Path, exported: Callable) -> None:
    """With one merge of a piece missing, merging by score gives other ids."""
    state = json.loads((metaspace / "tokenizer.json").read_text())
    first = state["model"]["merges"][0]
    state["model"]["merges"] = [merge for merge in state["model"]["merges"] if merge != first]
    (metaspace / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(TokenizerError, match=r"merges by score and would tokenize .* every way to build their tokens"):
        exported(metaspace)


def test_unigram_is_refused(model: Callable, exported: Callable) -> None:
    with pytest.raises(TokenizerError, match=r"Unigram vocabularies without byte fallback.*vLLM or transformers"):
        exported(model("sentencepiece_unigram"))


def test_an_unknown_pre_tokenizer_is_refused_and_the_closest_named(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    split = {
        "type": "Split",
        "pattern": {"Regex": "'s| ?\\p{L}+| ?\\p{N}{1,2}"},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    edit(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [split, bytes_]})
    with pytest.raises(TokenizerError, match=r"llama.cpp does not know its pre-tokenizer, .* closest one, gpt-2"):
        exported(folder)
    assert find_closest_name(None) and find_closest_name({"type": "Digits", "individual_digits": True})


def test_a_normalizer_that_changes_texts_is_refused(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(TokenizerError, match=r"llama.cpp does not apply its normalizer Lowercase"):
        exported(folder)


def test_ignored_merges_that_llama_cpp_applies_are_refused(model: Callable, exported: Callable) -> None:
    """smollm merges every word, so a token that the merges do not produce is unreachable."""
    folder = model("byte_level")
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["ignore_merges"] = True
    (folder / "tokenizer.json").write_text(json.dumps(state))
    shutil.rmtree(exported(folder).file.parent)  # merges produce every token: no difference
    state["model"]["merges"] = state["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(TokenizerError, match="smollm merges every word"):
        exported(folder)


def test_other_special_tokens_around_a_text_are_refused(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    special_token = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    template = {"single": [special_token, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    special_tokens = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    edit(
        folder / "tokenizer.json",
        post_processor={"type": "TemplateProcessing", "special_tokens": special_tokens} | template,
    )
    with pytest.raises(TokenizerError, match=r"adds the ids \[1\] before a text and \[\] after it"):
        exported(folder)


def test_a_tokenizer_that_transformers_reads_differently_is_refused(model: Callable, exported: Callable) -> None:
    folder = model("sentencepiece_bpe")
    with pytest.raises(TokenizerError, match=r"transformers does not tokenize a test text as tokenizer.model does"):
        exported(folder)
