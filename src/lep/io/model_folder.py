"""A Hugging Face model folder as it lies on disk: its configuration, its tensors, and which of them are the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from lep.errors import CheckpointError
from lep.io.families import FAMILIES, LIKE_EMBED, LIKE_HEAD, TEXT_CONFIGS, WIDTHS, Family, TableNames
from lep.io.safetensors_files import FLOATS, Checkpoint, Entry, open_checkpoint, same_bytes
from lep.io.stored_rows import StoredRows

_TIE = "tie_word_embeddings"


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk; no weight is read before it is asked for."""

    path: Path
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    names: TableNames
    tied: bool
    """Whether one matrix is both tables."""

    @property
    def head(self) -> str:
        """The tensor that is the head: that of `embed` when tied."""
        return self.names.embed if self.tied else self.names.head

    @property
    def duplicate_head(self) -> str | None:
        """A tied model's second copy of its table, which is left out of what is written."""
        doubled = self.tied and self.names.head != self.names.embed and self.names.head in self.checkpoint.entries
        return self.names.head if doubled else None

    @property
    def stored(self) -> dict[str, str]:
        """The tensors of `embed`, and of `head` unless it is the same matrix."""
        return {"embed": self.names.embed} | ({} if self.tied else {"head": self.names.head})

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The configuration of the text model: nested in that of a vision-language model, else the whole."""
        return text_config(self.config)

    @property
    def vocab_size(self) -> int:
        """How many rows the configuration gives the tables; those that `embed` has, where it does not say."""
        return self.text_config.get("vocab_size", self.checkpoint.entries[self.names.embed].shape[0])

    @property
    def positions(self) -> int | None:
        """How many tokens of a text the model can see, as its configuration says; none where it does not."""
        config = self.text_config
        return config.get("max_position_embeddings", config.get("n_positions"))

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold; a tied table counts once."""
        return sum(prod(entry.shape) for name, entry in self.checkpoint.entries.items() if name != self.duplicate_head)

    def rows(self, table: str) -> StoredRows:
        """The rows of `embed` or of `head`, which are the same rows when tied."""
        return StoredRows(self.checkpoint.floats({"embed": self.names.embed, "head": self.head}[table]))

    def tables(self) -> dict[str, StoredRows]:
        """`embed`, and `head` unless it is the same matrix."""
        return {table: self.rows(table) for table in self.stored}


def open_model(path: Path, *, names: TableNames | None = None) -> ModelFolder:
    """Read a model folder's configuration and tensor headers, and find its tables.

    Args:
        path: the folder.
        names: the two tables, where neither the family nor names and shapes tell.

    Raises:
        CheckpointError: a GGUF file, no config.json, tables that cannot be told from the other tensors or are
            quantized, a head that is absent or differs from `embed` against the configuration's word, two tables of
            different heights, a third tensor with a row for each token.
    """
    _refuse_gguf(path)
    config = read_json(path / "config.json")
    checkpoint = open_checkpoint(path)
    if not isinstance(kind := config.get("model_type") or "", str):
        raise CheckpointError(f"{path / 'config.json'}: model_type is {kind!r}, expected a name")
    family = FAMILIES.get(kind)
    if names:
        _check_given(checkpoint, names)
    else:
        names = _listed(checkpoint, family) or _detected(checkpoint, config)
    tied = _is_tied(checkpoint, config, names, default=family.tied if family else None)
    model = ModelFolder(path=path, config=config, checkpoint=checkpoint, names=names, tied=tied)
    _check_tables(model)
    return model


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nested configuration of the text model, or the whole where none is nested."""
    return next((config[key] for key in TEXT_CONFIGS if isinstance(config.get(key), Mapping)), config)


def check_rows(model: ModelFolder, *, tokens: int) -> None:
    """`CheckpointError` when a table has fewer rows than the model's tokenizer has tokens."""
    for room, name in model.stored.items():
        if (rows := model.checkpoint.entries[name].shape[0]) < tokens:
            raise CheckpointError(
                f"{model.path}: {room} has {rows} rows for {tokens} tokens; is that its own tokenizer?"
            )


def stored_names(model: ModelFolder, names: Iterable[str]) -> dict[str, str]:
    """The stored tensors of these weights of the loaded model: of the same name, or, as of a bare decoder, without its
    first part.

    Raises:
        CheckpointError: names a weight that is not stored so: transformers made it of several.
    """
    found: dict[str, str] = {}
    for name in names:
        stored = next((it for it in (name, name.partition(".")[2]) if it in model.checkpoint.entries), None)
        if stored is None:
            raise CheckpointError(
                f"{model.path}: {name!r} would learn, and no tensor of that name is stored that could take it; let "
                "less learn"
            )
        found[name] = stored
    return found


def _refuse_gguf(path: Path) -> None:
    files = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf"))
    if files and not any(path.glob("*.safetensors")):
        raise CheckpointError(
            f"{files[0]}: a GGUF file, which is quantized and lacks a part of its tokenizer; use the folder with the "
            "model's config.json and safetensors, from which it was made"
        )


def _check_given(checkpoint: Checkpoint, names: TableNames) -> None:
    for name in (names.embed, names.head):
        if name not in checkpoint.entries or len(checkpoint.entries[name].shape) != 2:
            raise CheckpointError(
                f"{checkpoint.folder}: no matrix {name!r}, which the setting `tables` names; {_listing(checkpoint)}; "
                "where one matrix is both tables, name it twice"
            )


