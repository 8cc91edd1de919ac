"""Describe how llama.cpp will tokenize texts, and check that this is how the tokenizer does it.

llama.cpp implements two kinds exactly: byte-level BPE (`gpt2`), which splits texts by a named pre-tokenizer, and
SentencePiece BPE (`llama`), which merges the adjacent pieces with the best score. Other tokenizers are refused.

Source: llm_tokenizer_bpe and llm_tokenizer_spm of llama.cpp's src/llama-vocab.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from lep.core.token_bytes import is_byte_piece
from lep.core.vocabulary import TokenKind
from lep.errors import TokenizerError
from lep.gguf.known_pre_tokenizers import CHECK_TEXT, IGNORE_MERGES_NAMES, find_closest_name, find_llama_cpp_name
from lep.io.sentencepiece_file import compute_piece_scores
from lep.io.tokenizer_file import TokenizerFile

SERVING_ALTERNATIVE = "serve the folder with vLLM or transformers instead"
_UNREACHABLE_SCORE = -1e4
"""Score of ids without a piece, which no merge produces."""

_DOUBLE_SPACE_REMARK = "llama.cpp adds a space also before a text that starts with one; the tokenizer does not"
_SPACE_AFTER_SPECIAL_REMARK = (
    "llama.cpp adds a space also after each special token; the tokenizer adds one only at the start of the text"
)
_NO_PREFIX_SPACE_REMARK = (
    "llama.cpp adds no space before a text; the tokenizer does where the text does not start with a special token: "
    "conversations are tokenized alike, plain texts are not"
)


@dataclass(frozen=True)
class GgufTokenization:
    """The part of a GGUF vocabulary that determines how texts are tokenized."""

    model: str
    """`gpt2` or `llama`."""
    pre_tokenizer: str
    """llama.cpp's name of the pre-tokenizer."""
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    """One of each token of the tokenizer, for `llama`."""
    add_space_prefix: bool | None = None
    """A space is added before a text; None where llama.cpp does not use this key."""
    remarks: tuple[str, ...] = ()


def build_gguf_tokenization(file: TokenizerFile, *, has_chat_template: bool) -> GgufTokenization:
    """Describe a tokenizer for llama.cpp.

    Args:
        file: The tokenizer.
        has_chat_template: The model has a chat template. Where not all texts can be tokenized exactly, conversations
            are.

    Returns:
        The description.

    Raises:
        TokenizerError: llama.cpp would tokenize texts differently.
    """
    if file.tokenizer_json["model"].get("type") == "Unigram":
        raise TokenizerError(
            f"{file.path}: llama.cpp reads Unigram vocabularies without byte fallback, so text without a piece would "
            f"be lost; {SERVING_ALTERNATIVE}"
        )
    if file.scheme == "byte_level":
        return _build_byte_level(file)
    return _build_sentencepiece(file, has_chat_template=has_chat_template)


def _build_byte_level(file: TokenizerFile) -> GgufTokenization:
    ignore_merges = bool(file.tokenizer_json["model"].get("ignore_merges"))
    pre_tokenizer = file.tokenizer_json.get("pre_tokenizer")
    name = find_llama_cpp_name(pre_tokenizer, ignore_merges=ignore_merges)
    if name is None:
        raise TokenizerError(
            f"{file.path}: llama.cpp does not know its pre-tokenizer, and would split texts differently with the "
            f"closest one, {find_closest_name(pre_tokenizer)}; {SERVING_ALTERNATIVE}"
        )
    if ignore_merges != (name in IGNORE_MERGES_NAMES) and (token := next(_find_tokens_beyond_merges(file), None)):
        raise TokenizerError(
            f"{file.path}: the merges do not produce token {token!r}, and llama.cpp's {name} "
            f"{'merges every word' if ignore_merges else 'does not merge words that are tokens'}: it would tokenize "
            f"texts differently; {SERVING_ALTERNATIVE}"
        )
    remarks = []
    if normalizer := file.tokenizer_json.get("normalizer"):
        if normalizer["type"] != "NFC":
            raise TokenizerError(
                f"{file.path}: llama.cpp does not apply its normalizer {normalizer['type']}; {SERVING_ALTERNATIVE}"
            )
        remarks.append(
            "llama.cpp does not normalize texts to NFC as the tokenizer does: give it NFC texts, as most are"
        )
    merges = tuple(" ".join(merge) for merge in file.merges)
    return GgufTokenization(model="gpt2", pre_tokenizer=name, merges=merges, remarks=tuple(remarks))


