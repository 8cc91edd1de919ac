"""Side effects in tables: what an adaptation does to other languages and abilities."""

from __future__ import annotations

from functools import partial

from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name, say
from lep.reporting.tables.cells import NOTHING, Grid, Line, Marked, marked
from lep.results.efficiency import Affected, SideEffects, Value

_percent = partial(rounding.percent, places=0)


def _points(share: float | None) -> str:
    """In per cent, without the sign: a difference is one of percentage points."""
    return rounding.decimal(None if share is None else 100 * share, 0)


def reference(effects: SideEffects) -> str:
    """The model that the others are compared with; empty when there is only one."""
    return next((less.against for less in effects.differences.values()), "")


def grids(effects: SideEffects) -> list[Grid]:
    """Bits per byte, probes, answers in another script; what was not measured is not there."""
    found = (
        Grid(say("Bits per byte"), tuple(map(language_name, texts(effects))), tuple(_bits(effects))),
        _probes(effects),
        _scripts(effects),
    )
    return [grid for grid in found if grid.columns]


def texts(effects: SideEffects) -> list[str]:
    """Languages, and other kinds of text."""
    return list(dict.fromkeys(text for model in effects.models.values() for text in model.bits_per_byte))


def _bits(effects: SideEffects) -> list[Line]:
    return [
        Line(
            name,
            "",
            tuple(
                marked(
                    model.bits_per_byte.get(text),
                    effects.differences[name].bits_per_byte.get(text) if name in effects.differences else None,
                    rounding.bits_per_byte,
                    higher=False,
                )
                for text in texts(effects)
            ),
        )
        for name, model in effects.models.items()
    ]


def _probes(effects: SideEffects) -> Grid:
    probes = list(dict.fromkeys(probe for model in effects.models.values() for probe in model.probes))
    lines = tuple(Line(name, "", tuple(_probe(effects, name, probe) for probe in probes)) for name in effects.models)
    return Grid(say("Probes, % right"), tuple(_name(probe) for probe in probes), lines)


def _probe(effects: SideEffects, name: str, probe: str) -> Marked:
    found, less = effects.models[name].probes.get(probe), effects.differences.get(name)
    value = Value(found.score, found.interval) if found else None
    return marked(value, less.probes.get(probe) if less else None, _points)


def _scripts(effects: SideEffects) -> Grid:
    columns = dict.fromkeys(pair for model in effects.models.values() for pair in _pairs(model))
    lines = (
        Line(name, "", tuple(_pairs(model).get(column, NOTHING) for column in columns))
        for name, model in effects.models.items()
    )
    return Grid(say("Answers in another script than expected"), tuple(columns), tuple(lines))


def _pairs(model: Affected) -> dict[str, Marked]:
    """By where answers come from and the script that was expected."""
    return {
        f"{_name(source)}, {_name(script)}": marked(Value(share.score, share.interval), None, _percent)
        for source, scripts in model.wrong_script.items()
        for script, share in scripts.items()
    }


def _name(key: str) -> str:
    """What `evaluate` calls a probe, a source of answers or a script, for people."""
    names = {
        "arithmetic": say("arithmetic"),
        "code": say("code"),
        "skills": say("skills"),
        "continuations": say("continuations"),
        "benchmark": say("benchmark"),
        "Cyrillic": say("Cyrillic"),
        "Latin": say("Latin"),
    }
    return names.get(key, key)
