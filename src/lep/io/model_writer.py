"""Write a Hugging Face model folder with new embeddings and a new tokenizer; everything else is copied unchanged."""

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
from lep.io.families import TEXT_CONFIG_KEYS
from lep.io.model_card import MODEL_CARD_FILE
from lep.io.model_folder import ModelFolder, read_json, write_json
from lep.io.safetensors_files import (
    FLOAT_DTYPES,
    SAFE_WEIGHTS_INDEX_NAME,
    TensorInfo,
    mmap_tensor,
    read_header,
    write_shard,
)
from lep.io.sentencepiece_file import SENTENCEPIECE_FILE, TokenizerJson, read_special_tokens
from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix

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

CHAT_TEMPLATE_DIR = "additional_chat_templates"
"""Folder of named chat templates."""

SPECIAL_TOKENS_ATTRIBUTES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens of tokenizer_config.json, by the names of transformers."""

COMPOSED_ROWS_FILE = "composed_rows.json"
"""In an initialized model's folder: ids of the rows that are means of several old rows, for `pretrain`."""

TRAINING_LOG_FILE = "training.jsonl"
"""In the folder of a pretrained model: a line of JSON for each step and each validation."""

ANSWERS_FILE = "answers.jsonl"
"""In the folder of a calibrated model: the answers that it was trained on and those dropped, with scores."""

LEP_FILES = ("manifest.json", ".work", COMPOSED_ROWS_FILE, TRAINING_LOG_FILE, ANSWERS_FILE)
"""Files of a model folder that belong to the artifact, not to the model."""

EMBEDDINGS_SHARD = "model-embeddings.safetensors"
"""The shard that holds only the embeddings of an indexed model."""

LinkMode = Literal["hard", "copy"]
LazyTensors = Mapping[str, Callable[[], Tensor]]
"""Functions that compute new values of tensors, by name; called when the tensor is written."""


@dataclass(frozen=True)
class ShardPlan:
    """A file to write: tensors to copy, and dtypes and shapes of tensors to fill."""

    copied: Mapping[str, TensorInfo]
    allocated: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def size_bytes(self) -> int:
        """Return the size of its tensors."""
        copied = sum(entry.end - entry.begin for entry in self.copied.values())
        return copied + sum(prod(shape) * FLOAT_DTYPES[dtype].itemsize for dtype, shape in self.allocated.values())


@dataclass(frozen=True)
class ModelCopyPlan:
    """The weight files of a copy with other embeddings: which are linked, which are written."""

    source: ModelFolder
    embedding_names: Mapping[str, str]
    """Tensor names of `embed`, and of `head` unless tied."""
    linked_shards: tuple[Path, ...]
    shards: Mapping[str, ShardPlan]
    """By file name."""

    @property
    def bytes_to_write(self) -> int:
        """Return the size of all written tensors, without linked files."""
        return sum(shard.size_bytes for shard in self.shards.values())


def plan_model_copy(
    source: ModelFolder, *, num_embeddings: int, tied: bool | None = None, changed_tensors: Collection[str] = ()
) -> ModelCopyPlan:
    """Plan a copy of a model with embeddings of `num_embeddings` rows.

    Shards without embeddings are linked. The embeddings of an indexed model get their own shard, and the shards that
    held them are written without them; a model of one file stays a model of one file.

    Args:
        source: the model.
        num_embeddings: rows of the input and the output embedding.
        tied: whether the copy's embeddings are tied; `None`: as in `source`.
        changed_tensors: other tensors that get new values, of the same shape.

    Returns:
        The plan; nothing is written.

    Raises:
        CheckpointError: a model tied by name is to be untied, so that no name for its head is known.
    """
    entries = source.checkpoint.entries
    tied = source.tied if tied is None else tied
    names = {"embed": source.embedding_names.embed} | ({} if tied else {"head": source.embedding_names.head})
    if len(set(names.values())) < len(names):
        raise CheckpointError(
            f"{source.path}: the result needs a head of its own, whose tensor name is unknown; give it in "
            "`embedding_names`"
        )
    like = {"embed": entries[source.embedding_names.embed], "head": entries[source.head_name]}
    embeddings = {names[key]: (like[key].dtype, (num_embeddings, like[key].shape[1])) for key in names}
    replaced = {source.embedding_names.embed, source.embedding_names.head}
    links, shards = [], {}
    for file in source.checkpoint.shards:
        stored = {name: entry for name, entry in entries.items() if entry.shard == file}
        if stored.keys().isdisjoint(replaced | {*changed_tensors}):
            links.append(file)
            continue
        copied = {name: entry for name, entry in stored.items() if name not in replaced and name not in changed_tensors}
        changed = {name: (stored[name].dtype, stored[name].shape) for name in stored if name in changed_tensors}
        if copied or changed:
            shards[file.name] = ShardPlan(copied, changed)
    is_indexed = (source.path / SAFE_WEIGHTS_INDEX_NAME).exists()
    file_name = EMBEDDINGS_SHARD if is_indexed else source.checkpoint.shards[0].name
    shard = shards.get(file_name, ShardPlan({}, {}))
    shards[file_name] = ShardPlan(shard.copied, {**shard.allocated, **embeddings})
    return ModelCopyPlan(source, names, tuple(links), shards)


