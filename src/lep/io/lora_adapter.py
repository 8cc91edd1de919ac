"""A LoRA adapter as peft saves it, over its base: a model of which no tensor is read before it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lep.errors import CheckpointError
from lep.io.model_folder import ModelFolder, read_json
from lep.io.safetensors_files import INDEX, SINGLE, Checkpoint, read_header
from lep.io.weight_delta import Change, LowRank

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_REMEDY = (
    "merge it with peft first: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)"
)

_KEY = re.compile(
    r"(?P<module>.+?)(\.token_adapter)?"
    r"\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|trainable_tokens_delta)(\.default)?(\.weight)?"
)
"""A raw training checkpoint also names the adapter: `default`."""

_TRAINED = ".modules_to_save."

_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base as it is; pissa, olora, corda, loftq … move a part out of it."""

_ALLOWED = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config "
    "exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config "
    "lora_alpha lora_dropout lora_ga_config megatron_core modules_to_save peft_type peft_version qalora_group_size r "
    "rank_pattern revision runtime_config target_modules task_type trainable_token_indices use_rslora".split()
)
"""Settings that are read here, or say only how the adapter was trained; any other must be off."""

_IN_OUT = ("gpt2", "openai-gpt")
"""Families whose layers are stored in × out. peft too goes by the layer's class, whatever fan_in_fan_out says."""


@dataclass(frozen=True)
class Adapter:
    """An adapter and the model that it was trained on: together, the merged model."""

    folder: Path
    base: ModelFolder
    changes: Mapping[str, Change]
    """By the name of the base's tensor; tied tables stand under the name of `embed`."""

    def tensor(self, name: str) -> Tensor:
        """A weight of the merged model, in the base's dtype; memory-mapped where the adapter leaves it."""
        weight = self.base.checkpoint.tensor(name)
        return self.changes[name].merged(weight) if name in self.changes else weight

    def delta(self, name: str) -> Tensor | None:
        """What the adapter adds to a weight: this method is a `Changes`."""
        return self.changes[name].delta(self.base.checkpoint.tensor(name)) if name in self.changes else None

    def tables(self) -> dict[str, Tensor]:
        """`embed`, and `head` unless it is the same matrix, of the merged model; computed at each call."""
        return {table: self.tensor(name) for table, name in self.base.stored.items()}


def is_adapter(folder: Path) -> bool:
    """Whether a folder is an adapter; a whole model may keep the settings of one that was merged into it.

    Raises:
        CheckpointError: it holds the weights of both, so that it cannot be told which is meant.
    """
    whole = (folder / SINGLE).exists() or (folder / INDEX).exists()
    if whole and (folder / WEIGHTS).exists():
        raise CheckpointError(f"{folder}: holds a model and the adapter {WEIGHTS}; move one to a folder of its own")
    return (folder / SETTINGS).exists() and not whole


def open_adapter(folder: Path, *, base: ModelFolder) -> Adapter:
    """Read an adapter's settings and tensor headers, and find the tensor of the base that each belongs to.

    Raises:
        CheckpointError: anything but plain LoRA, whole modules (modules_to_save, biases) and rows of single tokens;
            pickled weights; a tensor for which the base has no place, which does not fit it, or which is missing; two
            tables of different heights; tables that the base ties and the adapter changes differently.
    """
    reader = _Reader(settings=_read_settings(folder / SETTINGS), weights=_open_weights(folder), base=base)
    found: dict[str, dict[str, str]] = {}
    for key in reader.weights.entries:
        if ".original_module." in key:
            continue  # what a table was before it was trained; peft saves it of resized tables
        parts, part = found.setdefault(reader.target(key), {}), _module_and_part(key)[1]
        if part in parts and (part != "whole" or _TRAINED not in key + parts[part]):
            raise CheckpointError(f"{folder / WEIGHTS}: {parts[part]!r} and {key!r} are the same tensor of the base")
        if part not in parts or _TRAINED in key:
            parts[part] = key
    if not found:
        raise CheckpointError(f"{folder / WEIGHTS}: holds no tensor; save the adapter again")
    reader.check_saved()
    changes = {name: reader.change(name, parts=parts) for name, parts in found.items()}
    changes = reader.tied(changes) if base.tied else changes
    reader.check_heights(changes)
    return Adapter(folder=folder, base=base, changes=changes)


