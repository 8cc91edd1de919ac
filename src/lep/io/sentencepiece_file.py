"""Read SentencePiece `.model` files as a tokenizer.json, and write them with other pieces.

SentencePiece merges, of all neighbors that join into a piece, those whose piece has the highest score. A tokenizer.json
lists merges instead; both are equal when the list has every way to make a piece, the highest-scored piece first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lep.core.token_bytes import SPIECE_UNDERLINE, is_byte_piece
from lep.errors import TokenizerError
from lep.io.model_folder import read_json

TokenizerJson = dict[str, Any]
"""A parsed tokenizer.json."""

SENTENCEPIECE_FILE = "tokenizer.model"


def read_sentencepiece(file: Path) -> TokenizerJson:
    """Read a SentencePiece file as a tokenizer.json: pieces, normalizer, decoder and post-processor.

    The post-processor follows `add_bos_token` (default true) and `add_eos_token` (default false) of the
    tokenizer_config.json in the same folder.

    Args:
        file: a `tokenizer.model`.

    Returns:
        The equivalent tokenizer.json.

    Raises:
        TokenizerError: it is not a SentencePiece model, or marks spaces after words (`treat_whitespace_as_suffix`).
    """
    message = _parse_model_proto(file)
    if message.trainer_spec.treat_whitespace_as_suffix:
        raise TokenizerError(f"{file}: marks spaces after words, not before; this is not supported")
    control = (message.SentencePiece.UNKNOWN, message.SentencePiece.CONTROL, message.SentencePiece.USER_DEFINED)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": p.piece, **flags, "special": p.type != message.SentencePiece.USER_DEFINED}
        for i, p in enumerate(message.pieces)
        if p.type in control
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _build_normalizer(message),
        "pre_tokenizer": None,
        "post_processor": _build_post_processor(file, message),
        "decoder": _build_decoder(message),
        "model": _build_model(message),
    }


def read_special_tokens(file: Path) -> dict[str, str]:
    """Return `bos_token`, `eos_token` and `unk_token` of a SentencePiece file; none of them for a tiktoken file."""
    if is_tiktoken_file(file):
        return {}
    message = _parse_model_proto(file)
    spec = message.trainer_spec
    ids = {"bos_token": spec.bos_id, "eos_token": spec.eos_id, "unk_token": spec.unk_id}
    return {name: message.pieces[id_].piece for name, id_ in ids.items() if id_ >= 0}


def is_tiktoken_file(file: Path) -> bool:
    """Return whether a `tokenizer.model` is a tiktoken file: lines of `base64 rank`, not a protobuf message."""
    with file.open("rb") as stream:
        first = stream.readline(4096).split()
    return len(first) == 2 and first[1].isdigit()


def write_sentencepiece(source: Path, target: Path, *, tokenizer_json: TokenizerJson) -> None:
    """Write a SentencePiece file with the settings of `source` and the pieces of a tokenizer.json.

    Args:
        source: the base's file; its normalizer and control pieces are kept.
        target: the file to write.
        tokenizer_json: a SentencePiece-style tokenizer.json without unused ids.
    """
    message = _parse_model_proto(source)
    piece_type = type(message).SentencePiece
    types = {piece.piece: piece.type for piece in message.pieces}
    added = {item["id"]: item for item in tokenizer_json["added_tokens"]}
    scores = compute_piece_scores(tokenizer_json["model"])
    texts = {id_: text for text, (id_, _) in scores.items()} | {id_: item["content"] for id_, item in added.items()}
    del message.pieces[:]
    for id_ in range(len(texts)):
        text = texts[id_]
        kind = piece_type.BYTE if is_byte_piece(text) else piece_type.NORMAL
        if id_ in added:
            kind = types.get(text, piece_type.CONTROL if added[id_]["special"] else piece_type.USER_DEFINED)
        message.pieces.add(piece=text, score=0.0 if id_ in added else scores[text][1], type=kind)
    unigram = tokenizer_json["model"].get("type") == "Unigram"
    message.trainer_spec.model_type = message.trainer_spec.UNIGRAM if unigram else message.trainer_spec.BPE
    message.trainer_spec.vocab_size = len(texts)
    target.write_bytes(message.SerializeToString())


def build_merges_from_scores(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return every way to make a piece from two pieces, the highest-scored piece first."""
    ranked = sorted((text for text in scores if len(text) > 1), key=lambda text: -scores[text])
    splits = ((text[:at], text[at:]) for text in ranked for at in range(1, len(text)))
    return [(left, right) for left, right in splits if left in scores and right in scores]


