"""A Hugging Face model folder, written: new tables, a new tokenizer, and everything else carried over untouched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from lep.errors import CheckpointError
from lep.io.families import TEXT_CONFIGS
from lep.io.model_card import CARD
from lep.io.model_folder import ModelFolder, read_json, write_json
from lep.io.safetensors_files import FLOATS, INDEX, Entry, read_header, view, write_shard
from lep.io.sentencepiece_file import SENTENCEPIECE, State, special_names
from lep.io.stored_rows import StoredRows

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

MORE_TEMPLATES = "additional_chat_templates"
"""Folder of the chat templates that have names."""

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""How transformers calls special tokens."""

COMPOSED_ROWS = "composed_rows.json"
"""In an initialized model's folder: ids of the rows that are means of pieces, for `pretrain`."""

TRAINING_LOG = "training.jsonl"
"""In the folder of a model that `pretrain` made: a line of JSON for each step and for each measurement."""

ANSWERS = "answers.jsonl"
"""In the folder of a model that `calibrate` made: what it learnt from, and what was dropped, with grades."""

LEP_FILES = ("manifest.json", ".work", COMPOSED_ROWS, TRAINING_LOG, ANSWERS)
"""Files of a model folder that belong to the artifact, not to the model."""


TABLES = "model-tables.safetensors"
"""The shard that the tables of an indexed model get for themselves."""

Link = Literal["hard", "copy"]
Values = Mapping[str, Callable[[], Tensor]]
"""New values of tensors, by name, each computed when it is written."""


@dataclass(frozen=True)
class Shard:
    """A file to write: tensors that are copied, and dtypes and shapes of tensors that are to be filled."""

    kept: Mapping[str, Entry]
    fresh: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def bytes(self) -> int:
        """What its tensors take."""
        copied = sum(entry.end - entry.begin for entry in self.kept.values())
        return copied + sum(prod(shape) * FLOATS[dtype].itemsize for dtype, shape in self.fresh.values())


@dataclass(frozen=True)
class Layout:
    """The weight files of a copy with other tables: what is linked, what is written."""

    source: ModelFolder
    names: Mapping[str, str]
    """Tensor names of `embed`, and of `head` unless it is the same matrix."""
    links: tuple[Path, ...]
    shards: Mapping[str, Shard]
    """By file name."""

    @property
    def bytes(self) -> int:
        """What will be written, links aside."""
        return sum(shard.bytes for shard in self.shards.values())


def lay_out(source: ModelFolder, *, rows: int, tied: bool | None = None, changed: Collection[str] = ()) -> Layout:
    """Plan a copy of a model with tables of `rows` rows.

    Shards without a table are linked. The tables of an indexed model get a shard of their own, and what stood beside
    them is written without them; a model of one file stays a model of one file.

    Args:
        source: the model.
        rows: of both tables.
        tied: whether one matrix is to be both; none: as in `source`.
        changed: other tensors that get new values, of the same shape.
    """
    entries = source.checkpoint.entries
    tied = source.tied if tied is None else tied
    names = {"embed": source.names.embed} | ({} if tied else {"head": source.names.head})
    if len(set(names.values())) < len(names):
        raise CheckpointError(
            f"{source.path}: its result needs a head of its own, and no name for one is known; give it in `tables`"
        )
    like = {"embed": entries[source.names.embed], "head": entries[source.head]}
    fresh = {names[room]: (like[room].dtype, (rows, like[room].shape[1])) for room in names}
    gone = {source.names.embed, source.names.head}
    links, shards = [], {}
    for file in source.checkpoint.shards:
        inside = {name: entry for name, entry in entries.items() if entry.shard == file}
        if inside.keys().isdisjoint(gone | {*changed}):
            links.append(file)
            continue
        kept = {name: entry for name, entry in inside.items() if name not in gone and name not in changed}
        new = {name: (inside[name].dtype, inside[name].shape) for name in inside if name in changed}
        if kept or new:
            shards[file.name] = Shard(kept, new)
    name = TABLES if (source.path / INDEX).exists() else source.checkpoint.shards[0].name
    beside = shards.get(name, Shard({}, {}))
    shards[name] = Shard(beside.kept, {**beside.fresh, **fresh})
    return Layout(source, names, tuple(links), shards)


