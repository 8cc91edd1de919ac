"""Token ids in configuration files: rewrite them for another vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.errors import TokenizerError
from lep.io.families import TEXT_CONFIG_KEYS
from lep.io.model_folder import read_json, write_json
from lep.io.tokenizer_file import TokenizerFile

CONFIG_FILES = ("config.json", "generation_config.json")

_TOKEN_ID_KEY_PATTERN = re.compile(r"(.*_)?token_(id|ids|index)|(begin_)?suppress_tokens|(bad|force)_words_ids")

_OPTIONAL_TOKEN_ID_KEY_PATTERN = re.compile(r"(?!(bos|eos|pad)_).*token_(id|index)")
"""Keys that may hold the default of the configuration class although the model has no such token."""


@dataclass(frozen=True)
class _TokenIdMap:
    """Old id → new id; ids from `id_limit` on are in neither vocabulary."""

    new_ids: Mapping[int, int]
    id_limit: int


def remap_token_ids(folder: Path, *, old: TokenizerFile, new: TokenizerFile) -> None:
    """Rewrite the token ids of a model folder's configurations: same tokens, new ids.

    The id of a placeholder, such as an image token, is kept when it is beyond both vocabularies; tokens that begin, end
    or pad a text must be in the new vocabulary.

    Args:
        folder: a model folder, whose config.json and generation_config.json are rewritten.
        old: the tokenizer to which the ids belong.
        new: the tokenizer that the folder gets.

    Raises:
        TokenizerError: an id is not a token of the old vocabulary, or the new vocabulary lacks its token.
    """
    id_map = _TokenIdMap(_map_token_ids(old, new), id_limit=max(len(old.vocabulary), len(new.vocabulary)))
    for name in CONFIG_FILES:
        if (folder / name).exists():
            remapped = _remap_config(read_json(folder / name), id_map, location=f"{name} of {old.path}")
            write_json(folder / name, remapped)


def _remap_config(config: Mapping[str, Any], id_map: _TokenIdMap, *, location: str) -> dict[str, Any]:
    changed = dict(config)
    for key, value in config.items():
        if key in TEXT_CONFIG_KEYS and isinstance(value, Mapping):
            changed[key] = _remap_config(value, id_map, location=f"{key} in {location}")
        if _TOKEN_ID_KEY_PATTERN.fullmatch(key):
            required = not _OPTIONAL_TOKEN_ID_KEY_PATTERN.fullmatch(key)
            changed[key] = _remap_value(value, id_map, location=f"{key} in {location}", required=required)
    return changed


def _remap_value(value: Any, id_map: _TokenIdMap, *, location: str, required: bool) -> Any:
    if isinstance(value, list):
        return [_remap_value(item, id_map, location=location, required=required) for item in value]
    if value is None or isinstance(value, bool) or value == -1:  # some configurations write -1 for `None`
        return value
    if not isinstance(value, int):
        raise TokenizerError(f"{location}: {value!r} is not a token id; expected an integer, correct it there")
    if value in id_map.new_ids:
        return id_map.new_ids[value]
    if value >= id_map.id_limit and not required:
        return value
    raise TokenizerError(f"{location}: no token has id {value}, or the new vocabulary lacks it; correct it there")


def _map_token_ids(old: TokenizerFile, new: TokenizerFile) -> dict[int, int]:
    """Return old id → new id of the tokens in both: of the same bytes and kind, else of the same bytes."""
    entries = list(enumerate(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True)))
    exact = {key: id_ for id_, key in reversed(entries)}
    by_bytes = {token: id_ for id_, (token, _) in reversed(entries) if token}
    keys = enumerate(zip(old.vocabulary.tokens, old.vocabulary.kinds, strict=True))
    matches = ((id_, exact.get(key, by_bytes.get(key[0]))) for id_, key in keys if key[0])
    return {id_: new_id for id_, new_id in matches if new_id is not None}
