"""What a folder is, and whether it is healthy: `inspect` looks at it as each of its users will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lep.core.vocabulary import Kind
from lep.errors import LepError, UsageError
from lep.inspection.chat_template import about_template
from lep.inspection.compatibility import llama_cpp, vllm
from lep.inspection.embedding_rows import about_rows
from lep.inspection.findings import Fact, Finding, Folder, Problem, Remark, counted
from lep.inspection.loading import model_loads, tokenizer_loads, transformers_4
from lep.inspection.shapes import about_shapes
from lep.inspection.special_ids import about_special_ids
from lep.io.artifact import read_manifest

__all__ = ["Fact", "Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """What was found in one folder: only a problem means that something is wrong."""

    facts: tuple[Fact, ...]
    remarks: tuple[str, ...]
    problems: tuple[str, ...]


def inspect(path: Path) -> Inspection:
    """Look at an artifact, a model or a tokenizer folder.

    Raises:
        UsageError: the folder is none of these.
    """
    folder = Folder(path)
    if not folder.holds & {"artifact", "model", "tokenizer"}:
        raise UsageError(f"{path}: {_what_else(path)}")
    found = list(dict.fromkeys(_look(folder)))
    return Inspection(
        facts=tuple(finding for finding in found if isinstance(finding, Fact)),
        remarks=tuple(finding.words for finding in found if isinstance(finding, Remark)),
        problems=tuple(finding.words for finding in found if isinstance(finding, Problem)),
    )


def _what_else(path: Path) -> str:
    """Why there is nothing to look at, and where else to look."""
    if not path.exists():
        return "no such folder"
    if path.suffix == ".gguf" or any(path.glob("*.gguf")):
        return "a GGUF file is for llama.cpp and Ollama; inspect the model folder that it was written from"
    inside = sorted(child.name for child in path.glob("*/") if Folder(child).holds)
    return "neither an artifact, a model nor a tokenizer folder" + (
        f"; in it are {', '.join(inside)}" if inside else ""
    )


def _look(folder: Folder) -> Iterator[Finding]:
    """Every look for which the folder has what is needed; a file that cannot be read is a problem, once."""
    for needed, look in _LOOKS:
        if folder.holds.issuperset(needed):
            try:
                yield from look(folder)
            except LepError as error:
                yield Problem(str(error))


def _artifact(folder: Folder) -> Iterator[Finding]:
    manifest = read_manifest(folder.path)
    group = "artifact"
    yield Fact(group, "room", f"{manifest.room}, finished {manifest.finished}, {manifest.seconds:.0f} s")
    yield Fact(group, "fingerprint", manifest.fingerprint)
    for proof in manifest.numbers.get("proofs", []):
        name, held, of = proof["name"].replace("_", " "), proof["held"], proof["of"]
        yield Fact(group, f"proof: {name}", f"{held:,} of {of:,}" + ("" if proof["promised"] else " (not promised)"))


def _tokenizer(folder: Folder) -> Iterator[Finding]:
    file = folder.tokenizer
    kinds = file.vocabulary.kinds
    holes = sum(kind is Kind.HOLE for kind in kinds)
    group = "tokenizer"
    yield Fact(group, "type", f"{file.state['model'].get('type', 'BPE')}, {file.scheme.replace('_', '-')}")
    yield Fact(group, "tokens", f"{len(kinds) - holes:,}, {len(file.added):,} of them added or special")
    if holes:
        yield Fact(group, "holes", f"{counted(holes, 'id')} without a token")


_LOOKS: tuple[tuple[tuple[str, ...], Callable[[Folder], Iterator[Finding]]], ...] = (
    (("artifact",), _artifact),
    (("model",), about_shapes),
    (("tokenizer",), _tokenizer),
    (("tokenizer",), about_special_ids),
    (("tokenizer", "settings"), about_template),
    (("model",), about_rows),
    (("tokenizer",), tokenizer_loads),
    (("model",), model_loads),
    (("settings",), transformers_4),
    (("model",), vllm),
    (("tokenizer",), llama_cpp),
)
"""What each look needs, and the look, in the order in which its findings are told."""
