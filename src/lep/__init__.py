"""Learned Embedding Propagation: give an open language model a vocabulary made for your language.

The public names below are loaded on first use, so that `import lep` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lep.core.initialization import Initialization, initialize
    from lep.core.propagation import Fit, Projection, best, fit_projection, keep_special, propagate
    from lep.core.vocabulary import Kind, Vocabulary, VocabularyMap, vocabulary_map
    from lep.errors import LepError
    from lep.io.model_folder import ModelFolder, open_model
    from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer

_HOME = {
    "Initialization": "lep.core.initialization",
    "initialize": "lep.core.initialization",
    "Fit": "lep.core.propagation",
    "Projection": "lep.core.propagation",
    "best": "lep.core.propagation",
    "fit_projection": "lep.core.propagation",
    "keep_special": "lep.core.propagation",
    "propagate": "lep.core.propagation",
    "Kind": "lep.core.vocabulary",
    "Vocabulary": "lep.core.vocabulary",
    "VocabularyMap": "lep.core.vocabulary",
    "vocabulary_map": "lep.core.vocabulary",
    "LepError": "lep.errors",
    "ModelFolder": "lep.io.model_folder",
    "open_model": "lep.io.model_folder",
    "TokenizerFile": "lep.io.tokenizer_file",
    "map_vocabularies": "lep.io.tokenizer_file",
    "read_tokenizer": "lep.io.tokenizer_file",
}

__all__ = [
    "Fit",
    "Initialization",
    "Kind",
    "LepError",
    "ModelFolder",
    "Projection",
    "TokenizerFile",
    "Vocabulary",
    "VocabularyMap",
    "best",
    "fit_projection",
    "initialize",
    "keep_special",
    "map_vocabularies",
    "open_model",
    "propagate",
    "read_tokenizer",
    "vocabulary_map",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lep' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
