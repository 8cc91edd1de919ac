"""Tables of side effects: what an adaptation does to other languages and abilities."""

from __future__ import annotations

from functools import partial

from lep.reporting import formatting
from lep.reporting.i18n import gettext, language_name
from lep.reporting.tables.cells import EMPTY_CELL, Cell, ComparisonTable, Row, build_cell
from lep.results.efficiency import ModelSideEffects, SideEffectResults
from lep.results.statistics import MeasuredValue

_format_whole_percent = partial(formatting.format_percent, places=0)


def find_reference(side_effects: SideEffectResults) -> str:
    """Return the model that the others are compared with; an empty text if there is only one."""
    return next((differences.reference for differences in side_effects.differences.values()), "")


def build_side_effect_tables(side_effects: SideEffectResults) -> list[ComparisonTable]:
    """Build the tables of bits per byte, probes and wrong scripts; a table without columns is left out."""
    tables = (
        _build_bits_per_byte_table(side_effects),
        _build_probe_table(side_effects),
        _build_script_table(side_effects),
    )
    return [table for table in tables if table.columns]


def _build_bits_per_byte_table(side_effects: SideEffectResults) -> ComparisonTable:
    texts = dict.fromkeys(text for model in side_effects.models.values() for text in model.bits_per_byte)
    rows = (
        Row(name, "", tuple(_build_bits_per_byte_cell(side_effects, name, text) for text in texts))
        for name in side_effects.models
    )
    return ComparisonTable(gettext("Bits per byte"), tuple(map(language_name, texts)), tuple(rows))


def _build_bits_per_byte_cell(side_effects: SideEffectResults, name: str, text: str) -> Cell:
    differences = side_effects.differences.get(name)
    return build_cell(
        side_effects.models[name].bits_per_byte.get(text),
        differences.bits_per_byte.get(text) if differences else None,
        formatting.format_bits_per_byte,
        higher_is_better=False,
    )


def _build_probe_table(side_effects: SideEffectResults) -> ComparisonTable:
    probes = dict.fromkeys(probe for model in side_effects.models.values() for probe in model.probes)
    rows = (
        Row(name, "", tuple(_build_probe_cell(side_effects, name, probe) for probe in probes))
        for name in side_effects.models
    )
    return ComparisonTable(gettext("Probes, % correct"), tuple(map(_translate_key, probes)), tuple(rows))


def _build_probe_cell(side_effects: SideEffectResults, name: str, probe: str) -> Cell:
    accuracy, differences = side_effects.models[name].probes.get(probe), side_effects.differences.get(name)
    measure = MeasuredValue(accuracy.score, accuracy.interval) if accuracy else None
    return build_cell(measure, differences.probes.get(probe) if differences else None, _format_percentage_points)


def _format_percentage_points(share: float | None) -> str:
    """Format a share in percent without the sign: a difference of shares is one of percentage points."""
    return formatting.format_decimal(None if share is None else 100 * share, 0)


def _build_script_table(side_effects: SideEffectResults) -> ComparisonTable:
    cells = {name: _build_script_cells(model) for name, model in side_effects.models.items()}
    columns = dict.fromkeys(column for by_column in cells.values() for column in by_column)
    rows = (
        Row(name, "", tuple(by_column.get(column, EMPTY_CELL) for column in columns))
        for name, by_column in cells.items()
    )
    return ComparisonTable(gettext("Answers in another script than expected"), tuple(columns), tuple(rows))


def _build_script_cells(model: ModelSideEffects) -> dict[str, Cell]:
    """Return a cell by source of the answers and expected script."""
    return {
        f"{_translate_key(source)}, {_translate_key(script)}": build_cell(
            MeasuredValue(share.score, share.interval), None, _format_whole_percent
        )
        for source, scripts in model.wrong_script.items()
        for script, share in scripts.items()
    }


def _translate_key(key: str) -> str:
    """Translate the name of a probe, of a source of answers or of a script."""
    names = {
        "arithmetic": gettext("arithmetic"),
        "code": gettext("code"),
        "skills": gettext("skills"),
        "continuations": gettext("continuations"),
        "benchmark": gettext("benchmark"),
        "Cyrillic": gettext("Cyrillic"),
        "Latin": gettext("Latin"),
    }
    return names.get(key, key)
