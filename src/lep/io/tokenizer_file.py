"""Tokenizer files of every family as one typed value: the vocabulary in bytes and the segmentation on bytes.

Read here: `tokenizer.json` (byte-level BPE, SentencePiece-style BPE and Unigram), SentencePiece `.model` files, and
tiktoken rank files. Whatever the source, the rest of lep sees a `TokenizerFile`.
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

from lep.core.token_bytes import BYTES_OF, SPACE, Scheme, byte_level_string, is_byte_piece, utf8_runs
from lep.core.vocabulary import Kind, Vocabulary, VocabularyMap, vocabulary_map
from lep.errors import TokenizerError
from lep.io.sentencepiece_file import SENTENCEPIECE, State, is_tiktoken, read_sentencepiece

JSON = "tokenizer.json"

_ID_LIMIT = 1 << 24
"""Above any table: an id that would only fill memory."""

_DISGUISED = re.compile(f"({SPACE}|<0x[0-9A-Fa-f]{{2}}>)".encode())


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer as its file states it."""

    path: Path
    state: State
    scheme: Scheme

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Every id as bytes and sort; ids run from 0 to the highest one used."""
        stored = dict(_entries(self.state["model"]))
        added = {item["id"]: item["content"] for item in self.state.get("added_tokens", [])}
        size = 1 + max([*stored, *added], default=-1)
        tokens, kinds = [b""] * size, [Kind.HOLE] * size
        for id_, text in stored.items():
            if id_ in added:
                continue
            literal = text == self.unknown
            tokens[id_] = text.encode() if literal else self._bytes(text)
            byte = self.scheme == "sentencepiece" and is_byte_piece(text)
            kinds[id_] = Kind.SPECIAL if literal else Kind.BYTE if byte else Kind.NORMAL
        for id_, text in added.items():
            tokens[id_], kinds[id_] = text.encode(), Kind.SPECIAL
        return Vocabulary(tokens=tokens, kinds=kinds)

    @cached_property
    def added(self) -> dict[str, int]:
        """Added and special tokens: text → id."""
        return {item["content"]: item["id"] for item in self.state.get("added_tokens", [])}

    @property
    def unknown(self) -> str | None:
        """The token for what the vocabulary cannot spell, where it has one."""
        model = self.state["model"]
        return model.get("unk_token") if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]

    @cached_property
    def stored_pieces(self) -> set[str]:
        """The strings under which the model stores its tokens."""
        return {text for _, text in _entries(self.state["model"])}

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The merges of a BPE model, first to last, however the file writes them."""
        merges = self.state["model"].get("merges", [])
        return [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in merges]  # type: ignore

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself, as `tokenizers` runs it, but for cutting and padding texts."""
        return Tokenizer.from_str(json.dumps(self.state | {"truncation": None, "padding": None}))

    @cached_property
    def _bare(self) -> Tokenizer:
        """Pre-tokenizer and model alone: what splits and merges, and adds, changes or matches nothing."""
        bare = self.state | {"added_tokens": [], "normalizer": None, "post_processor": None}
        bare |= {"truncation": None, "padding": None}
        if self.scheme == "sentencepiece":
            bare["pre_tokenizer"] = None
        if self.state["model"].get("type") == "Unigram":  # would match its special tokens in text
            kinds = self.vocabulary.kinds
            vocab = [
                (f"\0special token {id_}" if kinds[id_] is Kind.SPECIAL else text, score)
                for id_, (text, score) in enumerate(self.state["model"]["vocab"])
            ]
            bare["model"] = self.state["model"] | {"vocab": vocab}
        return Tokenizer.from_str(json.dumps(_without_prefix_space(bare)))

    def stored(self, token: bytes) -> str | None:
        """How this vocabulary would store these bytes as one token; none when it could not."""
        if self.scheme == "byte_level":
            return byte_level_string(token)
        try:
            text = token.decode()
        except UnicodeDecodeError:
            return None
        return None if _DISGUISED.search(token) else text.replace(" ", SPACE)

    def is_word(self, token: bytes) -> bool:
        """Whether these bytes can be one token in a text: no boundary that this tokenizer never merges across."""
        if self.scheme == "sentencepiece":
            return b" " not in token.lstrip(b" ")
        try:
            text = token.decode()
        except UnicodeDecodeError:  # a part of a word, and no text to split
            return True
        return len(self._bare.pre_tokenizer.pre_tokenize_str(text)) == 1

    def segment(self, token: bytes) -> Sequence[int]:
        """Ids of the tokens that spell these bytes as this tokenizer would; none when it cannot spell them."""
        ids = self._segment_byte_level(token) if self.scheme == "byte_level" else self._segment_sentencepiece(token)
        spelt = sum(len(self.vocabulary.tokens[id_]) for id_ in ids)
        return ids if spelt >= len(token) else []  # BPE drops what its vocabulary lacks

    def _segment_byte_level(self, token: bytes) -> Sequence[int]:
        try:
            text = token.decode()
        except UnicodeDecodeError:  # begins or ends inside a character: no text, so no pre-tokenizer either
            return [piece.id for piece in self._bare.model.tokenize(byte_level_string(token))]
        ids = self._bare.encode(text, add_special_tokens=False).ids
        return [] if any(self.vocabulary.kinds[id_] is Kind.SPECIAL for id_ in ids) else ids

    def _segment_sentencepiece(self, token: bytes) -> Sequence[int]:
        ids: list[int] = []
        for run, is_text in _spellable_runs(token):
            if is_text:
                ids.extend(piece.id for piece in self._bare.model.tokenize(run.decode().replace(" ", SPACE)))
            else:
                byte = self._bare.model.token_to_id(f"<0x{run[0]:02X}>")
                if byte is None:
                    return []
                ids.append(byte)
        return [] if any(self.vocabulary.kinds[id_] is Kind.SPECIAL for id_ in ids) else ids

    def _bytes(self, stored: str) -> bytes:
        try:
            return BYTES_OF[self.scheme](stored)
        except ValueError as error:
            raise TokenizerError(f"{self.path}: {error}; was another tokenizer's vocabulary put into it?") from None


def read_tokenizer(path: Path) -> TokenizerFile:
    """Read a tokenizer from a folder (tokenizer.json, else tokenizer.model) or from one such file.

    A tiktoken file does not say how it splits text into words; Llama-3's and GPT-4's pattern is assumed.

    Raises:
        TokenizerError: nothing to read there, or a kind of tokenizer that has no bytes (WordPiece, WordLevel).
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in (JSON, SENTENCEPIECE) if (path / name).exists()), path)
    if not file.is_file():
        raise TokenizerError(f"{path}: neither {JSON} nor {SENTENCEPIECE} is there; expected one of these files")
    if file.suffix == ".json":
        state = _read_json(file)
    elif is_tiktoken(file):
        state = _read_tiktoken(file)
    else:
        state = read_sentencepiece(file)
    return TokenizerFile(path=file, state=state, scheme=_scheme(file, state))