def _read_settings(path: Path) -> dict[str, Any]:
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: peft_type is {settings.get('peft_type')!r}, expected 'LORA'; {_REMEDY}")
    start = settings.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise CheckpointError(f"{path}: init_lora_weights {start!r} changes the base's own weights; {_REMEDY}")
    if strange := [key for key, value in settings.items() if value and key not in _ALLOWED]:
        raise CheckpointError(f"{path}: {strange[0]} is {settings[strange[0]]!r}, which is not plain LoRA; {_REMEDY}")
    for key, expected, holds in _TYPES:
        if not holds(settings.get(key)):
            raise CheckpointError(f"{path}: {key} is {settings.get(key)!r}, expected {expected}")
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _is_patterns(value: object) -> bool:
    try:
        return not value or all(re.compile(key) and _is_number(number) for key, number in value.items())  # type: ignore
    except (re.error, AttributeError, TypeError):
        return False


def _is_names(value: object) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(name, str) for name in value))


_TYPES: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
    ("r", "a number", _is_number),
    ("lora_alpha", "a number", _is_number),
    ("rank_pattern", "numbers by patterns of module names", _is_patterns),
    ("alpha_pattern", "numbers by patterns of module names", _is_patterns),
    ("modules_to_save", "a list of names", _is_names),
)


def _open_weights(folder: Path) -> Checkpoint:
    path = folder / WEIGHTS
    if not path.exists():
        pickled = (folder / "adapter_model.bin").exists()
        why = "holds pickled weights only, which can run code and are not read" if pickled else f"{WEIGHTS} is absent"
        raise CheckpointError(f"{folder}: {why}; load the adapter with peft and save it with save_pretrained(folder)")
    return Checkpoint(folder=folder, entries=read_header(path), shards=(path,))


def _module_and_part(key: str) -> tuple[str, str]:
    """The module that a key belongs to, and as what; a whole tensor's own name instead of its module's."""
    name = key.removeprefix("base_model.model.")
    if match := _KEY.fullmatch(name):
        return match["module"], match["part"]
    return re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", name), "whole"


