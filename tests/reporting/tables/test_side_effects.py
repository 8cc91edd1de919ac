"""Tables of side effects: more bits are worse, more correct answers are better."""

from __future__ import annotations

from typing import Any

from lep.reporting.tables.side_effects import build_side_effect_tables, find_reference
from lep.results.efficiency import SideEffectResults
from lep.results.stages import parse_evaluation_result

from ..made_up import evaluated, side_effects


def parse(results: dict[str, Any]) -> SideEffectResults:
    effects = parse_evaluation_result(evaluated() | {"side_effects": results}).side_effects
    assert effects
    return effects


def test_bits_probes_and_scripts_by_model() -> None:
    effects = parse(side_effects())
    bits, probes, scripts = build_side_effect_tables(effects)
    assert find_reference(effects) == "base"
    assert bits.columns == ("German", "Azerbaijani")
    assert [str(row.cells[0]) for row in (bits.rows[0], bits.rows[2], bits.rows[5])] == [
        "1.500 (1.480–1.520)",
        "1.520 (1.500–1.540)\n+0.020 noise",
        "1.550 (1.530–1.570)\n+0.050 worse",
    ]
    assert probes.columns == ("arithmetic", "code")
    assert [row.cells[0].verdict for row in probes.rows] == ["", "noise", "noise", "better", "better", "better"]
    assert scripts.columns == ("skills, Cyrillic",)
    assert scripts.rows[3].cells[0].value == "3\u00a0%"


def test_only_what_was_measured_has_a_table() -> None:
    results = {"models": {"only": {"bits_per_byte": {"de": {"value": 1.5, "interval": None}}}}, "differences": {}}
    (bits,) = build_side_effect_tables(parse(results))
    assert (str(bits.rows[0].cells[0]), find_reference(parse(results))) == ("1.500", "")
