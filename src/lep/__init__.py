"""Learned Embedding Propagation: give an open language model a vocabulary made for your language.

The public names below are loaded on first use, so that `import lep` is fast and needs no optional package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lep.api import evaluate_texts, extend_tokenizer, initialize_model, propagate_model
    from lep.core.initialization import initialize_embeddings
    from lep.core.propagation import (
        Projection,
        copy_special_rows,
        fit_projection,
        propagate_embeddings,
        select_projection,
    )
    from lep.core.vocabulary import TokenKind, Vocabulary, VocabularyMap, build_vocabulary_map
    from lep.errors import LepError
    from lep.io.model_folder import ModelFolder, open_model
    from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
    from lep.results.embeddings import InitializationResult, InitializationStats, PropagationResult

    __version__: str

__all__ = [
    "InitializationResult",
    "InitializationStats",
    "LepError",
    "ModelFolder",
    "Projection",
    "PropagationResult",
    "TokenKind",
    "TokenizerFile",
    "Vocabulary",
    "VocabularyMap",
    "__version__",
    "build_vocabulary_map",
    "copy_special_rows",
    "evaluate_texts",
    "extend_tokenizer",
    "fit_projection",
    "initialize_embeddings",
    "initialize_model",
    "map_vocabularies",
    "open_model",
    "propagate_embeddings",
    "propagate_model",
    "read_tokenizer",
    "select_projection",
]

_NAMES_BY_MODULE = {
    "lep.api": ("evaluate_texts", "extend_tokenizer", "initialize_model", "propagate_model"),
    "lep.core.initialization": ("initialize_embeddings",),
    "lep.core.propagation": (
        "Projection",
        "copy_special_rows",
        "fit_projection",
        "propagate_embeddings",
        "select_projection",
    ),
    "lep.core.vocabulary": ("TokenKind", "Vocabulary", "VocabularyMap", "build_vocabulary_map"),
    "lep.errors": ("LepError",),
    "lep.io.model_folder": ("ModelFolder", "open_model"),
    "lep.io.tokenizer_file": ("TokenizerFile", "map_vocabularies", "read_tokenizer"),
    "lep.results.embeddings": ("InitializationResult", "InitializationStats", "PropagationResult"),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lep")
    if name not in _MODULES:
        raise AttributeError(f"module 'lep' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