@dataclass(frozen=True)
class _Reader:
    """The three things that say what an adapter's tensor means."""

    settings: Mapping[str, Any]
    weights: Checkpoint
    base: ModelFolder

    def target(self, key: str) -> str:
        """The base's tensor: the very name, the same words in another order, or the only one with its ending.

        Names of modules and of stored tensors differ by what stands before the layers, such as `model.` or
        `language_model.`; a layer's number is never cut off.
        """
        module, part = _module_and_part(key)
        words = [*module.split("."), *([] if part == "whole" else ["weight"])]
        known = {*self.base.checkpoint.entries, self.base.names.head}
        if (name := ".".join(words)) in known:
            return name
        last = next((at - 1 for at, word in enumerate(words) if word.isdigit()), len(words) - 2)
        endings = iter(["." + ".".join(words[cut:]) for cut in range(max(last, 0) + 1)])
        found = [name for name in known if sorted(name.split(".")) == sorted(words)]
        while not found and (ending := next(endings, None)):
            found = [name for name in known if f".{name}".endswith(ending)]
        if len(found) == 1:
            return found[0]
        why = f"fits several: {', '.join(sorted(found))}" if found else f"fits no tensor of {self.base.path}"
        raise CheckpointError(f"{self.weights.shards[0]}: {key!r} {why}; was it trained on that base? If so, {_REMEDY}")

    def change(self, name: str, *, parts: Mapping[str, str]) -> Change:
        """What the tensors `parts` do to the tensor `name`; their shapes must fit."""
        entries, is_table = self.base.checkpoint.entries, name in (self.base.names.embed, self.base.names.head)
        shape = entries[name if name in entries else self.base.names.embed].shape
        if whole := parts.get("whole"):
            own = self.weights.entries[whole].shape
            self.check_shape(whole, expected=own[:1] + shape[1:] if is_table else shape)
            shape = own
        ids: tuple[int, ...] = ()
        if rows := parts.get("trainable_tokens_delta"):
            ids = self.token_ids(_module_and_part(rows)[0], rows=shape[0])
            self.check_shape(rows, expected=(len(ids), *shape[1:]))
        in_out = self.base.config.get("model_type") in _IN_OUT and not is_table
        low_rank = self.low_rank(parts, shape=shape, in_out=in_out)
        return Change(self.weights, shape=shape, whole=whole, low_rank=low_rank, rows=rows, ids=ids)

    def low_rank(self, parts: Mapping[str, str], *, shape: tuple[int, ...], in_out: bool) -> LowRank | None:
        """The factors, and alpha/r (arXiv 2106.09685, §4.1) or alpha/√r (rsLoRA, arXiv 2312.03732) of the module."""
        factors = [key for part, key in parts.items() if part.startswith("lora_")]
        if not factors:
            return None
        table = "lora_embedding_A" in parts
        a, b = (parts.get(("lora_embedding_" if table else "lora_") + end) for end in "AB")
        if len(shape) != 2:
            raise CheckpointError(f"{self.weights.shards[0]}: {factors[0]!r} is for a matrix, but fits one of {shape}")
        if a is None or b is None or len(factors) != 2:
            raise CheckpointError(f"{self.weights.shards[0]}: {factors[0]!r} lacks its partner; save the adapter again")
        rank, alpha = self.of_module(a, "rank_pattern", "r"), self.of_module(a, "alpha_pattern", "lora_alpha")
        transposed = table or in_out
        out, into = reversed(shape) if transposed else shape
        self.check_shape(a, expected=(rank, into))
        self.check_shape(b, expected=(out, rank))
        scale = alpha / (sqrt(rank) if self.settings.get("use_rslora") else rank)
        return LowRank(a, b, scale=scale, transposed=transposed)

    def of_module(self, key: str, patterns: str, default: str) -> float:
        """A setting that may differ by module."""
        module, given = _module_and_part(key)[0], self.settings.get(patterns) or {}
        found = (value for pattern, value in given.items() if re.match(rf"(.*\.)?({pattern})$", module))
        return next(found, self.settings[default])

    def token_ids(self, module: str, *, rows: int) -> tuple[int, ...]:
        """Of the module's own rows: a list is meant for the input table, a dict names the modules."""
        given = self.settings.get("trainable_token_indices") or ()
        if isinstance(given, dict):
            given = next((ids for name, ids in given.items() if f".{module}".endswith(f".{name}")), ())
        if any(not 0 <= id_ < rows for id_ in given):
            raise CheckpointError(
                f"{self.weights.folder / SETTINGS}: trainable_token_indices goes up to {max(given)}, "
                f"{module} has {rows} rows; was it trained on {self.base.path}?"
            )
        return tuple(given)

    def check_shape(self, key: str, *, expected: tuple[float, ...]) -> None:
        """`CheckpointError` unless the adapter's tensor has that shape."""
        if (found := self.weights.entries[key].shape) != expected:
            raise CheckpointError(
                f"{self.weights.shards[0]}: {key!r} has shape {found}, expected {expected}; was it trained on "
                f"{self.base.path}? If so, {_REMEDY}"
            )

    def check_saved(self) -> None:
        """`CheckpointError` when a module of the base that was trained whole is not in the adapter's file."""
        for module in self.settings.get("modules_to_save") or ():
            places = (self.base.checkpoint.entries, self.weights.entries)
            known, saved = (any(f".{module}." in f".{name}" for name in names) for names in places)
            if known and not saved:
                raise CheckpointError(
                    f"{self.weights.shards[0]}: holds no {module!r}, which {SETTINGS} names in modules_to_save; "
                    "save the adapter again"
                )

    def check_heights(self, changes: Mapping[str, Change]) -> None:
        """`CheckpointError` when tokens were added to one table alone: peft leaves a head that learnt nothing out."""
        stored = self.base.stored.values()
        rows = {name: changes.get(name, self.base.checkpoint.entries[name]).shape[0] for name in stored}
        if len(set(rows.values())) > 1:
            raise CheckpointError(
                f"{self.weights.shards[0]}: the tables would have {' and '.join(map(str, rows.values()))} rows "
                f"({', '.join(rows)}); merge it where it was trained, or train with both in modules_to_save"
            )

    def tied(self, changes: Mapping[str, Change]) -> dict[str, Change]:
        """The changes of both tables as one: peft saves rows of tied tables once, and all else twice."""
        embed, head = (changes.get(name) for name in (self.base.names.embed, self.base.names.head))
        once = head is None and (embed is None or (embed.whole is None and embed.low_rank is None))
        if once or (embed and head and _equal(embed, head)):
            return {name: change for name, change in changes.items() if name != self.base.names.head}
        raise CheckpointError(
            f"{self.weights.shards[0]}: changes {self.base.names.embed!r} and {self.base.names.head!r} differently, "
            f"which {self.base.path} keeps as one matrix; train with ensure_weight_tying=True, or on untied tables"
        )


def _equal(one: Change, other: Change) -> bool:
    ours, theirs = one.parts(), other.parts()
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))
