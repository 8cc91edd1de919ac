"""Open a Hugging Face model folder: its configuration, its tensors, and which of them are the embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from lep.errors import CheckpointError
from lep.io.families import (
    EMBED_NAME_PATTERN,
    FAMILIES,
    HEAD_NAME_PATTERN,
    HIDDEN_SIZE_KEYS,
    TEXT_CONFIG_KEYS,
    EmbeddingNames,
    ModelFamily,
)
from lep.io.safetensors_files import FLOAT_DTYPES, Checkpoint, TensorInfo, have_same_bytes, open_checkpoint
from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix

_TIE_KEY = "tie_word_embeddings"


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk; weights are read on access."""

    path: Path
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    embedding_names: EmbeddingNames
    tied: bool
    """Whether one matrix is both the input and the output embedding."""

    @property
    def head_name(self) -> str:
        """Return the tensor name of the output embedding: that of `embed` when tied."""
        return self.embedding_names.embed if self.tied else self.embedding_names.head

    @property
    def duplicate_head_name(self) -> str | None:
        """Return the tensor name of a tied model's second copy of its embedding, which is not written again."""
        doubled = (
            self.tied
            and self.embedding_names.head != self.embedding_names.embed
            and self.embedding_names.head in self.checkpoint.entries
        )
        return self.embedding_names.head if doubled else None

    @property
    def stored_embedding_names(self) -> dict[str, str]:
        """Return the tensor names of `embed`, and of `head` unless tied."""
        return {"embed": self.embedding_names.embed} | ({} if self.tied else {"head": self.embedding_names.head})

    @property
    def text_config(self) -> Mapping[str, Any]:
        """Return the configuration of the text model, nested in that of a vision-language model."""
        return get_text_config(self.config)

    @property
    def vocab_size(self) -> int:
        """Return the configured `vocab_size`, else the number of rows of `embed`."""
        return self.text_config.get("vocab_size", self.checkpoint.entries[self.embedding_names.embed].shape[0])

    @property
    def max_position_embeddings(self) -> int | None:
        """Return the configured context length; `None` where there is none."""
        config = self.text_config
        return config.get("max_position_embeddings", config.get("n_positions"))

    @property
    def num_parameters(self) -> int:
        """Return the number of parameters; tied embeddings count once."""
        return sum(
            prod(entry.shape) for name, entry in self.checkpoint.entries.items() if name != self.duplicate_head_name
        )

    def embedding_matrix(self, name: str) -> StoredEmbeddingMatrix:
        """Return `embed` or `head`, which are the same rows when tied."""
        tensor = {"embed": self.embedding_names.embed, "head": self.head_name}[name]
        return StoredEmbeddingMatrix(self.checkpoint.get_float_info(tensor))

    def embedding_matrices(self) -> dict[str, StoredEmbeddingMatrix]:
        """Return `embed`, and `head` unless tied."""
        return {name: self.embedding_matrix(name) for name in self.stored_embedding_names}


def open_model(path: Path, *, embedding_names: EmbeddingNames | None = None) -> ModelFolder:
    """Read a model folder's configuration and tensor headers, and find its embeddings.

    Args:
        path: the folder.
        embedding_names: their tensor names, where neither the family nor names and shapes identify them.

    Returns:
        The model; no weight is read.

    Raises:
        CheckpointError: the path is a GGUF file or has no config.json; the embeddings cannot be identified or are
            quantized; the head is missing or differs from `embed` although the configuration says otherwise; the two
            have different shapes; or a third tensor has a row for each token.
    """
    _check_not_gguf(path)
    config = read_json(path / "config.json")
    checkpoint = open_checkpoint(path)
    if not isinstance(model_type := config.get("model_type") or "", str):
        raise CheckpointError(f"{path / 'config.json'}: model_type is {model_type!r}, expected a name")
    family = FAMILIES.get(model_type)
    if embedding_names:
        _check_named_embeddings(checkpoint, embedding_names)
    else:
        embedding_names = _find_by_family(checkpoint, family) or _find_by_shape(checkpoint, config)
    tied = _is_tied(checkpoint, config, embedding_names, default=family.tied_by_default if family else None)
    model = ModelFolder(path=path, config=config, checkpoint=checkpoint, embedding_names=embedding_names, tied=tied)
    _check_embeddings(model)
    return model