def copy_with_tables(
    layout: Layout, target: Path, *, values: Values | None = None, link: Link = "hard"
) -> dict[str, StoredRows]:
    """Copy a model as planned; returns its tables, to be filled.

    All other tensors keep their bytes, but for those in `values`. The configuration gets the new `vocab_size`. The
    tokenizer is left out: write the new one.

    Args:
        layout: the plan.
        target: an existing folder; files of an interrupted copy in it are replaced.
        values: of the tensors that were planned as `changed`.
        link: `copy` makes files of their own of the shards that could be hard links, too.

    Raises:
        CheckpointError: too little space on the disk; nothing was written.
    """
    source = layout.source
    copied = layout.links if link == "copy" else ()
    _check_space(target, layout.bytes + sum(file.stat().st_size for file in copied))
    for file in (*layout.links, *map(Path, layout.shards)):
        (target / file.name).unlink(missing_ok=True)
    for file in layout.links:
        (shutil.copyfile if link == "copy" else _link)(file, target / file.name)
    places: dict[str, Entry] = {}
    for name, shard in layout.shards.items():
        places |= write_shard(target / name, kept=shard.kept, fresh=shard.fresh)
    for name, value in (values or {}).items():
        view(places[name], writable=True).copy_(value())
    _write_index(layout, target)
    _copy_side_files(source, target)
    tables = {room: StoredRows(places[name]) for room, name in layout.names.items()}
    write_json(target / "config.json", _with_tables(source.config, rows=len(tables["embed"]), untied=_unties(layout)))
    return tables


def copy_tokenizer(source: Path, target: Path, *, state: State | None = None) -> None:
    """Copy a folder's tokenizer files; with `state`, that is its tokenizer.json, and stale ones are left out."""
    stale = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
    for name in TOKENIZER_FILES:
        if (source / name).exists() and not (state and name in stale):
            shutil.copyfile(source / name, target / name)
    if (source / MORE_TEMPLATES).is_dir():
        shutil.copytree(source / MORE_TEMPLATES, target / MORE_TEMPLATES, dirs_exist_ok=True)
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


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target).free
    if free < size:
        raise CheckpointError(
            f"{target}: {size / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free; make room, or give "
            "another out="
        )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _write_index(layout: Layout, target: Path) -> None:
    """The index names every tensor's file, and no tensor that is gone: loaders read whatever a listed file holds."""
    if not (layout.source.path / INDEX).exists():
        return
    files = [*(file.name for file in layout.links), *layout.shards]
    headers = {file: read_header(target / file) for file in files}
    places = {name: file for file, header in headers.items() for name in header}
    total = sum(entry.end - entry.begin for header in headers.values() for entry in header.values())
    index = read_json(layout.source.path / INDEX)
    metadata = index["metadata"] if isinstance(index.get("metadata"), Mapping) else {}
    changed = {"metadata": {**metadata, "total_size": total}, "weight_map": dict(sorted(places.items()))}
    write_json(target / INDEX, index | changed)


def _copy_side_files(source: ModelFolder, target: Path) -> None:
    """Generation settings, licence …: small files that are neither weights, tokenizer nor lep's own, nor the card."""
    skip = {*TOKENIZER_FILES, *LEP_FILES, "config.json", INDEX, CARD}
    for item in source.path.iterdir():
        if item.is_file() and item.name not in skip and item.suffix in (".json", ".txt", ".md", ".jinja", ""):
            shutil.copyfile(item, target / item.name)


def _unties(layout: Layout) -> bool:
    return layout.source.tied and len(layout.names) > 1


def _with_tables(config: Mapping[str, Any], *, rows: int, untied: bool) -> dict[str, Any]:
    """The configuration of tables of other height and, where a tied model gets two of them, untied."""
    new: dict[str, Any] = {"vocab_size": rows} | ({"tie_word_embeddings": False} if untied else {})
    nested = next((key for key in TEXT_CONFIGS if isinstance(config.get(key), Mapping)), None)
    if nested is None:
        return {**config, **new}
    outer = {key: value for key, value in new.items() if key in config or key == "tie_word_embeddings"}
    return {**config, nested: {**config[nested], **new}, **outer}
