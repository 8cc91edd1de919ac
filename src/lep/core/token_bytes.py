"""The bytes that a token stands for, for every way in which tokenizer files store tokens.

A token *is* its bytes. Files store it as a string in one of two disguises, undone here exactly:
`byte_level` (GPT-2, Llama-3, Qwen, SmolLM): every byte is one printable character;
`sentencepiece` (Llama-2, Mistral, Gemma): `▁` is a space and `<0xNN>` is one byte.
Added and special tokens stand for their literal text; tiktoken files hold the bytes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

Scheme = Literal["byte_level", "sentencepiece"]

SPACE = "▁"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """The 256 characters of byte-level vocabularies and the byte that each stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for U+0100 and on.

    Source: Radford et al. 2019 (GPT-2), the byte-to-character table that its vocabulary is written in.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = byte_alphabet()
_CHARACTER_OF = {byte: character for character, byte in _BYTE_OF.items()}


def byte_level_bytes(stored: str) -> bytes:
    """Bytes of a byte-level token; `ValueError` when a character is outside the alphabet."""
    try:
        return bytes(_BYTE_OF[character] for character in stored)
    except KeyError as error:
        raise ValueError(f"{stored!r} holds {error.args[0]!r}, which is not in the byte-level alphabet") from None


def byte_level_string(token: bytes) -> str:
    """How a byte-level vocabulary stores these bytes: the inverse of `byte_level_bytes`."""
    return "".join(_CHARACTER_OF[byte] for byte in token)


def is_byte_piece(stored: str) -> bool:
    """Whether a SentencePiece token is a byte of the fallback alphabet, `<0x00>` … `<0xFF>`."""
    return _BYTE_PIECE.fullmatch(stored) is not None


def sentencepiece_bytes(stored: str) -> bytes:
    """Bytes of a SentencePiece token: one byte for a byte piece, else UTF-8 with `▁` as the space."""
    if piece := _BYTE_PIECE.fullmatch(stored):
        return bytes([int(piece[1], 16)])
    return stored.replace(SPACE, " ").encode()


BYTES_OF: dict[Scheme, Callable[[str], bytes]] = {
    "byte_level": byte_level_bytes,
    "sentencepiece": sentencepiece_bytes,
}


def utf8_runs(token: bytes) -> Iterator[tuple[bytes, bool]]:
    """Split bytes into maximal runs that are valid UTF-8 (True) and stray bytes, one by one (False).

    A token may begin or end inside a character, so its bytes need not be text as a whole.
    """
    start = 0
    while start < len(token):
        try:
            token[start:].decode()
            yield token[start:], True
            return
        except UnicodeDecodeError as error:
            if error.start:
                yield token[start : start + error.start], True
            yield token[start + error.start : start + error.start + 1], False
            start += error.start + 1
