"""Models of one family: base, adapted, instruct; each a folder, or a LoRA adapter over one of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lep.core.table_rows import Rows
from lep.errors import CheckpointError
from lep.io.families import TableNames
from lep.io.lora_adapter import SETTINGS, Adapter, is_adapter, open_adapter
from lep.io.model_folder import ModelFolder, open_model
from lep.io.safetensors_files import FLOATS, Entry, same_bytes
from lep.io.weight_delta import Changes, add, difference

_SAMPLE = 4096


@dataclass(frozen=True)
class Sibling:
    """A model, or an adapter and the model that it was trained on."""

    path: Path
    """What the user named."""
    model: ModelFolder
    """Where the weights lie; an adapter's base."""
    adapter: Adapter | None = None

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer: an adapter without one uses its base's."""
        own = any((self.path / name).exists() for name in ("tokenizer.json", "tokenizer.model"))
        return self.path if own else self.model.path

    @property
    def tied(self) -> bool:
        """Whether one matrix is both tables."""
        return self.model.tied

    def rows(self, table: str) -> Rows:
        """The rows of `embed` or of `head`; those that an adapter changes are computed and held."""
        name = self.model.head if table == "head" else self.model.names.embed
        return self.adapter.tensor(name) if self.adapter and name in self.adapter.changes else self.model.rows(table)

    @property
    def height(self) -> int:
        """How many rows its tables have."""
        change = self.adapter.changes.get(self.model.names.embed) if self.adapter else None
        return change.shape[0] if change else len(self.model.rows("embed"))

    @property
    def width(self) -> int:
        """How long they are."""
        return self.model.rows("embed").shape[1]

    def tensor(self, name: str) -> Tensor:
        """Any float tensor of the model, the adapter merged."""
        return self.adapter.tensor(name) if self.adapter else self.model.checkpoint.tensor(name)

    @property
    def changed_layers(self) -> set[str]:
        """Tensors other than the tables that an adapter changes."""
        return set(self.adapter.changes) - _tables(self.model) if self.adapter else set()


def open_sibling(path: Path, *, base: Path | None, names: TableNames | None = None) -> Sibling:
    """Open a model folder, or an adapter over `base`.

    Raises:
        CheckpointError: what `open_model` and `open_adapter` refuse; an adapter without a base.
    """
    if not is_adapter(path):
        return Sibling(path, open_model(path, names=names))
    if base is None:
        raise CheckpointError(
            f"{path / SETTINGS}: is a LoRA adapter; name the initialized model that it was trained on (adapter_base=)"
        )
    model = open_model(base, names=names)
    return Sibling(path, model, open_adapter(path, base=model))


def new_layers(
    base: Sibling, adapted: Sibling, instruct: Sibling, *, scale: float | None
) -> dict[str, Callable[[], Tensor]]:
    """Layers of the result that are not the instruct model's file's own, by name, each computed when it is called for.

    An instruct adapter's layers are merged. To these, what the adapted model's layers learnt is added, times `scale`:
    of an adapter its product, of a whole model the difference to the base.

    Args:
        scale: none: 1 for an adapter; a whole model's layers must be the base's.

    Raises:
        CheckpointError: `scale` is not given and the layers of a whole adapted model are not the base's.

    Source: METHOD §2.4; task arithmetic, arXiv 2212.04089.
    """
    changed, learnt = instruct.changed_layers, None
    if adapted.adapter and scale != 0:
        changed, learnt = changed | adapted.changed_layers, adapted.adapter.delta
    elif scale:
        changed = changed | _changed_layers(base.model, adapted.model)
        learnt = difference(adapted.model.checkpoint, base=base.model.checkpoint)
    elif scale is None:
        _check_same_layers(base.model, adapted.model)
    names = sorted(changed)
    for name in names:
        instruct.model.checkpoint.floats(name)
    factor = 1.0 if scale is None else scale
    return {name: _sum(instruct, name, learnt=learnt, scale=factor) for name in names}


def _sum(instruct: Sibling, name: str, *, learnt: Changes | None, scale: float) -> Callable[[], Tensor]:
    def value() -> Tensor:
        weight, delta = instruct.tensor(name), learnt(name) if learnt else None
        return weight if delta is None else add(weight, delta, scale=scale)

    return value


def _tables(model: ModelFolder) -> set[str]:
    return {model.names.embed, model.names.head}


def _layers(model: ModelFolder) -> dict[str, Entry]:
    """Float tensors other than the tables."""
    entries = model.checkpoint.entries.items()
    return {name: entry for name, entry in entries if entry.dtype in FLOATS and name not in _tables(model)}


def _changed_layers(base: ModelFolder, adapted: ModelFolder) -> set[str]:
    """The adapted model's layers that are not the base's, byte for byte; what changed is told by its first block."""
    ours = _layers(adapted)
    theirs = {name: base.checkpoint.floats(name) for name in ours}
    return {name for name, entry in ours.items() if not same_bytes(entry, theirs[name])}


def _check_same_layers(base: ModelFolder, adapted: ModelFolder) -> None:
    """`CheckpointError` when a layer of the adapted model is not the base's, as far as its first bytes tell."""
    theirs = _layers(base)
    for name, entry in sorted(_layers(adapted).items()):
        other = theirs.get(name)
        if (
            other
            and entry.shape == other.shape
            and (entry.dtype != other.dtype or same_bytes(entry, other, first=_SAMPLE))
        ):
            continue
        raise CheckpointError(
            f"{adapted.path}: {name!r} is not that of {base.path}: not only the tables were trained. Say what is to "
            "become of it: layers_scale=1 adds what the layers learnt to the instruct model's, 0 leaves it out"
        )
