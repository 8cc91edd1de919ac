"""A Hugging Face model folder, written: new tables, a new tokenizer, and everything else carried over untouched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lep.io.model import ModelFolder, read_json, write_json
from lep.io.sentencepiece_files import SENTENCEPIECE, State, special_names
from lep.io.tensors import FLOATS, INDEX, read_header, rewrite_shard

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files of a model folder that describe its tokenizer."""

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""How transformers calls special tokens."""

COMPOSED_ROWS = "composed_rows.json"
"""In an initialized model's folder: ids of the rows that are means of pieces, for `pretrain lr_old_rows=`."""

LEP_FILES = ("manifest.json", ".work", COMPOSED_ROWS)
"""Files of a model folder that belong to the artifact, not to the model."""


def copy_with_tables(source: ModelFolder, target: Path, *, rows: int) -> dict[str, Tensor]:
    """Copy a model folder, with room for tables of `rows` rows; returns them, to be filled in place.

    Shards that hold no table are hard-linked (copied across file systems); a shard with a table is rewritten, its other
    tensors byte for byte. The configuration gets the new `vocab_size`. The tokenizer is left out: write the new one.

    Args:
        source: the model whose everything else is kept.
        target: an existing folder, without weights.
        rows: of both tables.
    """
    entries = source.checkpoint.entries
    names = {"embed": source.names.embed} | ({} if source.tied else {"head": source.names.head})
    tables: dict[str, Tensor] = {}
    for shard in source.checkpoint.shards:
        inside = {room: name for room, name in names.items() if entries[name].shard == shard}
        (target / shard.name).unlink(missing_ok=True)
        if not inside:
            _link(shard, target / shard.name)
            continue
        shapes = {name: (rows, entries[name].shape[1]) for name in inside.values()}
        views = rewrite_shard(shard, target / shard.name, replaced=shapes)
        tables |= {room: views[name] for room, name in inside.items()}
    _copy_index(source, target)
    _copy_side_files(source, target)
    write_json(target / "config.json", _with_vocabulary(source.config, rows))
    return tables


def copy_model(source: ModelFolder, target: Path) -> dict[str, Tensor]:
    """Copy a model folder whole, tokenizer too; returns its float tensors, to be overwritten in place."""
    for item in source.path.iterdir():
        if item.is_file() and item.name not in LEP_FILES and item not in source.checkpoint.shards:
            shutil.copyfile(item, target / item.name)
    tensors: dict[str, Tensor] = {}
    for shard in source.checkpoint.shards:
        (target / shard.name).unlink(missing_ok=True)
        inside = (item for item in source.checkpoint.entries.items() if item[1].shard == shard)
        shapes = {name: entry.shape for name, entry in inside if entry.dtype in FLOATS}
        tensors |= rewrite_shard(shard, target / shard.name, replaced=shapes)
    return tensors


def copy_tokenizer(source: Path, target: Path, *, state: State | None = None) -> None:
    """Copy a folder's tokenizer files; with `state`, that is its tokenizer.json, and stale ones are left out."""
    stale = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
    for name in TOKENIZER_FILES:
        if (source / name).exists() and not (state and name in stale):
            shutil.copyfile(source / name, target / name)
    if state:
        (target / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        settings = read_json(target / "tokenizer_config.json") if (target / "tokenizer_config.json").exists() else {}
        for key in ("backend", "is_local", "local_files_only", "auto_map", "added_tokens_decoder"):
            settings.pop(key, None)
        if isinstance(settings.get("extra_special_tokens"), list):  # transformers 5's name, which 4 cannot read
            settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
        # The one class that loads a tokenizer.json as it is, in transformers 4 and 5.
        write_json(target / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


def name_special_tokens(source: Path, target: Path) -> None:
    """Complete tokenizer_config.json and special_tokens_map.json of `target`.

    A bare SentencePiece file names its begin, end and unknown tokens itself; a tokenizer_config.json goes before it.
    """
    model = source / SENTENCEPIECE
    names = special_names(model) if model.exists() else {}
    settings = names | read_json(target / "tokenizer_config.json")
    write_json(target / "tokenizer_config.json", settings)
    if not (target / "special_tokens_map.json").exists():
        special = {key: token for key, token in settings.items() if key in SPECIAL_NAMES and token}
        write_json(target / "special_tokens_map.json", special)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _copy_index(source: ModelFolder, target: Path) -> None:
    """The index keeps its map, since tensors stay in their shards; only the total size changes."""
    if not (source.path / INDEX).exists():
        return
    index = read_json(source.path / INDEX)
    headers = (read_header(target / shard.name) for shard in source.checkpoint.shards)
    total = sum(entry.end - entry.begin for header in headers for entry in header.values())
    write_json(target / INDEX, index | {"metadata": index.get("metadata", {}) | {"total_size": total}})


def _copy_side_files(source: ModelFolder, target: Path) -> None:
    """Generation settings, licence, model card …: small files that are neither weights, tokenizer nor lep's own."""
    skip = {*TOKENIZER_FILES, *LEP_FILES, "config.json", INDEX}
    for item in source.path.iterdir():
        if item.is_file() and item.name not in skip and item.suffix in (".json", ".txt", ".md", ".jinja", ""):
            shutil.copyfile(item, target / item.name)


def _with_vocabulary(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    changed = dict(config) | {"vocab_size": rows}
    if isinstance(config.get("text_config"), dict):
        changed["text_config"] = config["text_config"] | {"vocab_size": rows}
    return changed
