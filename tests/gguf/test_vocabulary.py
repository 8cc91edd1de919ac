"""The vocabulary in the file, decoded by other means, against the tokenizer; and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gguf import GGUFReader, TokenType
from lep.errors import TokenizerError
from lep.gguf.export import Exported
from lep.gguf.known_pre_tokenizers import closest

TEXT = "The old professor прочитал 1234 страницы — «новый» 😀\n\n  x"
CONTROL, PLAIN, NORMAL = TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.NORMAL


def keys(found: Exported) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(found.file).fields.items()}


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def model(make_model: Callable, tokenizers: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """`model(name)`: a model with one of the trained tokenizers, to be changed."""
    return lambda name: make_model(tmp_path / name, tokenizers[name])


def test_a_byte_level_vocabulary_reads_texts_as_the_tokenizer_does(family: Callable, exported: Callable) -> None:
    """A tokenizer made of the file's tokens and merges alone gives the ids."""
    found = keys(exported(family("llama")))
    own = AutoTokenizer.from_pretrained(family("llama"))
    state = json.loads(own.backend_tokenizer.to_str())
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    vocab = {text: id_ for id_, text in enumerate(tokens) if types[id_] in (NORMAL, CONTROL)}
    merges = [merge.split(" ") for merge in found["tokenizer.ggml.merges"]]
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    again = Tokenizer.from_str(json.dumps(state | {"model": model}))
    assert again.encode(TEXT, add_special_tokens=False).ids == own.encode(TEXT, add_special_tokens=False)
    assert types[:3] == [CONTROL] * 3 and set(types[3:500]) == {NORMAL}
    assert tokens[500:] == [f"[PAD{i}]" for i in range(500, 512)] and set(types[500:]) == {TokenType.UNUSED}
    assert found["llama.vocab_size"] == 512 and "tokenizer.ggml.scores" not in found


def test_special_ids_and_the_template(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    edit(folder / "generation_config.json", eos_token_id=[2, 0, 7])
    found = keys(exported(folder))
    roles = {role: found.get(f"tokenizer.ggml.{key}_token_id") for role, key in ROLES.items()}
    assert roles == {"bos": 0, "eos": 2, "pad": 0, "unk": None, "eot": 0, "eom": 7}
    assert found["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text()
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == (False, False)


ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown", "eot": "eot", "eom": "eom"}


def test_added_tokens_that_are_plain_text_are_the_users(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*added[:2], added[2] | {"special": False, "lstrip": True}])
    found = exported(folder)
    assert keys(found)["tokenizer.ggml.token_type"][:4] == [CONTROL, CONTROL, PLAIN, NORMAL]
    assert any("does not take the spaces around <|im_end|> away" in remark for remark in found.remarks)


@pytest.fixture
def metaspace(model: Callable) -> Path:
    """A model with a SentencePiece-style tokenizer.json that puts <s> before each text, as Llama-2's."""
    folder = model("metaspace")
    edit(folder / "tokenizer_config.json", bos_token="<s>", eos_token="</s>")
    return folder


def test_a_sentencepiece_vocabulary_has_scores_and_bytes(
    metaspace: Path, tokenizers: dict[str, Path], exported: Callable
) -> None:
    """Scores order the pieces as those of the trained file do."""
    from sentencepiece import SentencePieceProcessor

    found = keys(exported(metaspace))
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.add_space_prefix"]) == ("llama", True)
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.bos_token_id"]) == (True, 1)
    types = found["tokenizer.ggml.token_type"]
    assert types[:3] == [TokenType.UNKNOWN, CONTROL, CONTROL] and types[3:259] == [TokenType.BYTE] * 256
    assert found["tokenizer.ggml.tokens"][3 + 0x41] == "<0x41>"
    trained = SentencePieceProcessor(model_file=str(tokenizers["sentencepiece_bpe"] / "tokenizer.model"))
    merged = [id_ for id_ in range(259, len(trained)) if len(trained.id_to_piece(id_)) > 1]
    scores = found["tokenizer.ggml.scores"]
    assert sorted(merged, key=lambda id_: -scores[id_]) == sorted(merged, key=lambda id_: -trained.get_score(id_))


def test_a_space_only_before_the_first_text(metaspace: Path, exported: Callable) -> None:
    """llama.cpp can put it everywhere or nowhere: a chat model's conversations decide."""
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    edit(metaspace / "tokenizer.json", normalizer=None, pre_tokenizer=space)
    found = exported(metaspace)
    assert keys(found)["tokenizer.ggml.add_space_prefix"] is True
    assert any("after each special token too" in words for words in found.remarks)
    shutil.rmtree(found.file.parent)
    (metaspace / "chat_template.jinja").write_text("{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}")
    found = exported(metaspace)
    assert keys(found)["tokenizer.ggml.add_space_prefix"] is False
    assert any("conversations are read alike, a bare text is not" in words for words in found.remarks)


def test_merges_that_are_no_scores_are_refused(metaspace: Path, exported: Callable) -> None:
    """Without one way to make a piece, merging by score reads what the tokenizer does not."""
    state = json.loads((metaspace / "tokenizer.json").read_text())
    first = state["model"]["merges"][0]
    state["model"]["merges"] = [merge for merge in state["model"]["merges"] if merge != first]
    (metaspace / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(TokenizerError, match=r"merges by score and would read .* every way to make their tokens"):
        exported(metaspace)


def test_unigram_is_refused(model: Callable, exported: Callable) -> None:
    with pytest.raises(TokenizerError, match=r"Unigram vocabulary without its bytes.*vLLM or transformers"):
        exported(model("sentencepiece_unigram"))


def test_an_unknown_pre_tokenizer_is_refused_and_the_closest_named(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    odd = {"type": "Split", "pattern": {"Regex": "'s| ?\\p{L}+| ?\\p{N}{1,2}"}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    edit(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [odd, bytes_]})
    with pytest.raises(TokenizerError, match=r"none that llama.cpp knows; by the closest, gpt-2, texts would be cut"):
        exported(folder)
    assert closest(None) and closest({"type": "Digits", "individual_digits": True})


def test_a_normalizer_that_changes_texts_is_refused(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(TokenizerError, match=r"its normalizer Lowercase changes texts, llama.cpp would not"):
        exported(folder)


def test_words_taken_whole_that_llama_cpp_merges_are_refused(model: Callable, exported: Callable) -> None:
    """smollm merges; a token that merges do not make is reached only where words are taken whole."""
    folder = model("byte_level")
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["ignore_merges"] = True
    (folder / "tokenizer.json").write_text(json.dumps(state))
    shutil.rmtree(exported(folder).file.parent)  # every token is made by merges: no difference
    state["model"]["merges"] = state["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(TokenizerError, match="smollm takes words by merges alone"):
        exported(folder)


def test_what_else_is_put_around_a_text_is_refused(model: Callable, exported: Callable) -> None:
    folder = model("byte_level")
    mark = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    template = {"single": [mark, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    special = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    edit(
        folder / "tokenizer.json",
        post_processor={"type": "TemplateProcessing", "special_tokens": special} | template,
    )
    with pytest.raises(TokenizerError, match=r"puts the ids \[1\] before a text and \[\] after it"):
        exported(folder)


def test_a_tokenizer_that_transformers_misreads_is_refused(model: Callable, exported: Callable) -> None:
    folder = model("sentencepiece_bpe")
    with pytest.raises(TokenizerError, match=r"transformers reads a test text otherwise than tokenizer.model says"):
        exported(folder)
