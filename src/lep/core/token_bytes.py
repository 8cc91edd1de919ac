"""Convert tokens between the strings of tokenizer files and their bytes.

Tokenizer files escape the bytes of a token as a string, in one of two schemes, which are undone here exactly:
`byte_level` (GPT-2, Llama-3, Qwen, SmolLM): every byte is one printable character;
`sentencepiece` (Llama-2, Mistral, Gemma): `▁` is a space and `<0xNN>` is one byte.
Added and special tokens are literal text; tiktoken files store bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

Scheme = Literal["byte_level", "sentencepiece"]

SPIECE_UNDERLINE = "▁"
_BYTE_PIECE_PATTERN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def build_byte_alphabet() -> dict[str, int]:
    """Return the 256 characters of byte-level vocabularies and the byte of each.

    Printable Latin-1 characters are their own bytes; the other bytes, in order, are U+0100 and following. Source:
    Radford et al. 2019 (GPT-2), `bytes_to_unicode`.

    Returns:
        Byte by character.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_CHARACTER_TO_BYTE = build_byte_alphabet()
_BYTE_TO_CHARACTER = {byte: character for character, byte in _CHARACTER_TO_BYTE.items()}


def decode_byte_level(token_string: str) -> bytes:
    """Return the bytes of a byte-level token.

    Args:
        token_string: the token as a byte-level vocabulary stores it.

    Returns:
        Its bytes.

    Raises:
        ValueError: a character is not in the byte-level alphabet.
    """
    try:
        return bytes(_CHARACTER_TO_BYTE[character] for character in token_string)
    except KeyError as error:
        raise ValueError(f"{token_string!r} holds {error.args[0]!r}, which is not in the byte-level alphabet") from None


def encode_byte_level(token: bytes) -> str:
    """Return the string of these bytes in a byte-level vocabulary: the inverse of `decode_byte_level`."""
    return "".join(_BYTE_TO_CHARACTER[byte] for byte in token)


def is_byte_piece(token_string: str) -> bool:
    """Return whether a SentencePiece token is a fallback byte, `<0x00>` … `<0xFF>`."""
    return _BYTE_PIECE_PATTERN.fullmatch(token_string) is not None


def decode_sentencepiece(token_string: str) -> bytes:
    """Return the bytes of a SentencePiece token: one byte for a fallback byte, else UTF-8 with `▁` as the space."""
    if piece := _BYTE_PIECE_PATTERN.fullmatch(token_string):
        return bytes([int(piece[1], 16)])
    return token_string.replace(SPIECE_UNDERLINE, " ").encode()


TOKEN_DECODERS: dict[Scheme, Callable[[str], bytes]] = {
    "byte_level": decode_byte_level,
    "sentencepiece": decode_sentencepiece,
}


def split_utf8_runs(token: bytes) -> Iterator[tuple[bytes, bool]]:
    """Split bytes into maximal runs of valid UTF-8 (True) and single invalid bytes (False).

    A token may begin or end inside a character, so its bytes need not be valid UTF-8.

    Args:
        token: any bytes.

    Yields:
        A run, and whether it is valid UTF-8.
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
