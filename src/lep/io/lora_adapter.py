"""Read a LoRA adapter as peft saves it, on its base model; tensors are read on access."""

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
from lep.io.safetensors_files import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, Checkpoint, read_header
from lep.io.weight_delta import LowRankFactors, WeightDelta

ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"

_MERGE_REMEDY = (
    "merge it with peft first: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)"
)

_ADAPTER_KEY_PATTERN = re.compile(
    r"(?P<module>.+?)(\.token_adapter)?"
    r"\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|trainable_tokens_delta)(\.default)?(\.weight)?"
)
"""Raw training checkpoints also contain the name of the adapter, `default`."""

_MODULES_TO_SAVE = ".modules_to_save."

_BASE_PRESERVING_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base unchanged; pissa, olora, corda, loftq … subtract from it."""

_ALLOWED_SETTINGS = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config "
    "exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config "
    "lora_alpha lora_dropout lora_ga_config megatron_core modules_to_save peft_type peft_version qalora_group_size r "
    "rank_pattern revision runtime_config target_modules task_type trainable_token_indices use_rslora".split()
)
"""Settings that are read here, or only concern training; all others must be unset."""

_CONV1D_MODEL_TYPES = ("gpt2", "openai-gpt")
"""Families whose layers are stored in × out. peft, too, decides by the class of the layer, not by fan_in_fan_out."""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter and the model that it was trained on: the merged model."""

    folder: Path
    base: ModelFolder
    deltas: Mapping[str, WeightDelta]
    """By the name of the base's tensor; tied embeddings by the name of `embed`."""

    def get_tensor(self, name: str) -> Tensor:
        """Return a weight of the merged model in the base's dtype; memory-mapped where it is unchanged."""
        weight = self.base.checkpoint.get_tensor(name)
        return self.deltas[name].merge(weight) if name in self.deltas else weight

    def get_delta(self, name: str) -> Tensor | None:
        """Return what the adapter adds to a weight, or `None`: a `DeltaFunction`."""
        return self.deltas[name].compute_delta(self.base.checkpoint.get_tensor(name)) if name in self.deltas else None

    def merged_embeddings(self) -> dict[str, Tensor]:
        """Compute `embed`, and `head` unless tied, of the merged model."""
        return {key: self.get_tensor(name) for key, name in self.base.stored_embedding_names.items()}


def is_adapter(folder: Path) -> bool:
    """Return whether a folder is an adapter; a full model may keep the adapter_config.json of one merged into it.

    Args:
        folder: a model folder or an adapter.

    Returns:
        Whether it has an adapter_config.json and no full model.

    Raises:
        CheckpointError: the folder has the weights of a model and of an adapter.
    """
    has_model = (folder / SAFE_WEIGHTS_NAME).exists() or (folder / SAFE_WEIGHTS_INDEX_NAME).exists()
    if has_model and (folder / ADAPTER_SAFE_WEIGHTS_NAME).exists():
        raise CheckpointError(
            f"{folder}: holds a model and the adapter {ADAPTER_SAFE_WEIGHTS_NAME}; move one to a folder of its own"
        )
    return (folder / ADAPTER_CONFIG_NAME).exists() and not has_model


def open_adapter(folder: Path, *, base: ModelFolder) -> LoraAdapter:
    """Read an adapter's settings and tensor headers, and find the base's tensor for each of its tensors.

    Args:
        folder: the adapter.
        base: the model that it was trained on.

    Returns:
        The merged model; no weight is read.

    Raises:
        CheckpointError: the adapter is not plain LoRA with full modules (modules_to_save, biases) and rows of single
            tokens; its weights are pickled; a tensor is missing, fits no tensor of the base, or has another shape; its
            embeddings differ in their number of rows; or it changes tied embeddings differently.
    """
    reader = _AdapterReader(
        settings=_read_adapter_config(folder / ADAPTER_CONFIG_NAME), weights=_open_adapter_weights(folder), base=base
    )
    keys_by_tensor: dict[str, dict[str, str]] = {}
    for key in reader.weights.entries:
        if ".original_module." in key:
            continue  # embeddings before training, which peft saves for resized ones
        parts, part = keys_by_tensor.setdefault(reader.find_base_tensor(key), {}), _parse_adapter_key(key)[1]
        if part in parts and (part != "full" or _MODULES_TO_SAVE not in key + parts[part]):
            raise CheckpointError(
                f"{folder / ADAPTER_SAFE_WEIGHTS_NAME}: {parts[part]!r} and {key!r} are the same tensor of the base"
            )
        if part not in parts or _MODULES_TO_SAVE in key:
            parts[part] = key
    if not keys_by_tensor:
        raise CheckpointError(f"{folder / ADAPTER_SAFE_WEIGHTS_NAME}: holds no tensor; save the adapter again")
    reader.check_modules_saved()
    deltas = {name: reader.build_delta(name, parts=parts) for name, parts in keys_by_tensor.items()}
    deltas = reader.merge_tied(deltas) if base.tied else deltas
    reader.check_embedding_rows(deltas)
    return LoraAdapter(folder=folder, base=base, deltas=deltas)