def write_model_copy(
    plan: ModelCopyPlan, target: Path, *, new_tensors: LazyTensors | None = None, link: LinkMode = "hard"
) -> dict[str, StoredEmbeddingMatrix]:
    """Copy a model as planned, without its tokenizer; the configuration gets the new `vocab_size`.

    Args:
        plan: the plan.
        target: an existing folder; files of an interrupted copy in it are replaced.
        new_tensors: values of the planned `changed_tensors`; all others keep their bytes.
        link: `hard` links the unchanged shards where the file system can; `copy` copies them.

    Returns:
        The embeddings by name (`embed`, `head`), to be filled.

    Raises:
        CheckpointError: the disk has too little space; nothing was written.
    """
    source = plan.source
    copied = plan.linked_shards if link == "copy" else ()
    _check_disk_space(target, plan.bytes_to_write + sum(file.stat().st_size for file in copied))
    for file in (*plan.linked_shards, *map(Path, plan.shards)):
        (target / file.name).unlink(missing_ok=True)
    for file in plan.linked_shards:
        (shutil.copyfile if link == "copy" else _link_or_copy)(file, target / file.name)
    allocated: dict[str, TensorInfo] = {}
    for name, shard in plan.shards.items():
        allocated |= write_shard(target / name, copied=shard.copied, allocated=shard.allocated)
    for name, compute in (new_tensors or {}).items():
        mmap_tensor(allocated[name], writable=True).copy_(compute())
    _write_index(plan, target)
    _copy_side_files(source, target)
    embeddings = {key: StoredEmbeddingMatrix(allocated[name]) for key, name in plan.embedding_names.items()}
    is_untied = source.tied and len(plan.embedding_names) > 1
    config = _update_config(source.config, vocab_size=len(embeddings["embed"]), untied=is_untied)
    write_json(target / "config.json", config)
    return embeddings


def copy_tokenizer(source: Path, target: Path, *, tokenizer_json: TokenizerJson | None = None) -> None:
    """Copy the tokenizer files of a model folder.

    Args:
        source: a folder with a tokenizer.
        target: an existing folder.
        tokenizer_json: replaces the tokenizer.json; files that it makes stale are not copied, and
            tokenizer_config.json gets a class that loads it in transformers 4 and 5.
    """
    stale = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
    for name in TOKENIZER_FILES:
        if (source / name).exists() and not (tokenizer_json and name in stale):
            shutil.copyfile(source / name, target / name)
    if (source / CHAT_TEMPLATE_DIR).is_dir():
        shutil.copytree(source / CHAT_TEMPLATE_DIR, target / CHAT_TEMPLATE_DIR, dirs_exist_ok=True)
    if tokenizer_json:
        (target / "tokenizer.json").write_text(json.dumps(tokenizer_json, ensure_ascii=False), encoding="utf-8")
        settings = read_json(target / "tokenizer_config.json") if (target / "tokenizer_config.json").exists() else {}
        for key in ("backend", "is_local", "local_files_only", "auto_map", "added_tokens_decoder"):
            settings.pop(key, None)
        if isinstance(settings.get("extra_special_tokens"), list):  # transformers 5's name, which 4 cannot read
            settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
        write_json(target / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


def write_special_token_names(source: Path, target: Path) -> None:
    """Add missing special tokens to the tokenizer_config.json and special_tokens_map.json of `target`.

    Args:
        source: the base's folder, whose SentencePiece file may name its begin, end and unknown tokens; the
            tokenizer_config.json of `target` takes precedence.
        target: a folder with a tokenizer_config.json.
    """
    model = source / SENTENCEPIECE_FILE
    names = read_special_tokens(model) if model.exists() else {}
    settings = names | read_json(target / "tokenizer_config.json")
    write_json(target / "tokenizer_config.json", settings)
    if not (target / "special_tokens_map.json").exists():
        special = {key: token for key, token in settings.items() if key in SPECIAL_TOKENS_ATTRIBUTES and token}
        write_json(target / "special_tokens_map.json", special)


def _check_disk_space(target: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(target).free
    if free < num_bytes:
        raise CheckpointError(
            f"{target}: {num_bytes / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free; make room, or "
            "give another out="
        )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _write_index(plan: ModelCopyPlan, target: Path) -> None:
    """Write the index anew from the headers: loaders read all tensors of every listed file."""
    if not (plan.source.path / SAFE_WEIGHTS_INDEX_NAME).exists():
        return
    files = [*(file.name for file in plan.linked_shards), *plan.shards]
    headers = {file: read_header(target / file) for file in files}
    weight_map = {name: file for file, header in headers.items() for name in header}
    total = sum(entry.end - entry.begin for header in headers.values() for entry in header.values())
    index = read_json(plan.source.path / SAFE_WEIGHTS_INDEX_NAME)
    metadata = index["metadata"] if isinstance(index.get("metadata"), Mapping) else {}
    changed = {"metadata": {**metadata, "total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(target / SAFE_WEIGHTS_INDEX_NAME, index | changed)


def _copy_side_files(source: ModelFolder, target: Path) -> None:
    """Copy small files (generation settings, license …) other than weights, tokenizer, card and lep's own."""
    skip = {*TOKENIZER_FILES, *LEP_FILES, "config.json", SAFE_WEIGHTS_INDEX_NAME, MODEL_CARD_FILE}
    for item in source.path.iterdir():
        if item.is_file() and item.name not in skip and item.suffix in (".json", ".txt", ".md", ".jinja", ""):
            shutil.copyfile(item, target / item.name)


def _update_config(config: Mapping[str, Any], *, vocab_size: int, untied: bool) -> dict[str, Any]:
    """Return the configuration with another `vocab_size` and, if untied, without `tie_word_embeddings`."""
    new: dict[str, Any] = {"vocab_size": vocab_size} | ({"tie_word_embeddings": False} if untied else {})
    nested = next((key for key in TEXT_CONFIG_KEYS if isinstance(config.get(key), Mapping)), None)
    if nested is None:
        return {**config, **new}
    outer = {key: value for key, value in new.items() if key in config or key == "tie_word_embeddings"}
    return {**config, nested: {**config[nested], **new}, **outer}
