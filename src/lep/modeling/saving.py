"""Write a trained model, adapters merged: everything that was not trained keeps its bytes."""

from __future__ import annotations

from pathlib import Path

from lep.io.model_folder import ModelFolder, find_stored_tensors
from lep.io.model_writer import copy_tokenizer, plan_model_copy, write_model_copy
from lep.io.safetensors_files import mmap_tensor
from lep.modeling.trainable_model import TrainableModel


def write_trained_model(model: TrainableModel, source: ModelFolder, out: Path) -> None:
    """Write a model after its training.

    Args:
        model: The trained model, gathered (`TrainableModel.gather`).
        source: The folder that it was loaded from.
        out: An existing folder.
    """
    entries, updates, matrices = source.checkpoint.entries, model.weight_updates(), model.embedding_matrices()
    new_tensors = {
        stored: lambda name=name, stored=stored: updates[name](mmap_tensor(entries[stored], writable=False))
        for name, stored in find_stored_tensors(source, updates).items()
    }
    plan = plan_model_copy(source, num_embeddings=len(source.embedding_matrix("embed")), changed_tensors=new_tensors)
    for name, rows in write_model_copy(plan, out, new_tensors=new_tensors).items():
        rows[:] = matrices[name] if name in matrices else source.embedding_matrix(name)[:]
    copy_tokenizer(source.path, out)
