"""A tokenizer as a GGUF file states it: tokens, their types, special ids, what is put around a text, the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase

from lep.core.token_bytes import SPACE
from lep.core.vocabulary import Kind
from lep.errors import TokenizerError
from lep.gguf.known_pre_tokenizers import CHECK_TEXT
from lep.gguf.pre_tokenization import Cutting, cutting
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

_ROLES = ("bos", "eos", "unk", "pad")
_MORE_ENDS = ("eot", "eom")
"""What GGUF calls ends of generation that are not `eos`: of a turn, of a message."""

_TYPES = {
    Kind.HOLE: TokenType.UNUSED,
    Kind.NORMAL: TokenType.NORMAL,
    Kind.BYTE: TokenType.BYTE,
    Kind.SPECIAL: TokenType.CONTROL,
}


@dataclass(frozen=True)
class GgufVocabulary:
    """What the keys `tokenizer.*` of a GGUF file hold."""

    cutting: Cutting
    tokens: Sequence[str]
    types: Sequence[TokenType]
    special: Mapping[str, int]
    """Id by role: `bos`, `eos`, `unk`, `pad`, `eot`, `eom`."""
    around: Mapping[str, bool]
    """Whether `bos` and `eos` are put around every text."""
    template: str | None
    """The chat template, in Jinja."""
    remarks: Sequence[str]

    def write(self, writer: GGUFWriter) -> None:
        """Add the keys to a file."""
        writer.add_tokenizer_model(self.cutting.model)
        writer.add_tokenizer_pre(self.cutting.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.cutting.merges:
            writer.add_token_merges(self.cutting.merges)
        if self.cutting.scores:
            unused = [min(self.cutting.scores)] * (len(self.tokens) - len(self.cutting.scores))
            writer.add_token_scores([*self.cutting.scores, *unused])
        if self.cutting.prefix_space is not None:
            writer.add_add_space_prefix(self.cutting.prefix_space)
        for role, id_ in self.special.items():
            getattr(writer, f"add_{role}_token_id")(id_)
        for role, is_put in self.around.items():
            getattr(writer, f"add_add_{role}_token")(is_put)
        if self.template:
            writer.add_chat_template(self.template)


def gguf_vocabulary(
    folder: Path, loaded: PreTrainedTokenizerBase, *, rows: int, config: Mapping[str, Any], ends: Sequence[int]
) -> GgufVocabulary:
    """A model's tokenizer for GGUF.

    Args:
        folder: the model.
        loaded: its tokenizer, as transformers loads it.
        rows: of its tables; ids beyond the tokenizer's become unused tokens.
        config: of the language model: it names special ids where the tokenizer does not.
        ends: ids at which generation stops.

    Raises:
        TokenizerError: llama.cpp would cut texts otherwise, or transformers reads the tokenizer otherwise than its
            file says.
    """
    file = read_tokenizer(folder)
    how = cutting(file, chats=bool(loaded.chat_template))
    own = file.tokenizer.encode(CHECK_TEXT, add_special_tokens=False).ids
    if loaded.encode(CHECK_TEXT, add_special_tokens=False) != own:
        raise TokenizerError(
            f"{folder}: transformers reads a test text otherwise than {file.path.name} says: `lep inspect` tells more"
        )
    special = _special(loaded, config, ends, size=len(file.vocabulary))
    template = loaded.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return GgufVocabulary(
        cutting=how,
        tokens=[*_texts(file), *(f"[PAD{id_}]" for id_ in range(len(file.vocabulary), rows))],
        types=[*_types(file), *[TokenType.UNUSED] * (rows - len(file.vocabulary))],
        special=special,
        around=_around(folder, loaded, special),
        template=template,
        remarks=[*how.remarks, *_remarks(file, special, ends)],
    )


def _texts(file: TokenizerFile) -> Iterator[str]:
    """As the vocabulary stores them; added tokens as they stand in texts."""
    vocab = file.state["model"]["vocab"]
    stored = {id_: text for text, id_ in vocab.items()} | {id_: text for text, id_ in file.added.items()}
    plain = {item["id"] for item in file.state.get("added_tokens", []) if not item.get("special")}
    for id_ in range(len(file.vocabulary)):
        text = stored.get(id_, f"[PAD{id_}]")
        yield text.replace(SPACE, " ") if id_ in plain and file.scheme == "sentencepiece" else text


def _types(file: TokenizerFile) -> Iterator[TokenType]:
    plain = {item["id"] for item in file.state.get("added_tokens", []) if not item.get("special")}
    for id_, kind in enumerate(file.vocabulary.kinds):
        if file.scheme == "sentencepiece" and file.vocabulary.tokens[id_].decode(errors="ignore") == file.unknown:
            yield TokenType.UNKNOWN
        else:
            yield TokenType.USER_DEFINED if id_ in plain else _TYPES[kind]


def _special(
    loaded: PreTrainedTokenizerBase, config: Mapping[str, Any], ends: Sequence[int], *, size: int
) -> dict[str, int]:
    """The tokenizer's special ids, the configuration's where it has none; then the other ends of generation."""
    found: dict[str, int] = {}
    for role in _ROLES:
        said = (getattr(loaded, f"{role}_token_id"), config.get(f"{role}_token_id"))
        if ids := [id_ for id_ in said if isinstance(id_, int) and 0 <= id_ < size]:
            found[role] = ids[0]
    more = [id_ for id_ in ends if id_ != found.get("eos")]
    return found | dict(zip(_MORE_ENDS, more, strict=False))


def _around(folder: Path, loaded: PreTrainedTokenizerBase, special: Mapping[str, int]) -> dict[str, bool]:
    """Whether the tokenizer puts `bos` before and `eos` after every text.

    Raises:
        TokenizerError: it puts something else there.
    """
    bare, whole = loaded.encode("a", add_special_tokens=False), loaded.encode("a")
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), len(whole))
    before, after = whole[:at], whole[at + len(bare) :]
    if before not in ([], [special.get("bos")]) or after not in ([], [special.get("eos")]):
        raise TokenizerError(
            f"{folder}: the tokenizer puts the ids {before} before a text and {after} after it; llama.cpp can put only "
            "bos and eos there: correct its post_processor"
        )
    return {"bos": bool(before), "eos": bool(after)}


def _remarks(file: TokenizerFile, special: Mapping[str, int], ends: Sequence[int]) -> Iterator[str]:
    marks = [
        item["content"]
        for item in file.state.get("added_tokens", [])
        if item.get("lstrip") or item.get("rstrip") or item.get("single_word")
    ]
    if marks:
        yield f"llama.cpp does not take the spaces around {', '.join(marks[:3])} away, as the tokenizer does"
    if lost := [id_ for id_ in ends if id_ not in special.values()]:
        yield f"a GGUF file has no place for more ends of generation: {', '.join(map(str, lost))} left out"
