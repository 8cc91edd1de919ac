"""Read tokenizer files of every family as a `TokenizerFile`: vocabulary in bytes, segmentation of bytes.

Supported are `tokenizer.json` (byte-level BPE, SentencePiece-style BPE and Unigram), SentencePiece `.model` files, and
tiktoken rank files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lep.core.token_bytes import (
    SPIECE_UNDERLINE,
    TOKEN_DECODERS,
    Scheme,
    encode_byte_level,
    is_byte_piece,
    split_utf8_runs,
)
from lep.core.vocabulary import TokenKind, Vocabulary, VocabularyMap, build_vocabulary_map
from lep.errors import TokenizerError
from lep.io.sentencepiece_file import SENTENCEPIECE_FILE, TokenizerJson, is_tiktoken_file, read_sentencepiece

TOKENIZER_JSON_FILE = "tokenizer.json"

_TOKEN_ID_LIMIT = 1 << 24
"""Larger than any vocabulary: such an id would only fill memory."""

_ESCAPED = re.compile(f"({SPIECE_UNDERLINE}|<0x[0-9A-Fa-f]{{2}}>)".encode())


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer, parsed from its file."""

    path: Path
    tokenizer_json: TokenizerJson
    scheme: Scheme

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Return the bytes and kind of every id, from 0 to the highest one used."""
        stored = dict(_iter_vocab(self.tokenizer_json["model"]))
        added = {item["id"]: item["content"] for item in self.tokenizer_json.get("added_tokens", [])}
        size = 1 + max([*stored, *added], default=-1)
        tokens, kinds = [b""] * size, [TokenKind.UNUSED] * size
        for id_, text in stored.items():
            if id_ in added:
                continue
            is_unk = text == self.unk_token
            tokens[id_] = text.encode() if is_unk else self._decode_token(text)
            is_byte = self.scheme == "sentencepiece" and is_byte_piece(text)
            kinds[id_] = TokenKind.SPECIAL if is_unk else TokenKind.BYTE_FALLBACK if is_byte else TokenKind.NORMAL
        for id_, text in added.items():
            tokens[id_], kinds[id_] = text.encode(), TokenKind.SPECIAL
        return Vocabulary(tokens=tokens, kinds=kinds)

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """Return added and special tokens: text → id."""
        return {item["content"]: item["id"] for item in self.tokenizer_json.get("added_tokens", [])}

    @property
    def unk_token(self) -> str | None:
        """Return the unknown token; `None` where there is none."""
        model = self.tokenizer_json["model"]
        return model.get("unk_token") if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]

    @cached_property
    def stored_tokens(self) -> set[str]:
        """Return the strings under which the model stores its tokens."""
        return {text for _, text in _iter_vocab(self.tokenizer_json["model"])}

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Return the merges of a BPE model, first to last, from either format of the file."""
        merges = self.tokenizer_json["model"].get("merges", [])
        return [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in merges]  # type: ignore

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the `tokenizers.Tokenizer`, without truncation and padding."""
        return Tokenizer.from_str(json.dumps(self.tokenizer_json | {"truncation": None, "padding": None}))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without the special tokens that a post-processor adds."""
        return [item.ids for item in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of all texts together."""
        return sum(map(len, self.encode_batch(texts)))

    @cached_property
    def _bare_tokenizer(self) -> Tokenizer:
        """Return the pre-tokenizer and the model alone, without added tokens, normalizer and post-processor."""
        bare = self.tokenizer_json | {"added_tokens": [], "normalizer": None, "post_processor": None}
        bare |= {"truncation": None, "padding": None}
        if self.scheme == "sentencepiece":
            bare["pre_tokenizer"] = None
        if self.tokenizer_json["model"].get("type") == "Unigram":  # would match its special tokens in text
            kinds = self.vocabulary.kinds
            vocab = [
                (f"\0special token {id_}" if kinds[id_] is TokenKind.SPECIAL else text, score)
                for id_, (text, score) in enumerate(self.tokenizer_json["model"]["vocab"])
            ]
            bare["model"] = self.tokenizer_json["model"] | {"vocab": vocab}
        return Tokenizer.from_str(json.dumps(_disable_prefix_space(bare)))

    def to_stored_token(self, token: bytes) -> str | None:
        """Return the string under which the vocabulary would store these bytes as one token; `None` if it cannot."""
        if self.scheme == "byte_level":
            return encode_byte_level(token)
        try:
            text = token.decode()
        except UnicodeDecodeError:
            return None
        return None if _ESCAPED.search(token) else text.replace(" ", SPIECE_UNDERLINE)

    def is_single_pre_token(self, token: bytes) -> bool:
        """Return whether these bytes can be one token in a text: the pre-tokenizer does not split them."""
        if self.scheme == "sentencepiece":
            return b" " not in token.lstrip(b" ")
        try:
            text = token.decode()
        except UnicodeDecodeError:  # not valid UTF-8: nothing to split
            return True
        return len(self._bare_tokenizer.pre_tokenizer.pre_tokenize_str(text)) == 1

    def segment(self, token: bytes) -> Sequence[int]:
        """Return the ids into which the tokenizer segments these bytes; no ids when it cannot encode them."""
        ids = self._segment_byte_level(token) if self.scheme == "byte_level" else self._segment_sentencepiece(token)
        length = sum(len(self.vocabulary.tokens[id_]) for id_ in ids)
        return ids if length >= len(token) else []  # BPE drops what its vocabulary lacks

    def _segment_byte_level(self, token: bytes) -> Sequence[int]:
        try:
            text = token.decode()
        except UnicodeDecodeError:  # begins or ends inside a character: not UTF-8, so no pre-tokenizer either
            return [piece.id for piece in self._bare_tokenizer.model.tokenize(encode_byte_level(token))]
        ids = self._bare_tokenizer.encode(text, add_special_tokens=False).ids
        return [] if any(self.vocabulary.kinds[id_] is TokenKind.SPECIAL for id_ in ids) else ids

    def _segment_sentencepiece(self, token: bytes) -> Sequence[int]:
        ids: list[int] = []
        for run, is_text in _split_encodable_runs(token):
            if is_text:
                text = run.decode().replace(" ", SPIECE_UNDERLINE)
                ids.extend(piece.id for piece in self._bare_tokenizer.model.tokenize(text))
            else:
                byte = self._bare_tokenizer.model.token_to_id(f"<0x{run[0]:02X}>")
                if byte is None:
                    return []
                ids.append(byte)
        return [] if any(self.vocabulary.kinds[id_] is TokenKind.SPECIAL for id_ in ids) else ids

    def _decode_token(self, token_string: str) -> bytes:
        try:
            return TOKEN_DECODERS[self.scheme](token_string)
        except ValueError as error:
            raise TokenizerError(f"{self.path}: {error}; does the vocabulary belong to another tokenizer?") from None


def read_tokenizer(path: Path) -> TokenizerFile:
    """Read a tokenizer from a folder (tokenizer.json, else tokenizer.model) or from one such file.

    A tiktoken file has no pre-tokenization pattern; that of Llama-3 and GPT-4 is assumed.

    Args:
        path: a folder or a file.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: there is no such file, it cannot be parsed, or its tokens have no bytes (WordPiece, WordLevel).
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in (TOKENIZER_JSON_FILE, SENTENCEPIECE_FILE) if (path / name).exists()), path)
    if not file.is_file():
        raise TokenizerError(
            f"{path}: neither {TOKENIZER_JSON_FILE} nor {SENTENCEPIECE_FILE} is there; expected one of these files"
        )
    if file.suffix == ".json":
        state = _read_tokenizer_json(file)
    elif is_tiktoken_file(file):
        state = _read_tiktoken(file)
    else:
        state = read_sentencepiece(file)
    return TokenizerFile(path=file, tokenizer_json=state, scheme=_detect_scheme(file, state))


