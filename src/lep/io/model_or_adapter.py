"""Models of one base (base, adapted, instruct): each a model folder, or a LoRA adapter on another of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix
from lep.errors import CheckpointError
from lep.io.families import EmbeddingNames
from lep.io.lora_adapter import ADAPTER_CONFIG_NAME, LoraAdapter, is_adapter, open_adapter
from lep.io.model_folder import ModelFolder, open_model
from lep.io.safetensors_files import FLOAT_DTYPES, TensorInfo, have_same_bytes
from lep.io.weight_delta import DeltaFunction, add_delta, build_task_vector

_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class ModelOrAdapter:
    """A model, or an adapter and the model that it was trained on."""

    path: Path
    """The folder that was given."""
    model: ModelFolder
    """The model folder; the base of an adapter."""
    adapter: LoraAdapter | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """Return the folder of its tokenizer: an adapter without one uses its base's."""
        has_tokenizer = any((self.path / name).exists() for name in ("tokenizer.json", "tokenizer.model"))
        return self.path if has_tokenizer else self.model.path

    @property
    def tied(self) -> bool:
        """Return whether one matrix is both the input and the output embedding."""
        return self.model.tied

    def embedding_matrix(self, name: str) -> EmbeddingMatrix:
        """Return `embed` or `head`; one that an adapter changes is computed and held in memory."""
        tensor = self.model.head_name if name == "head" else self.model.embedding_names.embed
        is_changed = self.adapter and tensor in self.adapter.deltas
        return self.adapter.get_tensor(tensor) if self.adapter and is_changed else self.model.embedding_matrix(name)

    @property
    def num_embeddings(self) -> int:
        """Return the number of rows of its embeddings."""
        delta = self.adapter.deltas.get(self.model.embedding_names.embed) if self.adapter else None
        return delta.shape[0] if delta else len(self.model.embedding_matrix("embed"))

    @property
    def embedding_dim(self) -> int:
        """Return the width of its embeddings."""
        return self.model.embedding_matrix("embed").shape[1]

    def get_tensor(self, name: str) -> Tensor:
        """Return a float tensor of the model, with the adapter merged."""
        return self.adapter.get_tensor(name) if self.adapter else self.model.checkpoint.get_tensor(name)

    @property
    def changed_layers(self) -> set[str]:
        """Return the tensors other than the embeddings that an adapter changes."""
        return set(self.adapter.deltas) - _embedding_names(self.model) if self.adapter else set()


def open_model_or_adapter(
    path: Path, *, base: Path | None, embedding_names: EmbeddingNames | None = None
) -> ModelOrAdapter:
    """Open a model folder, or a LoRA adapter on `base`.

    Args:
        path: the folder of a model or of an adapter.
        base: the model that an adapter was trained on.
        embedding_names: tensor names of the embeddings, where neither the family nor names and shapes identify them.

    Returns:
        The model.

    Raises:
        CheckpointError: `open_model` or `open_adapter` refuses it, or it is an adapter without a base.
    """
    if not is_adapter(path):
        return ModelOrAdapter(path, open_model(path, embedding_names=embedding_names))
    if base is None:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG_NAME}: is a LoRA adapter; name the initialized model that it was trained on "
            "(adapter_base=)"
        )
    model = open_model(base, embedding_names=embedding_names)
    return ModelOrAdapter(path, model, open_adapter(path, base=model))


def build_layer_updates(
    base: ModelOrAdapter, adapted: ModelOrAdapter, instruct: ModelOrAdapter, *, scale: float | None
) -> dict[str, Callable[[], Tensor]]:
    """Return the layers of the propagated model that differ from the instruct model's files.

    W_instruct + scale · (W_adapted − W_base), where the difference of an adapter is its low-rank product; an
    instruct adapter is merged. Source: task arithmetic, arXiv 2212.04089.

    Args:
        base: the base model.
        adapted: the adapted model, or an adapter on it.
        instruct: the instruct model, or an adapter on the base.
        scale: factor of the difference; `None`: 1 for an adapter, and the layers of a full model must be the base's.

    Returns:
        By tensor name, a function that computes the tensor when it is called.

    Raises:
        CheckpointError: `scale` is `None` and the layers of a full adapted model are not the base's.
    """
    changed, get_delta = instruct.changed_layers, None
    if adapted.adapter and scale != 0:
        changed, get_delta = changed | adapted.changed_layers, adapted.adapter.get_delta
    elif scale:
        changed = changed | _find_changed_layers(base.model, adapted.model)
        get_delta = build_task_vector(adapted.model.checkpoint, base=base.model.checkpoint)
    elif scale is None:
        _check_same_layers(base.model, adapted.model)
    names = sorted(changed)
    for name in names:
        instruct.model.checkpoint.get_float_info(name)
    factor = 1.0 if scale is None else scale
    return {name: _build_lazy_sum(instruct, name, get_delta=get_delta, scale=factor) for name in names}


def _build_lazy_sum(
    instruct: ModelOrAdapter, name: str, *, get_delta: DeltaFunction | None, scale: float
) -> Callable[[], Tensor]:
    def value() -> Tensor:
        weight, delta = instruct.get_tensor(name), get_delta(name) if get_delta else None
        return weight if delta is None else add_delta(weight, delta, scale=scale)

    return value


def _embedding_names(model: ModelFolder) -> set[str]:
    return {model.embedding_names.embed, model.embedding_names.head}


def _layer_entries(model: ModelFolder) -> dict[str, TensorInfo]:
    """Return the float tensors other than the embeddings."""
    entries = model.checkpoint.entries.items()
    return {
        name: entry for name, entry in entries if entry.dtype in FLOAT_DTYPES and name not in _embedding_names(model)
    }


def _find_changed_layers(base: ModelFolder, adapted: ModelFolder) -> set[str]:
    """Return the layers whose bytes differ; reading stops at the first block that differs."""
    entries = {name: (entry, base.checkpoint.get_float_info(name)) for name, entry in _layer_entries(adapted).items()}
    return {name for name, (entry, base_entry) in entries.items() if not have_same_bytes(entry, base_entry)}


def _check_same_layers(base: ModelFolder, adapted: ModelFolder) -> None:
    """Raise `CheckpointError` when a layer's shape or first bytes are not the base's."""
    base_entries = _layer_entries(base)
    for name, entry in sorted(_layer_entries(adapted).items()):
        other = base_entries.get(name)
        if (
            other
            and entry.shape == other.shape
            and (entry.dtype != other.dtype or have_same_bytes(entry, other, max_bytes=_SAMPLE_BYTES))
        ):
            continue
        raise CheckpointError(
            f"{adapted.path}: {name!r} differs from {base.path}: not only the embeddings were trained. Choose: "
            "layers_scale=1 adds the difference of the layers to the instruct model's, 0 leaves it out"
        )
