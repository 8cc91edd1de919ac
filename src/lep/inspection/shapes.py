"""The model as its headers state it: size, tables, ties, and whether all agree how large the vocabulary is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lep.inspection.findings import Fact, Finding, Folder, Problem, Remark, counted
from lep.io.model_folder import text_config


def about_shapes(folder: Folder) -> Iterator[Finding]:
    """Architecture, parameters and files; shapes, tie and padding of the tables."""
    model = folder.model
    entries = model.checkpoint.entries.values()
    dtypes = Counter(entry.dtype for entry in entries)
    size = sum(shard.stat().st_size for shard in model.checkpoint.shards)
    architectures = ", ".join(model.config.get("architectures") or ["no architecture"])
    group = "model"
    yield Fact(group, "architecture", f"{model.config['model_type']}, {architectures}")
    yield Fact(group, "parameters", f"{model.parameters:,} in {counted(len(entries), 'tensor')}, {_dtypes(dtypes)}")
    yield Fact(group, "files", f"{size / 1e9:,.2f} GB in {counted(len(model.checkpoint.shards), 'file')}")
    tied = "tied: one matrix, also the head" if model.tied else "untied"
    tables = model.tables()
    for name, table in tables.items():
        dtype = model.checkpoint.entries[getattr(model.names, name)].dtype
        words = f"{table.shape[0]:,} × {table.shape[1]:,} {dtype}"
        yield Fact(group, name, f"{words}, {tied}" if name == "embed" else words)
    if model.tied and model.names.head != model.names.embed and model.names.head in model.checkpoint.entries:
        yield Remark(f"the tables are tied, yet {model.names.head} is stored too: loaders take one of them; remove it")
    yield from _vocabulary(folder, {name: table.shape[0] for name, table in tables.items()})


def _dtypes(dtypes: Counter[str]) -> str:
    if len(dtypes) == 1:
        return next(iter(dtypes))
    return ", ".join(f"{n:,} {dtype}" for dtype, n in dtypes.most_common())


def _vocabulary(folder: Folder, rows: dict[str, int]) -> Iterator[Finding]:
    """Sizes by configuration and table, against the tokenizer's."""
    sizes = _said(folder.json("config.json")) | rows
    tokens = folder.tokens
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{name} {size}" for name, size in sizes.items())
        yield Problem(f"the vocabulary has several sizes: {words}; vocab_size must be the number of rows")
    for name, size in sizes.items():
        if size < tokens:
            what = "says vocab_size" if name.startswith("config") else "has rows:"
            yield Problem(f"{name} {what} {size} for {tokens} tokens; is this the model's own tokenizer?")
    if tokens and (spare := rows["embed"] - tokens) > 0:
        yield Fact("model", "padding", f"{counted(spare, 'row')} beyond the {tokens:,} ids of the tokenizer")


def _said(config: dict[str, Any]) -> dict[str, int]:
    """`vocab_size` wherever the configuration has it."""
    nested = text_config(config)
    places = {"config.json": config} | ({} if nested is config else {"config.json, nested": nested})
    return {name: place["vocab_size"] for name, place in places.items() if isinstance(place.get("vocab_size"), int)}
