"""Write a tokenizer as the keys of a GGUF file: tokens, token types, special ids, BOS and EOS, chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase

from lep.core.token_bytes import SPIECE_UNDERLINE
from lep.core.vocabulary import TokenKind
from lep.errors import TokenizerError
from lep.gguf.known_pre_tokenizers import CHECK_TEXT
from lep.gguf.pre_tokenization import GgufTokenization, build_gguf_tokenization
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

_SPECIAL_TOKEN_ROLES = ("bos", "eos", "unk", "pad")
_EXTRA_EOS_ROLES = ("eot", "eom")
"""GGUF's roles of further ids at which generation stops: end of turn, end of message."""

_TOKEN_TYPES = {
    TokenKind.UNUSED: TokenType.UNUSED,
    TokenKind.NORMAL: TokenType.NORMAL,
    TokenKind.BYTE_FALLBACK: TokenType.BYTE,
    TokenKind.SPECIAL: TokenType.CONTROL,
}


@dataclass(frozen=True)
class GgufVocabulary:
    """The content of the keys `tokenizer.*` of a GGUF file."""

    tokenization: GgufTokenization
    tokens: Sequence[str]
    """One text of each row of the embedding matrices."""
    token_types: Sequence[TokenType]
    special_token_ids: Mapping[str, int]
    """Ids by role: `bos`, `eos`, `unk`, `pad`, `eot`, `eom`."""
    add_special_tokens: Mapping[str, bool]
    """Whether `bos` is added before and `eos` after every text."""
    chat_template: str | None
    """The chat template, in Jinja."""
    remarks: Sequence[str]

    def write(self, writer: GGUFWriter) -> None:
        """Add the keys to a GGUF file."""
        tokenization = self.tokenization
        writer.add_tokenizer_model(tokenization.model)
        writer.add_tokenizer_pre(tokenization.pre_tokenizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.token_types)
        if tokenization.merges:
            writer.add_token_merges(tokenization.merges)
        if tokenization.scores:
            padding = [min(tokenization.scores)] * (len(self.tokens) - len(tokenization.scores))
            writer.add_token_scores([*tokenization.scores, *padding])
        if tokenization.add_space_prefix is not None:
            writer.add_add_space_prefix(tokenization.add_space_prefix)
        for role, id_ in self.special_token_ids.items():
            getattr(writer, f"add_{role}_token_id")(id_)
        for role, is_added in self.add_special_tokens.items():
            getattr(writer, f"add_add_{role}_token")(is_added)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def build_gguf_vocabulary(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    vocab_size: int,
    config: Mapping[str, Any],
    eos_token_ids: Sequence[int],
) -> GgufVocabulary:
    """Convert a model's tokenizer for GGUF.

    Args:
        folder: The model folder.
        tokenizer: Its tokenizer as transformers loads it.
        vocab_size: Number of rows of the embedding matrices; ids beyond the tokenizer's are unused tokens.
        config: The configuration of the language model, for special ids that the tokenizer does not name.
        eos_token_ids: Ids at which generation stops.

    Returns:
        The vocabulary.

    Raises:
        TokenizerError: llama.cpp would tokenize texts differently, or transformers does not tokenize as the tokenizer
            file does.
    """
    file = read_tokenizer(folder)
    tokenization = build_gguf_tokenization(file, has_chat_template=bool(tokenizer.chat_template))
    expected = file.tokenizer.encode(CHECK_TEXT, add_special_tokens=False).ids
    if tokenizer.encode(CHECK_TEXT, add_special_tokens=False) != expected:
        raise TokenizerError(
            f"{folder}: transformers does not tokenize a test text as {file.path.name} does; `lep inspect` shows where"
        )
    special_ids = _collect_special_token_ids(tokenizer, config, eos_token_ids, token_count=len(file.vocabulary))
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    padding_ids = range(len(file.vocabulary), vocab_size)
    return GgufVocabulary(
        tokenization=tokenization,
        tokens=[*_list_token_texts(file), *map(_format_unused, padding_ids)],
        token_types=[*_list_token_types(file), *[TokenType.UNUSED] * len(padding_ids)],
        special_token_ids=special_ids,
        add_special_tokens=_detect_added_special_tokens(folder, tokenizer, special_ids),
        chat_template=template,
        remarks=[*tokenization.remarks, *_list_remarks(file, special_ids, eos_token_ids)],
    )


