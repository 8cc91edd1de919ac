"""Base model + tokenizer → model with new embeddings: T·E."""

from __future__ import annotations

import json
from pathlib import Path

from lep.config import InitializeSettings
from lep.core.initialization import initialize_embeddings
from lep.core.vocabulary import VocabularyMap
from lep.errors import TokenizerError
from lep.io.families import EmbeddingNames
from lep.io.model_folder import check_embedding_rows, open_model
from lep.io.model_writer import COMPOSED_ROWS_FILE, copy_tokenizer, plan_model_copy, write_model_copy
from lep.io.token_id_config import remap_token_ids
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.results.embeddings import InitializationResult


def run(settings: InitializeSettings, out: Path) -> InitializationResult:
    """Write a model folder: the base, with new embeddings and the new tokenizer."""
    names = EmbeddingNames(**settings.embedding_names.model_dump()) if settings.embedding_names else None
    base = open_model(settings.base, embedding_names=names)
    old, new = read_tokenizer(settings.base), read_tokenizer(settings.tokenizer)
    check_embedding_rows(base, vocabulary_size=len(old.vocabulary))
    vocabulary_map = map_vocabularies(old, new)
    _check_no_missing_tokens(vocabulary_map, old, new)
    padding_rows = -vocabulary_map.new_size % settings.pad_to_multiple_of
    targets = write_model_copy(plan_model_copy(base, num_embeddings=vocabulary_map.new_size + padding_rows), out)
    stats = {
        name: initialize_embeddings(base.embedding_matrix(name), vocabulary_map, out=target)
        for name, target in targets.items()
    }
    copy_tokenizer(settings.tokenizer, out)
    remap_token_ids(out, old=old, new=new)
    composed_ids = (~vocabulary_map.shared).nonzero().flatten().tolist()
    (out / COMPOSED_ROWS_FILE).write_text(json.dumps(composed_ids))
    return InitializationResult(
        copied_rows=int(vocabulary_map.shared.sum()),
        composed_rows=len(composed_ids),
        mean_segmentation_length=stats["embed"].mean_segmentation_length,
        padding_rows=padding_rows,
        embeddings=stats,
    )


def _check_no_missing_tokens(vocabulary_map: VocabularyMap, old: TokenizerFile, new: TokenizerFile) -> None:
    if missing_ids := vocabulary_map.missing.tolist():
        tokens = [new.vocabulary.tokens[id_].decode(errors="backslashreplace") for id_ in missing_ids[:5]]
        raise TokenizerError(
            f"{new.path}: {len(missing_ids)} tokens cannot be segmented into tokens of {old.path} (the first: "
            f"{tokens}); special tokens must be the base's own, and ids must have no gaps"
        )
