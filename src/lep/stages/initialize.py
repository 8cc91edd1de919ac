"""Base model + tokenizer → model with new tables: T·E."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lep.config import Initialize
from lep.core.initialization import initialize
from lep.errors import TokenizerError
from lep.io.families import TableNames
from lep.io.model_folder import check_rows, open_model
from lep.io.model_writer import COMPOSED_ROWS, copy_tokenizer, copy_with_tables, lay_out
from lep.io.token_id_config import renumber
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer


def run(settings: Initialize, out: Path) -> dict[str, Any]:
    """Write a whole model folder: the base, with new tables and the new tokenizer."""
    names = TableNames(**settings.tables.model_dump()) if settings.tables else None
    base = open_model(settings.base, names=names)
    old, new = read_tokenizer(settings.base), read_tokenizer(settings.tokenizer)
    check_rows(base, tokens=len(old.vocabulary))
    mapped = map_vocabularies(old, new)
    if len(mapped.missing):
        names = [new.vocabulary.tokens[id_].decode(errors="backslashreplace") for id_ in mapped.missing[:5].tolist()]
        raise TokenizerError(
            f"{new.path}: {len(mapped.missing)} tokens have no pieces in {old.path} (the first: {names}); special "
            "tokens must be the base's own, and ids must have no holes"
        )
    padding = -mapped.new_size % settings.pad_to_multiple
    made = copy_with_tables(lay_out(base, rows=mapped.new_size + padding), out)
    diagnostics = {name: initialize(base.rows(name), mapped, out=made[name]) for name in made}
    copy_tokenizer(settings.tokenizer, out)
    renumber(out, old=old, new=new)
    composed = (~mapped.shared).nonzero().flatten().tolist()
    (out / COMPOSED_ROWS).write_text(json.dumps(composed))
    return {
        "copied": int(mapped.shared.sum()),
        "composed": len(composed),
        "padding": padding,
        "mean_pieces": diagnostics["embed"].mean_pieces,
        "tables": {name: asdict(found) for name, found in diagnostics.items()},
    }