def _format_unused(id_: int) -> str:
    return f"[PAD{id_}]"


def _list_token_texts(file: TokenizerFile) -> Iterator[str]:
    """Yield tokens as the vocabulary stores them; non-special added tokens as texts contain them."""
    vocab = file.tokenizer_json["model"]["vocab"]
    texts = {id_: text for text, id_ in vocab.items()} | {id_: text for text, id_ in file.added_tokens.items()}
    user_defined = _get_user_defined_ids(file)
    for id_ in range(len(file.vocabulary)):
        text = texts.get(id_, _format_unused(id_))
        is_plain = id_ in user_defined and file.scheme == "sentencepiece"
        yield text.replace(SPIECE_UNDERLINE, " ") if is_plain else text


def _list_token_types(file: TokenizerFile) -> Iterator[TokenType]:
    user_defined = _get_user_defined_ids(file)
    for id_, kind in enumerate(file.vocabulary.kinds):
        if file.scheme == "sentencepiece" and file.vocabulary.tokens[id_].decode(errors="ignore") == file.unk_token:
            yield TokenType.UNKNOWN
        else:
            yield TokenType.USER_DEFINED if id_ in user_defined else _TOKEN_TYPES[kind]


def _get_user_defined_ids(file: TokenizerFile) -> set[int]:
    """Return the ids of added tokens that are not special."""
    return {token["id"] for token in file.tokenizer_json.get("added_tokens", []) if not token.get("special")}


def _collect_special_token_ids(
    tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any], eos_token_ids: Sequence[int], *, token_count: int
) -> dict[str, int]:
    """Return special ids by role, from the tokenizer, else the configuration; then further ids that stop generation."""
    special_ids: dict[str, int] = {}
    for role in _SPECIAL_TOKEN_ROLES:
        candidates = (getattr(tokenizer, f"{role}_token_id"), config.get(f"{role}_token_id"))
        if ids := [id_ for id_ in candidates if isinstance(id_, int) and 0 <= id_ < token_count]:
            special_ids[role] = ids[0]
    extra_eos_ids = [id_ for id_ in eos_token_ids if id_ != special_ids.get("eos")]
    return special_ids | dict(zip(_EXTRA_EOS_ROLES, extra_eos_ids, strict=False))


def _detect_added_special_tokens(
    folder: Path, tokenizer: PreTrainedTokenizerBase, special_token_ids: Mapping[str, int]
) -> dict[str, bool]:
    """Return whether the tokenizer adds `bos` before and `eos` after every text; `TokenizerError`: it adds others."""
    plain, full = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), len(full))
    before, after = full[:start], full[start + len(plain) :]
    if before not in ([], [special_token_ids.get("bos")]) or after not in ([], [special_token_ids.get("eos")]):
        raise TokenizerError(
            f"{folder}: the tokenizer adds the ids {before} before a text and {after} after it; llama.cpp can only add "
            "bos and eos: correct the post_processor of the tokenizer"
        )
    return {"bos": bool(before), "eos": bool(after)}


def _list_remarks(
    file: TokenizerFile, special_token_ids: Mapping[str, int], eos_token_ids: Sequence[int]
) -> Iterator[str]:
    stripping = [
        token["content"]
        for token in file.tokenizer_json.get("added_tokens", [])
        if token.get("lstrip") or token.get("rstrip") or token.get("single_word")
    ]
    if stripping:
        yield f"llama.cpp does not strip the spaces around {', '.join(stripping[:3])} as the tokenizer does"
    if omitted := [id_ for id_ in eos_token_ids if id_ not in special_token_ids.values()]:
        yield f"a GGUF file has no key for further eos_token_id values: {', '.join(map(str, omitted))} left out"
