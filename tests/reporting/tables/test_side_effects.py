"""Side effects: more bits are worse, more right answers are better, and what was not measured is not there."""

from __future__ import annotations

from lep.reporting.tables.side_effects import grids, reference
from lep.results.efficiency import SideEffects
from lep.results.stages import parse_evaluation

from ..made_up import evaluated, side_effects


def parsed(numbers) -> SideEffects:
    found = parse_evaluation(evaluated() | {"side_effects": numbers}).side_effects
    assert found
    return found


def test_bits_probes_and_scripts_by_model() -> None:
    found = parsed(side_effects())
    bits, probes, scripts = grids(found)
    assert reference(found) == "base"
    assert bits.columns == ("German", "Azerbaijani")
    assert [str(line.cells[0]) for line in (bits.lines[0], bits.lines[2], bits.lines[5])] == [
        "1.500 (1.480–1.520)",
        "1.520 (1.500–1.540)\n+0.020 noise",
        "1.550 (1.530–1.570)\n+0.050 worse",
    ]
    assert probes.columns == ("arithmetic", "code")
    assert [line.cells[0].verdict for line in probes.lines] == ["", "noise", "noise", "better", "better", "better"]
    assert scripts.columns == ("skills, Cyrillic",)
    assert scripts.lines[3].cells[0].value == "3\u00a0%"


def test_only_what_was_measured_has_a_table() -> None:
    numbers = {"models": {"only": {"bits_per_byte": {"de": {"value": 1.5, "interval": None}}}}, "differences": {}}
    (bits,) = grids(parsed(numbers))
    assert (str(bits.lines[0].cells[0]), reference(parsed(numbers))) == ("1.500", "")
