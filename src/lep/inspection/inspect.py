"""Find out what a folder is, and whether it is healthy, from the point of view of each program that loads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lep.core.vocabulary import TokenKind
from lep.errors import LepError, UsageError
from lep.inspection.chat_template import check_chat_template
from lep.inspection.compatibility import check_llama_cpp, check_vllm
from lep.inspection.embedding_rows import check_embedding_rows
from lep.inspection.findings import Fact, Finding, InspectedFolder, Problem, Remark, format_count
from lep.inspection.loading import check_model_loading, check_tokenizer_loading, check_transformers_4
from lep.inspection.shapes import check_shapes
from lep.inspection.special_ids import check_special_ids
from lep.io.artifact import MANIFEST, read_manifest
from lep.registry import parse_stage_result
from lep.results.stages import RetokenizationResult

__all__ = ["Fact", "Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """What was found in a folder; only problems mean that something is wrong."""

    facts: tuple[Fact, ...]
    remarks: tuple[str, ...]
    problems: tuple[str, ...]


def inspect(path: Path) -> Inspection:
    """Inspect an artifact, a model or a tokenizer folder.

    Args:
        path: The folder.

    Returns:
        Facts, remarks and problems.

    Raises:
        UsageError: The folder is none of these.
    """
    folder = InspectedFolder(path)
    if not folder.contents & {"artifact", "model", "tokenizer"}:
        raise UsageError(f"{path}: {_explain_unsupported_path(path)}")
    findings = list(dict.fromkeys(_run_checks(folder)))
    return Inspection(
        facts=tuple(finding for finding in findings if isinstance(finding, Fact)),
        remarks=tuple(finding.message for finding in findings if isinstance(finding, Remark)),
        problems=tuple(finding.message for finding in findings if isinstance(finding, Problem)),
    )


def _explain_unsupported_path(path: Path) -> str:
    """Return why a path cannot be inspected, and what to inspect instead."""
    if not path.exists():
        return "no such folder"
    if path.suffix == ".gguf" or any(path.glob("*.gguf")):
        return "a GGUF file is for llama.cpp and Ollama; inspect the model folder that it was exported from"
    subfolders = sorted(child.name for child in path.glob("*/") if InspectedFolder(child).contents)
    hint = f"; it contains {', '.join(subfolders)}" if subfolders else ""
    return f"neither an artifact, a model nor a tokenizer folder{hint}"


def _run_checks(folder: InspectedFolder) -> Iterator[Finding]:
    """Run every check that the folder has the contents for; a file that cannot be read is a problem, once."""
    for required, check in _CHECKS:
        if folder.contents.issuperset(required):
            try:
                yield from check(folder)
            except LepError as error:
                yield Problem(str(error))


def _describe_artifact(folder: InspectedFolder) -> Iterator[Finding]:
    manifest = read_manifest(folder.path)
    result = parse_stage_result(manifest.result, stage=manifest.stage, path=folder.path / MANIFEST)
    group = "artifact"
    yield Fact(group, "stage", f"{manifest.stage}, finished {manifest.finished_at}, {manifest.seconds:.0f} s")
    yield Fact(group, "fingerprint", manifest.fingerprint)
    for check in result.checks if isinstance(result, RetokenizationResult) else ():
        value = f"{check.passed:,} of {check.total:,}" + ("" if check.required else " (not required)")
        yield Fact(group, f"check: {check.name.replace('_', ' ')}", value)


def _describe_tokenizer(folder: InspectedFolder) -> Iterator[Finding]:
    file = folder.tokenizer
    kinds = file.vocabulary.kinds
    unused = sum(kind is TokenKind.UNUSED for kind in kinds)
    group = "tokenizer"
    yield Fact(group, "type", f"{file.tokenizer_json['model'].get('type', 'BPE')}, {file.scheme.replace('_', '-')}")
    yield Fact(group, "tokens", f"{len(kinds) - unused:,}, {len(file.added_tokens):,} of them added or special")
    if unused:
        yield Fact(group, "unused ids", f"{format_count(unused, 'id')} without a token")


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[InspectedFolder], Iterator[Finding]]], ...] = (
    (("artifact",), _describe_artifact),
    (("model",), check_shapes),
    (("tokenizer",), _describe_tokenizer),
    (("tokenizer",), check_special_ids),
    (("tokenizer", "settings"), check_chat_template),
    (("model",), check_embedding_rows),
    (("tokenizer",), check_tokenizer_loading),
    (("model",), check_model_loading),
    (("settings",), check_transformers_4),
    (("model",), check_vllm),
    (("tokenizer",), check_llama_cpp),
)
"""Contents that each check requires, and the check, in the order of the output."""
