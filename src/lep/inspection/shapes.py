"""Check sizes: parameters, embedding matrices, tied embeddings, and whether all agree on the vocabulary size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lep.inspection.findings import Fact, Finding, InspectedFolder, Problem, Remark, format_count
from lep.io.model_folder import get_text_config


def check_shapes(folder: InspectedFolder) -> Iterator[Finding]:
    """Report architecture, parameters and files; check shapes, ties and padding of the embedding matrices."""
    model = folder.model
    entries = model.checkpoint.entries.values()
    dtypes = Counter(entry.dtype for entry in entries)
    size = sum(shard.stat().st_size for shard in model.checkpoint.shards)
    architectures = ", ".join(model.config.get("architectures") or ["no architecture"])
    group = "model"
    yield Fact(group, "architecture", f"{model.config['model_type']}, {architectures}")
    yield Fact(
        group,
        "parameters",
        f"{model.num_parameters:,} in {format_count(len(entries), 'tensor')}, {_format_dtypes(dtypes)}",
    )
    yield Fact(group, "files", f"{size / 1e9:,.2f} GB in {format_count(len(model.checkpoint.shards), 'file')}")
    tied = "tied, also the head" if model.tied else "untied"
    matrices = model.embedding_matrices()
    for name, matrix in matrices.items():
        dtype = model.checkpoint.entries[getattr(model.embedding_names, name)].dtype
        shape = f"{matrix.shape[0]:,} × {matrix.shape[1]:,} {dtype}"
        yield Fact(group, name, f"{shape}, {tied}" if name == "embed" else shape)
    head = model.embedding_names.head
    if model.tied and head != model.embedding_names.embed and head in model.checkpoint.entries:
        yield Remark(f"the embeddings are tied, but {head} is stored as well, and loaders use only one: remove it")
    yield from _check_vocabulary_sizes(folder, {name: matrix.shape[0] for name, matrix in matrices.items()})


def _format_dtypes(dtypes: Counter[str]) -> str:
    if len(dtypes) == 1:
        return next(iter(dtypes))
    return ", ".join(f"{n:,} {dtype}" for dtype, n in dtypes.most_common())


def _check_vocabulary_sizes(folder: InspectedFolder, row_counts: dict[str, int]) -> Iterator[Finding]:
    """Compare the sizes in the configuration and of the matrices with each other and with the tokenizer."""
    sizes = _read_vocab_sizes(folder.load_json("config.json")) | row_counts
    tokens = folder.vocabulary_size
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        yield Problem(f"vocabulary sizes differ: {listed}; vocab_size must be the number of rows")
    for name, size in sizes.items():
        if size < tokens:
            rows = f"vocab_size {size}" if name.startswith("config") else f"{size} rows"
            yield Problem(f"{name} has {rows} for {tokens} tokens; is this the model's own tokenizer?")
    if tokens and (padding := row_counts["embed"] - tokens) > 0:
        yield Fact("model", "padding", f"{format_count(padding, 'row')} beyond the {tokens:,} ids of the tokenizer")


def _read_vocab_sizes(config: dict[str, Any]) -> dict[str, int]:
    """Return every `vocab_size` of the configuration."""
    nested = get_text_config(config)
    configs = {"config.json": config} | ({} if nested is config else {"config.json, nested": nested})
    return {name: item["vocab_size"] for name, item in configs.items() if isinstance(item.get("vocab_size"), int)}