def map_vocabularies(old: TokenizerFile, new: TokenizerFile) -> VocabularyMap:
    """T between two tokenizer files; `TokenizerError` when the old one spells a token with other bytes."""
    try:
        return vocabulary_map(old=old.vocabulary, new=new.vocabulary, segment=old.segment)
    except ValueError as error:
        raise TokenizerError(f"{old.path} cannot spell a token of {new.path}: {error}") from None


def _read_json(file: Path) -> State:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        kind = state["model"].get("type", "BPE")
        if kind not in ("BPE", "Unigram"):
            raise TokenizerError(f"{file}: a {kind} tokenizer does not keep the bytes of its text; use another base")
        _check_ids(state)
        tokenizer = Tokenizer.from_file(str(file))
    except TokenizerError:
        raise
    except Exception as error:  # tokenizers raises bare ones, and what is no tokenizer.json breaks anywhere
        why = "nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        raise TokenizerError(
            f"{file}: not a tokenizer.json of the tokenizers library ({why}); fetch it again"
        ) from None
    for item in state.get("added_tokens", []):
        if (found := tokenizer.token_to_id(item["content"])) != item["id"]:
            raise TokenizerError(
                f"{file}: added token {item['content']!r} has id {item['id']}, but tokenizers gives it {found}: its "
                "text or its id is another token's, or ids before it are not used; correct it there"
            )
    return state


def _check_ids(state: State) -> None:
    """An exception unless every token has an id of its own, and every added token a text and an id."""
    places: dict[int, str] = {}
    for id_, text in _entries(state["model"]):
        if type(id_) is not int or not 0 <= id_ < _ID_LIMIT:
            raise ValueError(f"token {text!r} has id {id_!r}, expected a whole number below {_ID_LIMIT}")
        if places.setdefault(id_, text) != text:
            raise ValueError(f"tokens {places[id_]!r} and {text!r} have one id, {id_}")
    for item in state.get("added_tokens", []):
        if not isinstance(item["content"], str) or not item["content"] or type(item["id"]) is not int:
            raise ValueError(f"added_tokens holds {item!r}, expected a text and an id")


def _read_tiktoken(file: Path) -> State:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    return json.loads(TikTokenConverter(vocab_file=str(file)).converted().to_str())


def _scheme(file: Path, state: State) -> Scheme:
    parts = json.dumps([state.get("pre_tokenizer"), state.get("decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        if '"ByteLevel"' not in json.dumps(state.get("pre_tokenizer")):
            raise TokenizerError(f"{file}: its decoder is byte-level, but not its pre-tokenizer; fetch it again")
        return "byte_level"
    if SPACE in json.dumps([state.get("normalizer"), parts], ensure_ascii=False) or '"ByteFallback"' in parts:
        return "sentencepiece"
    raise TokenizerError(
        f"{file}: neither byte-level nor SentencePiece-style: its tokens have no known bytes; use another base"
    )


def _entries(model: State) -> Iterator[tuple[int, str]]:
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        return ((id_, text) for text, id_ in vocab.items())
    return ((id_, text) for id_, (text, _) in enumerate(vocab))


def _spellable_runs(token: bytes) -> Iterator[tuple[bytes, bool]]:
    """UTF-8 runs; a literal `▁` or `<0xNN>`, which would be read as a space or a byte, is spelt byte by byte."""
    for i, part in enumerate(_DISGUISED.split(token)):
        yield from ((bytes([byte]), False) for byte in part) if i % 2 else utf8_runs(part)


def _without_prefix_space(part: Any) -> Any:
    """The same tokenizer without `add_prefix_space`: segmenting must add no byte."""
    if isinstance(part, dict):
        return {k: False if k == "add_prefix_space" else _without_prefix_space(v) for k, v in part.items()}
    return [_without_prefix_space(item) for item in part] if isinstance(part, list) else part
