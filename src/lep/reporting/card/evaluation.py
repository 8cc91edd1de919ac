"""The numbers on a model's card: what rooms measured on the way, and what an evaluation found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.errors import ArtifactError
from lep.io.artifact import MANIFEST, read_manifest
from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name
from lep.reporting.run_data import require_evaluation
from lep.reporting.tables.main import main_table
from lep.results.stages import Numbers, Pretrained, Propagated, Retokenized, parse_evaluation


@dataclass(frozen=True)
class Section:
    """A table of numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: str
    """What they are."""


def section(numbers: Numbers | None, *, name: str) -> Section | None:
    """The table of one room; none of a room that has none.

    Args:
        numbers: of the room.
        name: the room's folder.
    """
    tell = _SECTIONS.get(type(numbers))
    found = tell(numbers, name) if tell else None
    return found if found and found.rows else None


def evaluated(evaluation: Path, *, identity: str, model: Path) -> str:
    """The table of an evaluation as Markdown, with the row of one model marked.

    Args:
        evaluation: folder of an artifact of `evaluate`.
        identity: the model's fingerprint.
        model: its folder, to name in an error.

    Raises:
        ArtifactError: it is no evaluation, or one of other models.
    """
    manifest = read_manifest(evaluation)
    require_evaluation(evaluation, manifest)
    measured = {name: item for name, item in manifest.inputs.items() if name.startswith("models.")}
    own = [name.removeprefix("models.") for name, item in measured.items() if item.fingerprint == identity]
    if not own:
        names = ", ".join(name.removeprefix("models.") for name in measured)
        raise ArtifactError(f"{evaluation}: measured {names}, and {model} as it is now is none of them; evaluate it")
    table = main_table(parse_evaluation(manifest.numbers, where=evaluation / MANIFEST))
    rows = [(f"**{row.model}**" if row.model in own else row.model, *row.cells) for row in table.rows]
    lines = markdown(("model", *table.columns), rows)
    words = f"This model is called **{own[0]}** here. In brackets: times the first row, or the 95 % interval."
    return "\n".join((words, "", *lines))


def markdown(headings: tuple[object, ...], rows: Sequence[tuple[object, ...]]) -> list[str]:
    """The lines of a table."""
    body = [f"| {' | '.join(map(cell, row))} |" for row in (headings, *rows)]
    return [body[0], f"|{'---|' * len(headings)}", *body[1:]]


def cell(value: object) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _vocabulary(numbers: Retokenized, _: str) -> Section:
    rows = [
        (
            language_name(code),
            rounding.symbols_per_token(one.before),
            rounding.symbols_per_token(one.after),
            rounding.ratio(one.after, one.before),
        )
        for code, one in numbers.symbols_per_token.items()
    ]
    words = "Of held-out text. The more, the fewer tokens a text takes."
    return Section("Symbols per token", ("language", "base", "now", "times"), tuple(rows), words)


def _training(numbers: Pretrained, name: str) -> Section:
    curve = {point.step: point.bits_per_byte for point in numbers.curve}
    first, best = curve.get(0, {}), curve.get(numbers.best_step, {})
    rows = [
        (language_name(code), rounding.bits_per_byte(first.get(code)), rounding.bits_per_byte(value))
        for code, value in best.items()
    ]
    words = "Of held-out text, before any row of the training moved and after it. The less, the better it predicts."
    return Section(f"Bits per byte ({name})", ("language", "before", "after"), tuple(rows), words)


def _propagation(numbers: Propagated, _: str) -> Section:
    rows = [
        (
            table,
            numbers.method,
            rounding.percent(fit.residual),
            rounding.percent(fit.residual_heldout),
            rounding.percent(fit.coverage),
            rounding.condition(fit.condition),
        )
        for table, fit in numbers.tables.items()
    ]
    headings = ("table", "method", "left on fitted rows", "left on other rows", "coverage", "condition")
    words = (
        "Left: the share of the difference between base and instruct rows that the map from one to the other does not "
        "explain. Coverage: the share of the vocabulary among the fitted rows."
    )
    return Section("Propagation", headings, tuple(rows), words)


_SECTIONS: dict[type, Callable[[Any, str], Section]] = {
    Retokenized: _vocabulary,
    Pretrained: _training,
    Propagated: _propagation,
}