def _read_adapter_config(path: Path) -> dict[str, Any]:
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: peft_type is {settings.get('peft_type')!r}, expected 'LORA'; {_MERGE_REMEDY}")
    init = settings.get("init_lora_weights")
    if init not in _BASE_PRESERVING_INITS:
        raise CheckpointError(f"{path}: init_lora_weights {init!r} changes the base's own weights; {_MERGE_REMEDY}")
    if unknown := [key for key, value in settings.items() if value and key not in _ALLOWED_SETTINGS]:
        raise CheckpointError(
            f"{path}: {unknown[0]} is {settings[unknown[0]]!r}, which is not plain LoRA; {_MERGE_REMEDY}"
        )
    for key, expected, is_valid in _SETTING_TYPES:
        if not is_valid(settings.get(key)):
            raise CheckpointError(f"{path}: {key} is {settings.get(key)!r}, expected {expected}")
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _is_pattern_dict(value: object) -> bool:
    try:
        return not value or all(re.compile(key) and _is_number(number) for key, number in value.items())  # type: ignore
    except (re.error, AttributeError, TypeError):
        return False


def _is_name_list(value: object) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(name, str) for name in value))


_SETTING_TYPES: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
    ("r", "a number", _is_number),
    ("lora_alpha", "a number", _is_number),
    ("rank_pattern", "numbers by patterns of module names", _is_pattern_dict),
    ("alpha_pattern", "numbers by patterns of module names", _is_pattern_dict),
    ("modules_to_save", "a list of names", _is_name_list),
)


def _open_adapter_weights(folder: Path) -> Checkpoint:
    path = folder / ADAPTER_SAFE_WEIGHTS_NAME
    if not path.exists():
        reason = f"{ADAPTER_SAFE_WEIGHTS_NAME} is absent"
        if (folder / "adapter_model.bin").exists():
            reason = "holds pickled weights only, which can run code and are not read"
        raise CheckpointError(
            f"{folder}: {reason}; load the adapter with peft and save it with save_pretrained(folder)"
        )
    return Checkpoint(folder=folder, entries=read_header(path), shards=(path,))


def _parse_adapter_key(key: str) -> tuple[str, str]:
    """Return the module of a key and the part it stores; for a `full` tensor its own name instead of its module's."""
    name = key.removeprefix("base_model.model.")
    if match := _ADAPTER_KEY_PATTERN.fullmatch(name):
        return match["module"], match["part"]
    return re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", name), "full"


