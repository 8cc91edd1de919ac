"""Tables of speed and memory: per kind of text, and for the model alone."""

from __future__ import annotations

from lep.reporting import formatting
from lep.reporting.i18n import gettext, language_name
from lep.reporting.tables.cells import EMPTY_CELL, Cell, ComparisonTable, Row, build_cell
from lep.results.efficiency import EfficiencyRatios, EfficiencyResults, ModelEfficiency
from lep.results.statistics import MeasuredValue, Ratio


def find_reference(efficiency: EfficiencyResults) -> str:
    """Return the model that the others are compared with; an empty text if there is only one."""
    return next((ratios.reference for ratios in efficiency.ratios.values()), "")


def build_text_tables(efficiency: EfficiencyResults) -> list[ComparisonTable]:
    """Build a table of models × measures for each kind of text, the one that speed was measured on first."""
    texts = dict.fromkeys((efficiency.settings.language, *(t for m in efficiency.models.values() for t in m.texts)))
    columns = (
        gettext("characters per token"),
        gettext("bytes per token"),
        gettext("prefill, characters/s"),
        gettext("generation, characters/s"),
        gettext("KV cache of 1,000 characters"),
        gettext("context, characters"),
    )
    return [
        ComparisonTable(
            language_name(text), columns, tuple(_build_text_row(name, text, efficiency) for name in efficiency.models)
        )
        for text in texts
    ]


def build_model_table(efficiency: EfficiencyResults) -> ComparisonTable:
    """Build the table of what does not depend on the text."""
    columns = (
        gettext("weights"),
        gettext("context, tokens"),
        gettext("prefill, tokens/s"),
        gettext("generation, tokens/s"),
    )
    rows = (_build_model_row(name, model, efficiency.ratios.get(name)) for name, model in efficiency.models.items())
    return ComparisonTable(gettext("For any text"), columns, tuple(rows))


def describe_measurement(efficiency: EfficiencyResults) -> str:
    """Describe how speed was measured."""
    protocol = efficiency.settings
    return gettext(
        "Measured on {device}, in turns with the reference ({rounds} rounds, batch size {batch_size}, {prompt} prompt "
        "tokens, {generated} generated tokens). Characters per second are tokens per second times characters per token "
        "of the text. The numbers are valid for this machine at that time.",
        device=protocol.device,
        rounds=protocol.rounds,
        batch_size=protocol.batch_size,
        prompt=formatting.format_count(protocol.prompt_tokens),
        generated=formatting.format_count(protocol.generated_tokens),
    )


def _build_text_row(name: str, text: str, efficiency: EfficiencyResults) -> Row:
    measures, model_ratios = efficiency.models[name].texts.get(text), efficiency.ratios.get(name)
    if measures is None:
        return Row(name, "", (EMPTY_CELL,) * 6)
    ratios = model_ratios.texts.get(text) if model_ratios else None
    cells = (
        build_cell(
            measures.characters_per_token,
            ratios and ratios.characters_per_token,
            formatting.format_characters_per_token,
        ),
        build_cell(measures.bytes_per_token, None, formatting.format_decimal),
        build_cell(measures.prefill, ratios and ratios.prefill, formatting.format_rate),
        build_cell(measures.decode, ratios and ratios.decode, formatting.format_rate),
        _build_exact_cell(
            measures.kv_cache_bytes_per_1000_characters,
            ratios and ratios.kv_cache_bytes_per_1000_characters,
            formatting.format_bytes,
        ),
        _build_exact_cell(measures.context_characters, ratios and ratios.context_characters),
    )
    return Row(name, "", cells)


def _build_model_row(name: str, model: ModelEfficiency, ratios: EfficiencyRatios | None) -> Row:
    speed, speed_ratios = model.tokens_per_second, ratios and ratios.tokens_per_second
    context = _build_exact_cell(model.context.tokens, None)
    if window := model.context.sliding_window:
        context = Cell(context.value, gettext("window of {n}", n=formatting.format_count(window)))
    cells = (
        _build_exact_cell(model.memory.weight_bytes, ratios and ratios.weight_bytes, formatting.format_bytes),
        context,
        build_cell(speed.prefill, speed_ratios and speed_ratios.prefill, formatting.format_rate),
        build_cell(speed.decode, speed_ratios and speed_ratios.decode, formatting.format_rate),
    )
    return Row(name, "", cells)


def _build_exact_cell(
    value: float | None, ratio: Ratio | None, formatter: formatting.Formatter = formatting.format_count
) -> Cell:
    """Format a value that is counted, not measured: it has no interval."""
    return build_cell(None if value is None else MeasuredValue(value), ratio, formatter)
