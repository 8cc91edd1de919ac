"""SentencePiece files are read as they say, and what is written, SentencePiece reads the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from lep.errors import TokenizerError
from lep.io.sentencepiece_file import (
    build_merges_from_scores,
    is_tiktoken_file,
    read_sentencepiece,
    read_special_tokens,
    write_sentencepiece,
)
from lep.io.tokenizer_file import read_tokenizer

FORMS = ("bpe", "unigram", "plain", "no_bytes", "nfkc", "symbols")
TEXT = st.lists(
    st.text("абвгдеёжз ABCabc.,!—123\n", max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(["the old professor", "  Старый", "щёлк", "1987", "€5 😀"])
)


@pytest.fixture(scope="module")
def files(tokenizers, texts, train_sentencepiece, tmp_path_factory) -> dict[str, Path]:
    """Files with other settings.

    bpe, unigram: as in `tokenizers`; plain: no space before a text; no_bytes: without byte fallback;
    nfkc: SentencePiece's own default normalization; symbols: with user-defined symbols.
    """
    root = tmp_path_factory.mktemp("files")
    files = {kind: tokenizers[f"sentencepiece_{kind}"] / "tokenizer.model" for kind in ("bpe", "unigram")}
    options = {
        "plain": {"add_dummy_prefix": False},
        "no_bytes": {"byte_fallback": False, "size": 300},
        "nfkc": {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        "symbols": {"user_defined_symbols": ["<sep>", "щ"]},
        "whitespace": {"treat_whitespace_as_suffix": True},
    }
    for name, more in options.items():
        (root / name).mkdir()
        train_sentencepiece(root / name, [*texts["en"], *texts["ru"]], kind="bpe", **({"size": 440} | more))
        files[name] = root / name / "tokenizer.model"
    return files


def names_a_piece(text: str) -> bool:
    """Whether a text holds what the two read differently: the name of a special token or of a byte."""
    return any(name in text for name in ("<unk>", "<s>", "</s>", "<0x", "<sep>", "щ")) or "▁" in text


@pytest.mark.parametrize("form", FORMS)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_a_file_is_read_as_sentencepiece_reads_it(files, form, parts) -> None:
    text = " ".join(parts)
    state, processor = read_tokenizer(files[form]).tokenizer_json, SentencePieceProcessor(model_file=str(files[form]))
    if form == "nfkc":  # its table and the stripping of spaces are taken over as far as `tokenizers` has them
        text = " ".join(text.split()).replace("\u200b", "")
    if not names_a_piece(text):
        tokenizer, ids = Tokenizer.from_str(json.dumps(state)), processor.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids
        assert form == "no_bytes" or tokenizer.decode(ids, skip_special_tokens=False) == processor.decode(ids)


@pytest.mark.parametrize("form", FORMS)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_reading_and_writing_gives_the_same_file(files, form, tmp_path_factory, parts) -> None:
    text, file = " ".join(parts), tmp_path_factory.getbasetemp() / f"{form}.model"
    if not file.exists():
        write_sentencepiece(files[form], file, tokenizer_json=read_tokenizer(files[form]).tokenizer_json)
    old, new = (SentencePieceProcessor(model_file=str(path)) for path in (files[form], file))
    assert old.encode(text) == new.encode(text)
    assert old.decode(old.encode(text)) == new.decode(new.encode(text))


@pytest.mark.parametrize("form", FORMS)
def test_pieces_and_their_types_are_kept(files, form, tmp_path) -> None:
    file = tmp_path / "tokenizer.model"
    write_sentencepiece(files[form], file, tokenizer_json=read_tokenizer(files[form]).tokenizer_json)
    old, new = (SentencePieceProcessor(model_file=str(path)) for path in (files[form], file))
    kinds = ("id_to_piece", "is_byte", "is_control", "is_unknown", "is_unused")
    for id_ in range(old.vocab_size()):
        assert [getattr(old, kind)(id_) for kind in kinds] == [getattr(new, kind)(id_) for kind in kinds]
    special = ("vocab_size", "bos_id", "eos_id", "unk_id", "pad_id")
    assert [getattr(old, name)() for name in special] == [getattr(new, name)() for name in special]


def test_new_pieces_get_the_score_of_their_merge_and_new_special_tokens_their_type(files, tmp_path) -> None:
    state = read_tokenizer(files["bpe"]).tokenizer_json
    model, size = state["model"], len(state["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    new = [{"id": size + i, "content": text, "special": not i} | flags for i, text in enumerate(["<new>", "<mine>"])]
    vocab = model["vocab"] | {"<new>": size, "<mine>": size + 1, "▁Старый▁профессор": size + 2, "ь.": size + 3}
    merges = [*model["merges"], ["▁Старый", "▁профессор"], ["ь", "."]]
    changed = {"model": model | {"vocab": vocab, "merges": merges}, "added_tokens": [*state["added_tokens"], *new]}
    write_sentencepiece(files["bpe"], tmp_path / "tokenizer.model", tokenizer_json=state | changed)
    processor = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert processor.vocab_size() == size + 4 and processor.is_control(size) and not processor.is_control(size + 1)
    assert processor.encode("ь.")[-1] == size + 3 and processor.encode("<mine>")[-1] == size + 1
    assert processor.encode("да") == SentencePieceProcessor(model_file=str(files["bpe"])).encode("да")


def test_merges_are_ordered_by_score_not_by_id() -> None:
    scores = {"c": 0.0, "bc": -3.0, "b": 0.0, "ab": -2.0, "a": 0.0, "abc": -1.0}
    assert build_merges_from_scores(scores) == [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "c")]


def test_special_tokens_are_named_by_the_file(files, tokenizers) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert read_special_tokens(files["bpe"]) == read_special_tokens(files["symbols"]) == names
    tiktoken = tokenizers["tiktoken"] / "tokenizer.model"
    assert read_special_tokens(tiktoken) == {}
    assert is_tiktoken_file(tiktoken) and not is_tiktoken_file(files["bpe"])


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        (None, ([1], [])),
        ({"add_bos_token": True, "add_eos_token": True}, ([1], [2])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_bos_token": False, "add_eos_token": True}, ([], [2])),
    ],
)
def test_the_post_processor_follows_tokenizer_config(files, tmp_path, settings, added) -> None:
    shutil.copy(files["bpe"], tmp_path / "tokenizer.model")
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.from_str(json.dumps(read_sentencepiece(tmp_path / "tokenizer.model")))
    before, after = added
    bare = tokenizer.encode("the old", add_special_tokens=False).ids
    assert tokenizer.encode("the old").ids == [*before, *bare, *after]
    assert tokenizer.encode("the", "old").ids.count(1) == 2 * len(before)
    assert tokenizer.decode(tokenizer.encode("the old").ids) == "the old"


def test_unreadable_files_are_named(files, tmp_path) -> None:
    with pytest.raises(TokenizerError, match="marks spaces after words, not before; this is not supported"):
        read_sentencepiece(files["whitespace"])
    (tmp_path / "tokenizer.model").write_bytes(b"\x0e\xff\xff not a message")
    with pytest.raises(TokenizerError, match="neither a SentencePiece model nor a tiktoken file"):
        read_sentencepiece(tmp_path / "tokenizer.model")