@dataclass(frozen=True)
class _AdapterReader:
    """Interprets the tensors of an adapter by its settings and its base."""

    settings: Mapping[str, Any]
    weights: Checkpoint
    base: ModelFolder

    def find_base_tensor(self, key: str) -> str:
        """Find the base's tensor: by its name, by the same words in another order, or by a unique suffix.

        Names of modules and of stored tensors differ by a prefix such as `model.` or `language_model.`; the suffix
        always contains the number of the layer.

        Args:
            key: name of a tensor of the adapter.

        Returns:
            The name of the base's tensor.

        Raises:
            CheckpointError: no tensor of the base fits, or several do.
        """
        module, part = _parse_adapter_key(key)
        words = [*module.split("."), *([] if part == "full" else ["weight"])]
        known = {*self.base.checkpoint.entries, self.base.embedding_names.head}
        if (name := ".".join(words)) in known:
            return name
        last = next((i - 1 for i, word in enumerate(words) if word.isdigit()), len(words) - 2)
        suffixes = iter(["." + ".".join(words[start:]) for start in range(max(last, 0) + 1)])
        matches = [name for name in known if sorted(name.split(".")) == sorted(words)]
        while not matches and (suffix := next(suffixes, None)):
            matches = [name for name in known if f".{name}".endswith(suffix)]
        if len(matches) == 1:
            return matches[0]
        reason = f"fits several: {', '.join(sorted(matches))}" if matches else f"fits no tensor of {self.base.path}"
        raise CheckpointError(
            f"{self.weights.shards[0]}: {key!r} {reason}; was it trained on that base? If so, {_MERGE_REMEDY}"
        )

    def build_delta(self, name: str, *, parts: Mapping[str, str]) -> WeightDelta:
        """Return the delta of the tensor `name` from the adapter's tensors `parts`, after checking their shapes."""
        entries, embeddings = self.base.checkpoint.entries, self.base.embedding_names
        is_embedding = name in (embeddings.embed, embeddings.head)
        shape = entries[name if name in entries else embeddings.embed].shape
        if replacement := parts.get("full"):
            new_shape = self.weights.entries[replacement].shape
            self.check_shape(replacement, expected=new_shape[:1] + shape[1:] if is_embedding else shape)
            shape = new_shape
        ids: tuple[int, ...] = ()
        if rows := parts.get("trainable_tokens_delta"):
            ids = self.get_trainable_token_ids(_parse_adapter_key(rows)[0], num_embeddings=shape[0])
            self.check_shape(rows, expected=(len(ids), *shape[1:]))
        is_conv1d = self.base.config.get("model_type") in _CONV1D_MODEL_TYPES and not is_embedding
        low_rank = self.build_low_rank(parts, shape=shape, is_conv1d=is_conv1d)
        return WeightDelta(
            self.weights, shape=shape, replacement=replacement, low_rank=low_rank, token_rows=rows, token_ids=ids
        )

    def build_low_rank(
        self, parts: Mapping[str, str], *, shape: tuple[int, ...], is_conv1d: bool
    ) -> LowRankFactors | None:
        """Return the low-rank factors of a tensor with their scale; `None` where the adapter has none.

        The scale is alpha/r (LoRA, arXiv 2106.09685, section 4.1) or alpha/√r (rsLoRA, arXiv 2312.03732).

        Args:
            parts: names of the adapter's tensors for this tensor, by part.
            shape: of the tensor.
            is_conv1d: whether it is stored in × out.

        Returns:
            The factors.

        Raises:
            CheckpointError: the tensor is not a matrix, a factor is missing, or a shape does not fit.
        """
        factors = [key for part, key in parts.items() if part.startswith("lora_")]
        if not factors:
            return None
        is_embedding = "lora_embedding_A" in parts
        a, b = (parts.get(("lora_embedding_" if is_embedding else "lora_") + end) for end in "AB")
        if len(shape) != 2:
            raise CheckpointError(f"{self.weights.shards[0]}: {factors[0]!r} is for a matrix, but fits one of {shape}")
        if a is None or b is None or len(factors) != 2:
            raise CheckpointError(f"{self.weights.shards[0]}: {factors[0]!r} lacks its partner; save the adapter again")
        rank = self.get_module_setting(a, "rank_pattern", "r")
        alpha = self.get_module_setting(a, "alpha_pattern", "lora_alpha")
        transposed = is_embedding or is_conv1d
        out_features, in_features = reversed(shape) if transposed else shape
        self.check_shape(a, expected=(rank, in_features))
        self.check_shape(b, expected=(out_features, rank))
        scale = alpha / (sqrt(rank) if self.settings.get("use_rslora") else rank)
        return LowRankFactors(a, b, scale=scale, transposed=transposed)

    def get_module_setting(self, key: str, patterns: str, default: str) -> float:
        """Return a setting that may differ by module.

        Args:
            key: name of a tensor of the adapter.
            patterns: the setting with values by pattern of module names.
            default: the setting with the value for all other modules.

        Returns:
            The value for the tensor's module.
        """
        module, values = _parse_adapter_key(key)[0], self.settings.get(patterns) or {}
        matches = (value for pattern, value in values.items() if re.match(rf"(.*\.)?({pattern})$", module))
        return next(matches, self.settings[default])

    def get_trainable_token_ids(self, module: str, *, num_embeddings: int) -> tuple[int, ...]:
        """Return the ids of trained rows: a list belongs to the input embedding, a dict has ids by module.

        Args:
            module: name of the module.
            num_embeddings: its number of rows.

        Returns:
            The ids, in the order of the stored rows.

        Raises:
            CheckpointError: an id is outside the matrix.
        """
        ids = self.settings.get("trainable_token_indices") or ()
        if isinstance(ids, dict):
            ids = next((module_ids for name, module_ids in ids.items() if f".{module}".endswith(f".{name}")), ())
        if any(not 0 <= id_ < num_embeddings for id_ in ids):
            raise CheckpointError(
                f"{self.weights.folder / ADAPTER_CONFIG_NAME}: trainable_token_indices goes up to {max(ids)}, "
                f"{module} has {num_embeddings} rows; was it trained on {self.base.path}?"
            )
        return tuple(ids)

    def check_shape(self, key: str, *, expected: tuple[float, ...]) -> None:
        """Raise `CheckpointError` unless the adapter's tensor has the expected shape."""
        if (shape := self.weights.entries[key].shape) != expected:
            raise CheckpointError(
                f"{self.weights.shards[0]}: {key!r} has shape {shape}, expected {expected}; was it trained on "
                f"{self.base.path}? If so, {_MERGE_REMEDY}"
            )

    def check_modules_saved(self) -> None:
        """Raise `CheckpointError` when a module of modules_to_save is in the base but not in the adapter's file."""
        for module in self.settings.get("modules_to_save") or ():
            files = (self.base.checkpoint.entries, self.weights.entries)
            in_base, is_saved = (any(f".{module}." in f".{name}" for name in names) for names in files)
            if in_base and not is_saved:
                raise CheckpointError(
                    f"{self.weights.shards[0]}: holds no {module!r}, which {ADAPTER_CONFIG_NAME} names in "
                    "modules_to_save; save the adapter again"
                )

    def check_embedding_rows(self, deltas: Mapping[str, WeightDelta]) -> None:
        """Raise `CheckpointError` when only one embedding got more rows: peft does not save a head without training."""
        stored = self.base.stored_embedding_names.values()
        rows = {name: deltas.get(name, self.base.checkpoint.entries[name]).shape[0] for name in stored}
        if len(set(rows.values())) > 1:
            raise CheckpointError(
                f"{self.weights.shards[0]}: the embeddings would have {' and '.join(map(str, rows.values()))} rows "
                f"({', '.join(rows)}); merge it where it was trained, or train with both in modules_to_save"
            )

    def merge_tied(self, deltas: Mapping[str, WeightDelta]) -> dict[str, WeightDelta]:
        """Return the deltas with that of tied embeddings once: peft saves their token rows once, all else twice.

        Args:
            deltas: by the base's tensor names.

        Returns:
            The deltas without that of the head.

        Raises:
            CheckpointError: the deltas of both embeddings differ.
        """
        names = self.base.embedding_names
        embed, head = deltas.get(names.embed), deltas.get(names.head)
        is_single = head is None and (embed is None or (embed.replacement is None and embed.low_rank is None))
        if is_single or (embed and head and _are_equal(embed, head)):
            return {name: delta for name, delta in deltas.items() if name != names.head}
        raise CheckpointError(
            f"{self.weights.shards[0]}: changes {names.embed!r} and {names.head!r} differently, which {self.base.path} "
            "keeps as one matrix; train with ensure_weight_tying=True, or on untied embeddings"
        )


def _are_equal(first: WeightDelta, second: WeightDelta) -> bool:
    parts, other_parts = first.components(), second.components()
    return len(parts) == len(other_parts) and all(map(torch.equal, parts, other_parts))