def map_vocabularies(old: TokenizerFile, new: TokenizerFile) -> VocabularyMap:
    """Return T, the map from one tokenizer's vocabulary to another's, see `build_vocabulary_map`.

    Args:
        old: tokenizer of the base model.
        new: tokenizer of the adapted model.

    Returns:
        T.

    Raises:
        TokenizerError: the old tokenizer segments a token into other bytes.
    """
    try:
        return build_vocabulary_map(old=old.vocabulary, new=new.vocabulary, segment=old.segment)
    except ValueError as error:
        raise TokenizerError(f"{old.path} cannot encode a token of {new.path}: {error}") from None


def _read_tokenizer_json(file: Path) -> TokenizerJson:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        kind = state["model"].get("type", "BPE")
        if kind not in ("BPE", "Unigram"):
            raise TokenizerError(f"{file}: a {kind} tokenizer does not keep the bytes of its text; use another base")
        _check_ids(state)
        tokenizer = Tokenizer.from_file(str(file))
    except TokenizerError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions, and malformed JSON breaks anywhere
        why = "nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        raise TokenizerError(
            f"{file}: not a tokenizer.json of the tokenizers library ({why}); fetch it again"
        ) from None
    for item in state.get("added_tokens", []):
        if (actual_id := tokenizer.token_to_id(item["content"])) != item["id"]:
            raise TokenizerError(
                f"{file}: added token {item['content']!r} has id {item['id']}, but tokenizers gives it {actual_id}: "
                "its text or its id is another token's, or ids before it are not used; correct it there"
            )
    return state