def _find_tokens_beyond_merges(file: TokenizerFile) -> Iterator[str]:
    """Yield normal tokens that the merges do not produce from their own text."""
    model_json = file.tokenizer_json["model"] | {"ignore_merges": False}
    model = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model_json})).model
    for text, id_ in file.tokenizer_json["model"]["vocab"].items():
        if file.vocabulary.kinds[id_] is TokenKind.NORMAL and len(model.tokenize(text)) > 1:
            yield text


def _build_sentencepiece(file: TokenizerFile, *, has_chat_template: bool) -> GgufTokenization:
    scores = [_UNREACHABLE_SCORE] * len(file.vocabulary)
    for id_, score in compute_piece_scores(file.tokenizer_json["model"]).values():
        scores[id_] = score
    add_space_prefix, remarks = _choose_space_prefix(file, has_chat_template=has_chat_template)
    tokenization = GgufTokenization(
        model="llama",
        pre_tokenizer="default",
        scores=tuple(scores),
        add_space_prefix=add_space_prefix,
        remarks=remarks,
    )
    _check_scores(file, tokenization)
    return tokenization


def _choose_space_prefix(file: TokenizerFile, *, has_chat_template: bool) -> tuple[bool, tuple[str, ...]]:
    """Return whether llama.cpp adds a space before a text and after special tokens, and where that is not exact."""
    normalizers = _list_components(file.tokenizer_json.get("normalizer"))
    for component in (*normalizers, *_list_components(file.tokenizer_json.get("pre_tokenizer"))):
        if component["type"] == "Prepend":
            return True, ()
        if component["type"] != "Metaspace" or component.get("prepend_scheme", "always") == "never":
            continue
        if component.get("prepend_scheme") != "first":
            return True, (_DOUBLE_SPACE_REMARK,)
        if has_chat_template:
            return False, (_NO_PREFIX_SPACE_REMARK,)
        return True, (_DOUBLE_SPACE_REMARK, _SPACE_AFTER_SPECIAL_REMARK)
    return False, ()


def _list_components(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    if component is None:
        return []
    return component.get("normalizers") or component.get("pretokenizers") or [component]


def _check_scores(file: TokenizerFile, tokenization: GgufTokenization) -> None:
    """Raise `TokenizerError` unless merging by score gives the tokenizer's ids for every token and a test text.

    The SentencePiece library merges as llama.cpp does and is used in its place.
    """
    sentencepiece, prefix = _build_score_bpe(file, tokenization), "" if tokenization.add_space_prefix else " "
    vocabulary = zip(file.vocabulary.tokens, file.vocabulary.kinds, strict=True)
    tokens = (token.decode(errors="ignore") for token, kind in vocabulary if kind is TokenKind.NORMAL)
    for text in (*filter(str.strip, tokens), *CHECK_TEXT.splitlines()):
        text = prefix + text.lstrip()
        expected = file.tokenizer.encode(text, add_special_tokens=False).ids
        if (ids := sentencepiece.encode(text)) != expected:
            raise TokenizerError(
                f"{file.path}: llama.cpp merges by score and would tokenize {text!r} as {ids}, not {expected}: the "
                f"merges do not contain every way to build their tokens; {SERVING_ALTERNATIVE}"
            )


def _build_score_bpe(file: TokenizerFile, tokenization: GgufTokenization) -> Any:
    """Build the vocabulary as a SentencePiece BPE model."""
    from sentencepiece import SentencePieceProcessor
    from sentencepiece import sentencepiece_model_pb2 as proto

    message = proto.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    piece_types = message.SentencePiece
    pieces = {id_: text for text, (id_, _) in compute_piece_scores(file.tokenizer_json["model"]).items()}
    added = {id_: text for text, id_ in file.added_tokens.items()}
    for id_, score in enumerate(tokenization.scores):
        text = added.get(id_, pieces.get(id_, f"\0{id_}"))
        if text == file.unk_token:
            type_ = piece_types.UNKNOWN
        elif id_ in added or id_ not in pieces:
            type_ = piece_types.CONTROL
        else:
            type_ = piece_types.BYTE if is_byte_piece(text) else piece_types.NORMAL
        message.pieces.add(piece=text, score=score, type=type_)
    message.trainer_spec.model_type = message.trainer_spec.BPE
    message.trainer_spec.byte_fallback = True
    message.trainer_spec.unk_piece = file.unk_token or "<unk>"
    message.normalizer_spec.name = "identity"
    message.normalizer_spec.add_dummy_prefix = bool(tokenization.add_space_prefix)
    message.normalizer_spec.remove_extra_whitespaces = False
    return SentencePieceProcessor(model_proto=message.SerializeToString())
