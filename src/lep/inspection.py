"""What a folder is, and whether it is healthy: facts to read, and problems that should not be there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lep.core.vocabulary import Kind
from lep.errors import LepError, UsageError
from lep.io.artifact import MANIFEST, read_manifest
from lep.io.model import open_model, read_json
from lep.io.tokenizer_files import read_tokenizer

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")


@dataclass
class Inspection:
    """Findings about one folder, by topic, and what is wrong with it."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def inspect(folder: Path) -> Inspection:
    """Look at an artifact, a model or a tokenizer folder.

    Raises:
        UsageError: the folder is none of these.
    """
    found = Inspection()
    is_model = (folder / "config.json").exists()
    is_tokenizer = any((folder / name).exists() for name in _TOKENIZERS)
    is_artifact = (folder / MANIFEST).exists()
    if not (is_model or is_tokenizer or is_artifact):
        raise UsageError(f"{folder}: neither an artifact, a model nor a tokenizer folder")
    looks = [(is_artifact, _artifact), (is_tokenizer, _tokenizer), (is_model, _model)]
    for there, look in looks:
        if there:
            try:
                look(folder, found)
            except LepError as error:
                found.problems.append(str(error))
    return found


def _artifact(folder: Path, found: Inspection) -> None:
    manifest = read_manifest(folder)
    found.facts["artifact"] = f"{manifest.room}, finished {manifest.finished}, {manifest.seconds:.0f} s"
    found.facts["fingerprint"] = manifest.fingerprint
    for proof in manifest.numbers.get("proofs", []):
        name, held, of = proof["name"].replace("_", " "), proof["held"], proof["of"]
        found.facts[f"proof: {name}"] = f"{held:,} of {of:,}" + ("" if proof["promised"] else " (not promised)")


def _tokenizer(folder: Path, found: Inspection) -> None:
    tokenizer = read_tokenizer(folder)
    kinds = tokenizer.vocabulary.kinds
    found.facts["tokenizer"] = f"{tokenizer.state['model']['type']}, {tokenizer.scheme.replace('_', '-')}"
    found.facts["tokens"] = (
        f"{sum(kind is not Kind.HOLE for kind in kinds):,} ({len(tokenizer.added)} added or special)"
    )
    found.facts["chat template"] = "yes" if _has_template(folder) else "no"
    if holes := sum(kind is Kind.HOLE for kind in kinds):
        found.facts["ids without a token"] = f"{holes:,}"


def _has_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").exists() or (settings.exists() and "chat_template" in read_json(settings))


def _model(folder: Path, found: Inspection) -> None:
    model = open_model(folder)
    tables = model.tables()
    found.facts["model"] = f"{model.config['model_type']}, {len(model.checkpoint.entries)} tensors"
    found.facts["tables"] = ("tied: " if model.tied else "untied: ") + ", ".join(
        f"{name} {table.shape[0]:,} × {table.shape[1]:,} {str(table.dtype).removeprefix('torch.')}"
        for name, table in tables.items()
    )
    sizes = {"config.json": model.config.get("vocab_size")}
    sizes |= {name: table.shape[0] for name, table in tables.items()}
    if len(set(sizes.values())) > 1:
        found.problems.append("the vocabulary has several sizes: " + ", ".join(f"{k} {v}" for k, v in sizes.items()))
    tokens = len(read_tokenizer(folder).vocabulary) if any((folder / name).exists() for name in _TOKENIZERS) else 0
    for name, table in tables.items():
        if table.shape[0] < tokens:
            found.problems.append(f"{name} has {table.shape[0]} rows for {tokens} tokens")
        rows = table[:tokens] if tokens else table
        zero = sum(int((block == 0).all(dim=1).sum()) for block in rows.split(8192))
        bad = sum(int((~block.isfinite().all(dim=1)).sum()) for block in rows.split(8192))
        found.problems += [f"{name} has {n} {what} rows" for n, what in ((zero, "zero"), (bad, "non-finite")) if n]