def _listed(checkpoint: Checkpoint, family: Family | None) -> TableNames | None:
    """The first of the family's layouts that is stored."""
    for names in family.layouts if family else ():
        _refuse_quantized(checkpoint, names.embed)
        if names.embed in checkpoint.entries:
            return names
    return None


def _detected(checkpoint: Checkpoint, config: Mapping[str, Any]) -> TableNames:
    """The tables by their shape and what they are called; a model without a head is tied."""
    text = text_config(config)
    rows, width = text.get("vocab_size") or 0, next((text[key] for key in WIDTHS if key in text), None)
    if not isinstance(rows, int):
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: vocab_size is {rows!r}, expected a whole number")
    shaped = {
        name: entry
        for name, entry in checkpoint.entries.items()
        if len(entry.shape) == 2 and entry.shape[0] >= rows and width in (None, entry.shape[1])
    }
    heads = [name for name in shaped if LIKE_HEAD.search(name)]
    embeds = [name for name in shaped if LIKE_EMBED.search(name) and name not in heads]
    if len(embeds) == 1:
        alike = [name for name in shaped if shaped[name].shape == shaped[embeds[0]].shape]
        if len(heads) == 1 or (alike == embeds and False not in _says_tied(config)):
            return TableNames(embed=embeds[0], head=(heads or embeds)[0])
    raise CheckpointError(
        f"{checkpoint.folder}: cannot tell the two tables of model_type {config.get('model_type')!r}: expected, of "
        f"{rows} rows or more and {width or 'some'} columns, one matrix named like an embedding and one like a head; "
        f"{_listing(checkpoint)}; name them in the setting `tables: {{embed: …, head: …}}`"
    )


def _listing(checkpoint: Checkpoint) -> str:
    """The tallest matrices, for the reader of an error to choose from."""
    matrices = [(-entry.shape[0], name) for name, entry in checkpoint.entries.items() if len(entry.shape) == 2]
    return "there are " + ", ".join(f"{name} {_shape(checkpoint.entries[name])}" for _, name in sorted(matrices)[:6])


def _shape(entry: Entry) -> str:
    return " × ".join(map(str, entry.shape))


def _says_tied(config: Mapping[str, Any]) -> list[bool]:
    """What the configuration says, the outer one first: it is the one that transformers follows."""
    return [place[_TIE] for place in (config, text_config(config)) if isinstance(place.get(_TIE), bool)]


def _is_tied(checkpoint: Checkpoint, config: Mapping[str, Any], names: TableNames, *, default: bool | None) -> bool:
    """As transformers decides it: two equal tables are one if the configuration says so, two different ones never."""
    said = _says_tied(config)
    tied = said[0] if said else default
    if names.head == names.embed:
        return True
    if names.head not in checkpoint.entries:
        _refuse_quantized(checkpoint, names.head)
        if tied is False and True not in said:
            raise CheckpointError(
                f"{checkpoint.folder}: config.json says untied tables, but there is no {names.head!r}; fetch the files "
                f"again, or set {_TIE} to true if that is meant"
            )
        return True
    if not tied or same_bytes(checkpoint.entries[names.embed], checkpoint.entries[names.head]):
        return bool(tied)
    if said:
        raise CheckpointError(
            f"{checkpoint.folder}: config.json says tied tables, but {names.head!r} is not equal to {names.embed!r}; "
            f"transformers 5 uses both, other programs the latter alone: set {_TIE} to false, or remove the head"
        )
    return False


def _refuse_quantized(checkpoint: Checkpoint, name: str) -> None:
    """`CheckpointError` when a table, or what stands in its place (`lm_head.qweight` …), is stored as no float."""
    stem = name.removesuffix("weight")
    for part, entry in checkpoint.entries.items():
        if part.startswith(stem) and entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.shard}: tensor {part!r} is stored as {entry.dtype}, expected {name!r} as one of "
                f"{', '.join(FLOATS)}; use the unquantized checkpoint"
            )


def _check_tables(model: ModelFolder) -> None:
    """`CheckpointError` unless there are two float tables of one height, and no third tensor with a row a token."""
    entries, names = model.checkpoint.entries, model.stored.values()
    for name in names:
        _refuse_quantized(model.checkpoint, name)
    shapes = {entries[name].shape for name in names}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        found = ", ".join(f"{name!r} ({_shape(entries[name])})" for name in names)
        raise CheckpointError(f"{model.path}: {found}: expected matrices of one shape as tables; choose another model")
    heights = {rows for rows, _ in shapes}
    sizes = heights | {size for key, size in model.text_config.items() if "vocab_size" in key and isinstance(size, int)}
    for name in entries.keys() - {model.names.embed, model.names.head}:
        if sizes.intersection(entries[name].shape[:1]) and (LIKE_EMBED.search(name) or LIKE_HEAD.search(name)):
            raise CheckpointError(
                f"{entries[name].shard}: {name!r} ({_shape(entries[name])}) has vocabulary rows too, and lep changes "
                "two tables; drop the multi-token-prediction layers that hold it, or choose another model"
            )


def within(folder: Path) -> str:
    """A model in a folder that is none itself, as the end of a sentence; nothing where there is none."""
    found = min((config.parent for config in folder.glob("*/config.json")), default=None)
    return f", as {found}" if found else ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; `CheckpointError` when the file is missing or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: is not there; expected a Hugging Face model folder{within(path.parent)}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a file of a model folder") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); fetch the file again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as Hugging Face's libraries do."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