def _check_ids(tokenizer_json: TokenizerJson) -> None:
    """Raise an error unless every token has an id of its own, and every added token a text and an id."""
    token_by_id: dict[int, str] = {}
    for id_, text in _iter_vocab(tokenizer_json["model"]):
        if type(id_) is not int or not 0 <= id_ < _TOKEN_ID_LIMIT:
            raise ValueError(f"token {text!r} has id {id_!r}, expected an integer below {_TOKEN_ID_LIMIT}")
        if token_by_id.setdefault(id_, text) != text:
            raise ValueError(f"tokens {token_by_id[id_]!r} and {text!r} have one id, {id_}")
    for item in tokenizer_json.get("added_tokens", []):
        if not isinstance(item["content"], str) or not item["content"] or type(item["id"]) is not int:
            raise ValueError(f"added_tokens holds {item!r}, expected a text and an id")


def _read_tiktoken(file: Path) -> TokenizerJson:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    return json.loads(TikTokenConverter(vocab_file=str(file)).converted().to_str())


def _detect_scheme(file: Path, tokenizer_json: TokenizerJson) -> Scheme:
    parts = json.dumps([tokenizer_json.get("pre_tokenizer"), tokenizer_json.get("decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        if '"ByteLevel"' not in json.dumps(tokenizer_json.get("pre_tokenizer")):
            raise TokenizerError(f"{file}: its decoder is byte-level, but not its pre-tokenizer; fetch it again")
        return "byte_level"
    if (
        SPIECE_UNDERLINE in json.dumps([tokenizer_json.get("normalizer"), parts], ensure_ascii=False)
        or '"ByteFallback"' in parts
    ):
        return "sentencepiece"
    raise TokenizerError(
        f"{file}: neither byte-level nor SentencePiece-style: its tokens have no known bytes; use another base"
    )


def _iter_vocab(model: TokenizerJson) -> Iterator[tuple[int, str]]:
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        return ((id_, text) for text, id_ in vocab.items())
    return ((id_, text) for id_, (text, _) in enumerate(vocab))


def _split_encodable_runs(token: bytes) -> Iterator[tuple[bytes, bool]]:
    """Split into UTF-8 runs; a literal `▁` or `<0xNN>`, which would read as a space or a byte, into single bytes."""
    for i, part in enumerate(_ESCAPED.split(token)):
        yield from ((bytes([byte]), False) for byte in part) if i % 2 else split_utf8_runs(part)


def _disable_prefix_space(part: Any) -> Any:
    """Return the tokenizer.json without `add_prefix_space`: segmentation must not add bytes."""
    if isinstance(part, dict):
        return {k: False if k == "add_prefix_space" else _disable_prefix_space(v) for k, v in part.items()}
    return [_disable_prefix_space(item) for item in part] if isinstance(part, list) else part
