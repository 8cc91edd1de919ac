"""Ids in configuration files that name tokens, in the numbering of another vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.errors import TokenizerError
from lep.io.families import TEXT_CONFIGS
from lep.io.model_folder import read_json, write_json
from lep.io.tokenizer_file import TokenizerFile

CONFIGURATIONS = ("config.json", "generation_config.json")

_NAMES_TOKENS = re.compile(r"(.*_)?token_(id|ids|index)|(begin_)?suppress_tokens|(bad|force)_words_ids")

_MARK = re.compile(r"(?!(bos|eos|pad)_).*token_(id|index)")
"""Of these a configuration may carry its class's default, though the model has no such token."""


@dataclass(frozen=True)
class _Numbering:
    """Old id → new id; ids from `beyond` on are in neither vocabulary."""

    ids: Mapping[int, int]
    beyond: int


def renumber(folder: Path, *, old: TokenizerFile, new: TokenizerFile) -> None:
    """Rewrite the token ids of a model folder's configurations: same tokens, new numbers.

    The id of a mark, such as an image's, stays when it is beyond both vocabularies; one that begins, ends or pads a
    text may not be.

    Raises:
        TokenizerError: an id that is no token of the old vocabulary, or one that the new vocabulary lacks.
    """
    numbering = _Numbering(_new_ids(old, new), beyond=max(len(old.vocabulary), len(new.vocabulary)))
    for name in CONFIGURATIONS:
        if (folder / name).exists():
            write_json(folder / name, _renumbered(read_json(folder / name), numbering, place=f"{name} of {old.path}"))


def _renumbered(config: Mapping[str, Any], numbering: _Numbering, *, place: str) -> dict[str, Any]:
    changed = dict(config)
    for key, value in config.items():
        if key in TEXT_CONFIGS and isinstance(value, Mapping):
            changed[key] = _renumbered(value, numbering, place=f"{key} in {place}")
        if _NAMES_TOKENS.fullmatch(key):
            changed[key] = _other(value, numbering, place=f"{key} in {place}", needed=not _MARK.fullmatch(key))
    return changed


def _other(value: Any, numbering: _Numbering, *, place: str, needed: bool) -> Any:
    if isinstance(value, list):
        return [_other(item, numbering, place=place, needed=needed) for item in value]
    if value is None or isinstance(value, bool) or value == -1:  # some write -1 for none
        return value
    if not isinstance(value, int):
        raise TokenizerError(f"{place}: {value!r} is no id; expected a whole number, correct it there")
    if value in numbering.ids:
        return numbering.ids[value]
    if value >= numbering.beyond and not needed:
        return value
    raise TokenizerError(f"{place}: {value} is no token, or one that the new vocabulary lacks; correct it there")


def _new_ids(old: TokenizerFile, new: TokenizerFile) -> dict[int, int]:
    """Old id → new id, for the tokens that both have: of the same bytes and sort, else of the same bytes."""
    entries = list(enumerate(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True)))
    exact = {key: id_ for id_, key in reversed(entries)}
    by_bytes = {token: id_ for id_, (token, _) in reversed(entries) if token}
    keys = enumerate(zip(old.vocabulary.tokens, old.vocabulary.kinds, strict=True))
    found = ((id_, exact.get(key, by_bytes.get(key[0]))) for id_, key in keys if key[0])
    return {id_: place for id_, place in found if place is not None}
