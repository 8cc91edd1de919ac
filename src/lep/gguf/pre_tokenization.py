"""How llama.cpp will cut texts into tokens, and whether that is how the tokenizer cuts them.

It reads two kinds exactly: byte-level BPE (`gpt2`), whose texts it splits by the pre-tokenizer that is named, and
SentencePiece BPE (`llama`), which merges the neighbours whose piece scores best. What it would cut otherwise is
refused.

Source: llm_tokenizer_bpe and llm_tokenizer_spm of llama.cpp's src/llama-vocab.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from lep.core.token_bytes import is_byte_piece
from lep.core.vocabulary import Kind
from lep.errors import TokenizerError
from lep.gguf.known_pre_tokenizers import CHECK_TEXT, TAKE_WORDS_WHOLE, closest, known_as
from lep.io.sentencepiece_file import piece_scores
from lep.io.tokenizer_file import TokenizerFile

ELSEWHERE = "serve the folder with vLLM or transformers instead"
_NEVER = -1e4
"""Score of what no text becomes."""

_TWICE = "llama.cpp puts a space before a text also where it begins with one, which the tokenizer does not"
_AGAIN = "llama.cpp puts a space after each special token too, the tokenizer only before the text"
_NONE_BEFORE = (
    "llama.cpp puts no space before a text, the tokenizer does where no special token comes first: conversations are "
    "read alike, a bare text is not"
)


@dataclass(frozen=True)
class Cutting:
    """The part of a GGUF vocabulary that says how texts are cut."""

    model: str
    """`gpt2` or `llama`."""
    pre: str
    """llama.cpp's name of the pre-tokenizer."""
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    prefix_space: bool | None = None
    """Whether a text begins with a space of its own; None where llama.cpp does not ask."""
    remarks: tuple[str, ...] = ()


def cutting(file: TokenizerFile, *, chats: bool) -> Cutting:
    """How llama.cpp will cut the texts of this tokenizer.

    Args:
        file: the tokenizer.
        chats: whether the model has a chat template; where not all texts can be read exactly, conversations are.

    Raises:
        TokenizerError: it would cut them otherwise.
    """
    if file.state["model"].get("type") == "Unigram":
        raise TokenizerError(
            f"{file.path}: llama.cpp reads a Unigram vocabulary without its bytes: what has no piece would be lost; "
            f"{ELSEWHERE}"
        )
    return _byte_level(file) if file.scheme == "byte_level" else _sentencepiece(file, chats=chats)


def _byte_level(file: TokenizerFile) -> Cutting:
    whole = bool(file.state["model"].get("ignore_merges"))
    split = file.state.get("pre_tokenizer")
    name = known_as(split, ignores_merges=whole)
    if name is None:
        raise TokenizerError(
            f"{file.path}: its pre-tokenizer is none that llama.cpp knows; by the closest, {closest(split)}, "
            f"texts would be cut otherwise; {ELSEWHERE}"
        )
    if whole != (name in TAKE_WORDS_WHOLE) and (lost := next(_beyond_merges(file), None)):
        raise TokenizerError(
            f"{file.path}: token {lost!r} is not what its merges make, and llama.cpp's {name} takes words "
            f"{'by merges alone' if whole else 'whole that are tokens'}: texts would be cut otherwise; {ELSEWHERE}"
        )
    remarks = []
    if normalizer := file.state.get("normalizer"):
        if normalizer["type"] != "NFC":
            raise TokenizerError(
                f"{file.path}: its normalizer {normalizer['type']} changes texts, llama.cpp would not; {ELSEWHERE}"
            )
        remarks.append(
            "llama.cpp does not compose letters and accents (NFC): give it composed texts, as nearly all are"
        )
    merges = tuple(" ".join(merge) for merge in file.merges)
    return Cutting(model="gpt2", pre=name, merges=merges, remarks=tuple(remarks))


def _beyond_merges(file: TokenizerFile) -> Iterator[str]:
    """Ordinary tokens that their own merges do not make: they are reached only as whole words, or not at all."""
    model = Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "model": file.state["model"] | {"ignore_merges": False}})
    ).model
    for text, id_ in file.state["model"]["vocab"].items():
        if file.vocabulary.kinds[id_] is Kind.NORMAL and len(model.tokenize(text)) > 1:
            yield text


def _sentencepiece(file: TokenizerFile, *, chats: bool) -> Cutting:
    stored = piece_scores(file.state["model"])
    scores = [_NEVER] * len(file.vocabulary)
    for id_, score in stored.values():
        scores[id_] = score
    prefix, remarks = _prefix_space(file, chats=chats)
    found = Cutting(model="llama", pre="default", scores=tuple(scores), prefix_space=prefix, remarks=remarks)
    _check_scores(file, found)
    return found


def _prefix_space(file: TokenizerFile, *, chats: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether llama.cpp is to put a space before a text and after each special token, and where that is not exact."""
    for part in (*_parts(file.state.get("normalizer")), *_parts(file.state.get("pre_tokenizer"))):
        if part["type"] == "Prepend":
            return True, ()
        if part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never":
            if part.get("prepend_scheme") != "first":
                return True, (_TWICE,)
            return (False, (_NONE_BEFORE,)) if chats else (True, (_TWICE, _AGAIN))
    return False, ()


def _parts(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return step.get("normalizers") or step.get("pretokenizers") or [step]


def _check_scores(file: TokenizerFile, found: Cutting) -> None:
    """`TokenizerError` unless merging by score gives the tokenizer's ids: of every token's text, and of a test text.

    SentencePiece itself stands for llama.cpp here, which merges as it does.
    """
    merged, before = _by_score(file, found), "" if found.prefix_space else " "
    texts = [token.decode(errors="ignore") for token in file.vocabulary.tokens]
    kinds = file.vocabulary.kinds
    texts = [text for text, kind in zip(texts, kinds, strict=True) if kind is Kind.NORMAL and text.strip()]
    for text in (before + text.lstrip() for text in (*texts, *CHECK_TEXT.splitlines())):
        own = file.tokenizer.encode(text, add_special_tokens=False).ids
        if (other := merged.encode(text)) != own:
            raise TokenizerError(
                f"{file.path}: llama.cpp merges by score and would read {text!r} as {other}, not as {own}: the merges "
                f"do not have every way to make their tokens; {ELSEWHERE}"
            )


def _by_score(file: TokenizerFile, found: Cutting) -> Any:
    """The vocabulary as a SentencePiece BPE model."""
    from sentencepiece import SentencePieceProcessor
    from sentencepiece import sentencepiece_model_pb2 as proto

    message = proto.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    kind = message.SentencePiece
    pieces = {id_: text for text, (id_, _) in piece_scores(file.state["model"]).items()}
    added = {id_: text for text, id_ in file.added.items()}
    for id_, score in enumerate(found.scores):
        text = added.get(id_, pieces.get(id_, f"\0{id_}"))
        sort = kind.CONTROL if id_ in added or id_ not in pieces else kind.BYTE if is_byte_piece(text) else kind.NORMAL
        message.pieces.add(piece=text, score=score, type=kind.UNKNOWN if text == file.unknown else sort)
    message.trainer_spec.model_type = message.trainer_spec.BPE
    message.trainer_spec.byte_fallback = True
    message.trainer_spec.unk_piece = file.unknown or "<unk>"
    message.normalizer_spec.name = "identity"
    message.normalizer_spec.add_dummy_prefix = bool(found.prefix_space)
    message.normalizer_spec.remove_extra_whitespaces = False
    return SentencePieceProcessor(model_proto=message.SerializeToString())
