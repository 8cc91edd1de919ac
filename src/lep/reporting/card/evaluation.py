"""Tables on a model card: results of the stages that made the model, and of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.errors import ArtifactError
from lep.io.artifact import MANIFEST, read_manifest
from lep.reporting import formatting
from lep.reporting.i18n import language_name
from lep.reporting.run_data import require_evaluation
from lep.reporting.tables.main import build_main_table
from lep.results.stages import (
    PretrainingResult,
    PropagationResult,
    RetokenizationResult,
    StageResult,
    parse_evaluation_result,
)


@dataclass(frozen=True)
class CardTable:
    """A table of numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    description: str
    """What the numbers mean."""


def build_stage_table(result: StageResult | None, *, name: str) -> CardTable | None:
    """Build the table of a stage's result.

    Args:
        result: Result of the stage.
        name: Folder of the stage.

    Returns:
        The table; None for a stage that has none, or without rows.
    """
    build = _TABLE_BUILDERS.get(type(result))
    table = build(result, name) if build else None
    return table if table and table.rows else None


def render_evaluation_table(evaluation: Path, *, model_fingerprint: str, model: Path) -> str:
    """Render the main table of an evaluation as Markdown, with the row of one model marked.

    Args:
        evaluation: Folder of an artifact of `evaluate`.
        model_fingerprint: Fingerprint of the model.
        model: Folder of the model, named in errors.

    Returns:
        A sentence and the table.

    Raises:
        ArtifactError: The folder is not an evaluation, or the evaluation did not measure this model.
    """
    manifest = read_manifest(evaluation)
    require_evaluation(evaluation, manifest)
    measured = {
        name.removeprefix("models."): item for name, item in manifest.inputs.items() if name.startswith("models.")
    }
    names = [name for name, item in measured.items() if item.fingerprint == model_fingerprint]
    if not names:
        raise ArtifactError(
            f"{evaluation}: measured {', '.join(measured)}, but not {model} as it is now; evaluate this model first"
        )
    table = build_main_table(parse_evaluation_result(manifest.result, path=evaluation / MANIFEST))
    rows = [(f"**{row.model}**" if row.model in names else row.model, *row.cells) for row in table.rows]
    lines = format_markdown_table(("model", *table.columns), rows)
    sentence = (
        f"This model is called **{names[0]}** here. In brackets: the multiple of the first row, or the 95 % interval."
    )
    return "\n".join((sentence, "", *lines))


def format_markdown_table(headings: tuple[object, ...], rows: Sequence[tuple[object, ...]]) -> list[str]:
    """Return the lines of a Markdown table."""
    body = [f"| {' | '.join(map(escape_cell, row))} |" for row in (headings, *rows)]
    return [body[0], f"|{'---|' * len(headings)}", *body[1:]]


def escape_cell(value: object) -> str:
    """Return a value as text without line breaks and with escaped bars."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _build_vocabulary_table(result: RetokenizationResult, _: str) -> CardTable:
    rows = [
        (
            language_name(code),
            formatting.format_characters_per_token(change.before),
            formatting.format_characters_per_token(change.after),
            formatting.format_ratio(change.after, change.before),
        )
        for code, change in result.characters_per_token.items()
    ]
    description = "On held-out text. More characters per token mean fewer tokens for the same text."
    return CardTable("Characters per token", ("language", "base", "now", "ratio"), tuple(rows), description)


def _build_training_table(result: PretrainingResult, name: str) -> CardTable:
    bits_by_step = {point.step: point.bits_per_byte for point in result.curve}
    first, best = bits_by_step.get(0, {}), bits_by_step.get(result.best_step, {})
    rows = [
        (language_name(code), formatting.format_bits_per_byte(first.get(code)), formatting.format_bits_per_byte(value))
        for code, value in best.items()
    ]
    description = "On held-out text, before and after this training. Lower is better."
    return CardTable(f"Bits per byte ({name})", ("language", "before", "after"), tuple(rows), description)


def _build_propagation_table(result: PropagationResult, _: str) -> CardTable:
    rows = [
        (
            matrix,
            result.method,
            formatting.format_percent(fit.residual),
            formatting.format_percent(fit.residual_heldout),
            formatting.format_percent(fit.coverage),
            formatting.format_condition_number(fit.condition),
        )
        for matrix, fit in result.fits.items()
    ]
    headings = ("matrix", "method", "residual", "residual, held-out rows", "coverage", "condition number")
    description = (
        "Residual: the share of the difference between base and instruct rows that the linear map does not explain. "
        "Held-out rows are not used in the fit. Coverage: the share of the vocabulary among the fitted rows."
    )
    return CardTable("Propagation", headings, tuple(rows), description)


_TABLE_BUILDERS: Mapping[type, Callable[[Any, str], CardTable]] = {
    RetokenizationResult: _build_vocabulary_table,
    PretrainingResult: _build_training_table,
    PropagationResult: _build_propagation_table,
}
"""By type of result; other results have no table."""