def get_text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the nested configuration of the text model, or `config` itself where none is nested."""
    return next((config[key] for key in TEXT_CONFIG_KEYS if isinstance(config.get(key), Mapping)), config)


def check_embedding_rows(model: ModelFolder, *, vocabulary_size: int) -> None:
    """Check that the model's embeddings have a row for each token of its tokenizer.

    Args:
        model: the model.
        vocabulary_size: number of token ids.

    Raises:
        CheckpointError: there are fewer rows than tokens.
    """
    for name, tensor in model.stored_embedding_names.items():
        if (rows := model.checkpoint.entries[tensor].shape[0]) < vocabulary_size:
            raise CheckpointError(
                f"{model.path}: {name} has {rows} rows for {vocabulary_size} tokens; is that its own tokenizer?"
            )


def find_stored_tensors(model: ModelFolder, parameter_names: Iterable[str]) -> dict[str, str]:
    """Map parameters of the loaded model to stored tensors of the same name, or of the name without its first part.

    Args:
        model: the model's folder.
        parameter_names: parameters of the model that transformers loads from it.

    Returns:
        The tensor name of each parameter.

    Raises:
        CheckpointError: a parameter has no tensor of its own: transformers made it of several.
    """
    tensors: dict[str, str] = {}
    for name in parameter_names:
        stored = next((key for key in (name, name.partition(".")[2]) if key in model.checkpoint.entries), None)
        if stored is None:
            raise CheckpointError(
                f"{model.path}: {name!r} is trainable, but no stored tensor has that name, so that its value could "
                "not be written; train fewer parameters"
            )
        tensors[name] = stored
    return tensors


def _check_not_gguf(path: Path) -> None:
    files = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf"))
    if files and not any(path.glob("*.safetensors")):
        raise CheckpointError(
            f"{files[0]}: a GGUF file, which is quantized and lacks a part of its tokenizer; use the folder with the "
            "model's config.json and safetensors, from which it was made"
        )


def _check_named_embeddings(checkpoint: Checkpoint, names: EmbeddingNames) -> None:
    for name in (names.embed, names.head):
        if name not in checkpoint.entries or len(checkpoint.entries[name].shape) != 2:
            raise CheckpointError(
                f"{checkpoint.folder}: no matrix {name!r}, which the setting `embedding_names` gives; "
                f"{_format_matrices(checkpoint)}; name one matrix twice where the embeddings are tied"
            )


def _find_by_family(checkpoint: Checkpoint, family: ModelFamily | None) -> EmbeddingNames | None:
    """Return the first names of the family that are stored."""
    for names in family.embedding_names if family else ():
        _check_not_quantized(checkpoint, names.embed)
        if names.embed in checkpoint.entries:
            return names
    return None


def _find_by_shape(checkpoint: Checkpoint, config: Mapping[str, Any]) -> EmbeddingNames:
    """Identify the embeddings by shape and name; a model without a head is tied."""
    text = get_text_config(config)
    rows, width = text.get("vocab_size") or 0, next((text[key] for key in HIDDEN_SIZE_KEYS if key in text), None)
    if not isinstance(rows, int):
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: vocab_size is {rows!r}, expected an integer")
    shaped = {
        name: entry
        for name, entry in checkpoint.entries.items()
        if len(entry.shape) == 2 and entry.shape[0] >= rows and width in (None, entry.shape[1])
    }
    heads = [name for name in shaped if HEAD_NAME_PATTERN.search(name)]
    embeds = [name for name in shaped if EMBED_NAME_PATTERN.search(name) and name not in heads]
    if len(embeds) == 1:
        same_shape = [name for name in shaped if shaped[name].shape == shaped[embeds[0]].shape]
        if len(heads) == 1 or (same_shape == embeds and False not in _read_tie_settings(config)):
            return EmbeddingNames(embed=embeds[0], head=(heads or embeds)[0])
    raise CheckpointError(
        f"{checkpoint.folder}: cannot identify the embeddings of model_type {config.get('model_type')!r}: expected, of "
        f"{rows} rows or more and {width or 'some'} columns, one matrix named like an embedding and one like a head; "
        f"{_format_matrices(checkpoint)}; name them in the setting `embedding_names: {{embed: …, head: …}}`"
    )


def _format_matrices(checkpoint: Checkpoint) -> str:
    """Return the six matrices with the most rows, for an error message."""
    matrices = [(-entry.shape[0], name) for name, entry in checkpoint.entries.items() if len(entry.shape) == 2]
    return "there are " + ", ".join(
        f"{name} {_format_shape(checkpoint.entries[name])}" for _, name in sorted(matrices)[:6]
    )


def _format_shape(entry: TensorInfo) -> str:
    return " × ".join(map(str, entry.shape))


def _read_tie_settings(config: Mapping[str, Any]) -> list[bool]:
    """Return `tie_word_embeddings` of the outer and the nested configuration; transformers follows the outer one."""
    return [level[_TIE_KEY] for level in (config, get_text_config(config)) if isinstance(level.get(_TIE_KEY), bool)]


def _is_tied(checkpoint: Checkpoint, config: Mapping[str, Any], names: EmbeddingNames, *, default: bool | None) -> bool:
    """Decide as transformers: equal embeddings are tied if the configuration says so, different ones never."""
    configured = _read_tie_settings(config)
    tied = configured[0] if configured else default
    if names.head == names.embed:
        return True
    if names.head not in checkpoint.entries:
        _check_not_quantized(checkpoint, names.head)
        if tied is False and True not in configured:
            raise CheckpointError(
                f"{checkpoint.folder}: config.json says untied embeddings, but there is no {names.head!r}; fetch the "
                f"files again, or set {_TIE_KEY} to true if that is meant"
            )
        return True
    if not tied or have_same_bytes(checkpoint.entries[names.embed], checkpoint.entries[names.head]):
        return bool(tied)
    if configured:
        raise CheckpointError(
            f"{checkpoint.folder}: config.json says tied embeddings, but {names.head!r} is not equal to "
            f"{names.embed!r}; transformers 5 uses both, other programs the latter alone: set {_TIE_KEY} to false, or "
            "remove the head"
        )
    return False


def _check_not_quantized(checkpoint: Checkpoint, name: str) -> None:
    """Raise `CheckpointError` when an embedding, or its quantized form (`lm_head.qweight`), is not a float tensor."""
    stem = name.removesuffix("weight")
    for part, entry in checkpoint.entries.items():
        if part.startswith(stem) and entry.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{entry.shard}: tensor {part!r} is stored as {entry.dtype}, expected {name!r} as one of "
                f"{', '.join(FLOAT_DTYPES)}; use the unquantized checkpoint"
            )


def _check_embeddings(model: ModelFolder) -> None:
    """Raise `CheckpointError` unless both embeddings have one float shape, and no third tensor a row per token."""
    entries, names = model.checkpoint.entries, model.stored_embedding_names.values()
    for name in names:
        _check_not_quantized(model.checkpoint, name)
    shapes = {entries[name].shape for name in names}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        listed = ", ".join(f"{name!r} ({_format_shape(entries[name])})" for name in names)
        raise CheckpointError(
            f"{model.path}: {listed}: expected matrices of one shape as embeddings; choose another model"
        )
    row_counts = {rows for rows, _ in shapes}
    sizes = row_counts | {
        size for key, size in model.text_config.items() if "vocab_size" in key and isinstance(size, int)
    }
    for name in entries.keys() - {model.embedding_names.embed, model.embedding_names.head}:
        if sizes.intersection(entries[name].shape[:1]) and (
            EMBED_NAME_PATTERN.search(name) or HEAD_NAME_PATTERN.search(name)
        ):
            raise CheckpointError(
                f"{entries[name].shard}: {name!r} ({_format_shape(entries[name])}) has vocabulary rows too, and lep "
                "changes two matrices; drop the multi-token-prediction layers that hold it, or choose another model"
            )


def nested_model_hint(folder: Path) -> str:
    """Return the end of a sentence that names a model folder inside this folder, or an empty string."""
    nested = min((config.parent for config in folder.glob("*/config.json")), default=None)
    return f", as {nested}" if nested else ""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        CheckpointError: the file is missing, cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: is not there; expected a Hugging Face model folder{nested_model_hint(path.parent)}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a file of a model folder") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); fetch the file again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object in the format of Hugging Face libraries."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