def _parse_model_proto(file: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2 as proto

    message = proto.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        message.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's error class moves between versions
        raise TokenizerError(f"{file}: neither a SentencePiece model nor a tiktoken file ({error})") from None
    return message


def _build_model(message: Any) -> TokenizerJson:
    pieces = [(piece.piece, piece.score) for piece in message.pieces]
    fallback, unknown = message.trainer_spec.byte_fallback, message.trainer_spec.unk_id
    if message.trainer_spec.model_type == message.trainer_spec.UNIGRAM:
        return {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": fallback}
    normal = {p.piece: p.score for p in message.pieces if p.type == message.SentencePiece.NORMAL}
    model = {"type": "BPE", "unk_token": pieces[unknown][0], "fuse_unk": True, "byte_fallback": fallback}
    return model | {
        "vocab": {text: i for i, (text, _) in enumerate(pieces)},
        "merges": build_merges_from_scores(normal),
    }


def _build_normalizer(message: Any) -> TokenizerJson:
    spec = message.normalizer_spec
    parts: list[TokenizerJson] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        parts.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        parts.append({"type": "Strip", "strip_left": True, "strip_right": True})
        parts.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if spec.add_dummy_prefix:
        parts.append({"type": "Prepend", "prepend": SPIECE_UNDERLINE})
    parts.append({"type": "Replace", "pattern": {"String": " "}, "content": SPIECE_UNDERLINE})
    return {"type": "Sequence", "normalizers": parts}


def _build_decoder(message: Any) -> TokenizerJson:
    parts: list[TokenizerJson] = [{"type": "Replace", "pattern": {"String": SPIECE_UNDERLINE}, "content": " "}]
    parts += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if message.normalizer_spec.add_dummy_prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}


def _build_post_processor(file: Path, message: Any) -> TokenizerJson | None:
    config = file.parent / "tokenizer_config.json"
    settings = read_json(config) if config.exists() else {}
    begin, end = message.trainer_spec.bos_id, message.trainer_spec.eos_id
    prefix = [begin] if begin >= 0 and settings.get("add_bos_token", True) else []
    suffix = [end] if end >= 0 and settings.get("add_eos_token", False) else []
    if not prefix and not suffix:
        return None
    names = {id_: message.pieces[id_].piece for id_ in (*prefix, *suffix)}

    def template(sequence: str, type_id: int) -> list[TokenizerJson]:
        special = [[{"SpecialToken": {"id": names[i], "type_id": type_id}} for i in ids] for ids in (prefix, suffix)]
        return [*special[0], {"Sequence": {"id": sequence, "type_id": type_id}}, *special[1]]

    tokens = {name: {"id": name, "ids": [id_], "tokens": [name]} for id_, name in names.items()}
    pair = template("A", 0) + template("B", 1)
    return {"type": "TemplateProcessing", "single": template("A", 0), "pair": pair, "special_tokens": tokens}


def compute_piece_scores(model: TokenizerJson) -> dict[str, tuple[int, float]]:
    """Return (id, score) of every piece; in a BPE model the score is minus the rank of its first merge."""
    if model.get("type") == "Unigram":
        return {text: (id_, score) for id_, (text, score) in enumerate(model["vocab"])}
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault(merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge), rank)
    last = len(model["merges"])
    scores = {text: 0.0 if is_byte_piece(text) else -float(ranks.get(text, last)) for text in model["vocab"]}
    return {text: (id_, scores[text]) for text, id_ in model["vocab"].items()}
