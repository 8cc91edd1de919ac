"""Facts → one HTML page that needs nothing else: no network, no script, no font, no picture from elsewhere.

A section of the page is a template of its name in `templates` and the values that it shows; a section without values
is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lep.io.artifact import flatten
from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name, many, say, speaking
from lep.reporting.page.headline import Comparison, balance, headline
from lep.reporting.page.interval_charts import benchmark_charts, damage_charts, skill_charts, speed_charts
from lep.reporting.page.stage_summaries import story
from lep.reporting.page.training_charts import learning_charts, loss_charts, score_charts
from lep.reporting.page.vocabulary import parts, vocabularies
from lep.reporting.run_data import Facts, Room, versions
from lep.reporting.tables import efficiency, side_effects
from lep.reporting.tables.benchmark import scores
from lep.reporting.tables.cells import told
from lep.reporting.tables.main import main_table
from lep.reporting.tables.paper_comparison import Beside, beside_paper
from lep.results.evaluation import Evaluated
from lep.results.stages import Fit, Propagated

_ROUNDED = "count decimal percent duration memory condition symbols_per_token score signed".split()
_OPEN = 6
"""Answers shown at once; the others unfold."""


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    id: str
    title: str
    body: Markup


def render(facts: Facts, *, title: str, paper: Mapping[str, str] | None = None, language: str = "en") -> str:
    """The page.

    Args:
        facts: what `gather` found.
        title: heading of the page.
        paper: rows of the paper's tables to show our scores beside, by our models' names.
        language: code of the reader's.

    Returns:
        A whole HTML document. Text that models wrote is escaped; the page allows itself no script and no connection.
    """
    with speaking(language):
        templates = _templates(facts)
        found = headline(facts)
        return templates.get_template("page.html.jinja").render(
            title=title,
            language=language,
            balance=balance(found),
            outcome=_outcome(found),
            sections=_sections(facts, templates, paper=paper or {}),
            versions=versions((room.manifest for room in facts.rooms), joined=", "),
        )


def _templates(facts: Facts) -> Environment:
    found = Environment(
        loader=PackageLoader("lep.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {name: getattr(rounding, name) for name in _ROUNDED}
    found.filters |= {"language": language_name, "parts": parts, "told": told, "svg": Markup}
    found.globals |= {"facts": facts, "say": say, "many": many}
    return found


def _sections(facts: Facts, templates: Environment, *, paper: Mapping[str, str]) -> list[Section]:
    """Those that have something to show, in the order of a reader's questions."""
    found = facts.evaluation
    beside = beside_paper(found.benchmark, paper)
    told: dict[str, tuple[str, Mapping[str, Any]]] = {
        "walk": (say("What was done"), {"story": story(facts)}),
        "vocabulary": (say("The vocabulary"), {"vocabularies": vocabularies(facts)}),
        "learning": (
            say("Learning"),
            {"learning": learning_charts(facts), "scored": score_charts(facts), "losses": loss_charts(facts)},
        ),
        "propagation": (say("Propagation"), {"fits": _fits(facts)}),
        "models": (say("Every model"), _models(facts)),
        "benchmark": (say("The benchmark"), _benchmark(facts, beside)),
        "paper": (say("Beside the paper"), {"beside": beside}),
        "efficiency": (say("Speed and memory"), _efficiency(facts)),
        "side-effects": (say("Side effects"), _side_effects(facts)),
        "answers": (say("Answers, side by side"), {"shown": found.answers[:_OPEN], "more": found.answers[_OPEN:]}),
        "continuations": (say("Continuations"), {"continuations": found.continuations}),
        "record": (say("The record"), {"records": _records(facts.rooms)}),
    }
    return [
        Section(name, title, Markup(templates.get_template(f"{name}.html.jinja").render(values)))
        for name, (title, values) in told.items()
        if any(values.values())
    ]


def _fits(facts: Facts) -> list[tuple[str, str, str, Fit]]:
    """Model, method, table and how the fit went."""
    return [
        (room.key.removeprefix("propagate/"), numbers.method, name, fit)
        for room, numbers in facts.of(Propagated)
        for name, fit in numbers.tables.items()
    ]


def _models(facts: Facts) -> dict[str, Any]:
    table = main_table(facts.evaluation, instruct=facts.reference)
    if not table.columns:
        return {}
    return {"table": table, "skills": skill_charts(facts), "counts": _counts(facts.evaluation)}


def _benchmark(facts: Facts, beside: Sequence[Beside]) -> dict[str, Any]:
    if not (found := facts.evaluation.benchmark):
        return {}
    return {"benchmark": scores(found), "charts": benchmark_charts(facts, beside), "beside": beside}


def _efficiency(facts: Facts) -> dict[str, Any]:
    if not (found := facts.evaluation.efficiency):
        return {}
    texts, models = efficiency.by_text(found), efficiency.by_model(found)
    told = {"reference": efficiency.reference(found), "how": efficiency.how(found), "charts": speed_charts(facts)}
    return told | {"texts": texts, "models": models}


def _side_effects(facts: Facts) -> dict[str, Any]:
    if not (found := facts.evaluation.side_effects):
        return {}
    reference, grids = side_effects.reference(found), side_effects.grids(found)
    return {"reference": reference, "grids": grids, "charts": damage_charts(facts)}


def _counts(numbers: Evaluated) -> dict[str, dict[str, str]]:
    """Skill → model → `right/items`, for readers who want the counts behind the chart."""
    skills = dict.fromkeys(skill for model in numbers.models.values() for skill in model.skills or {})
    return {
        skill: {
            name: f"{rounding.count(score.correct)} / {rounding.count(score.items)}"
            for name, model in numbers.models.items()
            if model.skills and (score := model.skills.get(skill))
        }
        for skill in skills
    }


def _outcome(found: Sequence[Comparison]) -> list[tuple[Comparison, float]]:
    """Each comparison and the length of its bar, −1 to 1: the logarithm of the gain; a half or a double at the least
    fills its side, so that small changes look small."""
    gains = [log2(item.gain) if item.gain else 0.0 for item in found]
    widest = max(1.0, *map(abs, gains)) if gains else 1.0
    return [(item, gain / widest) for item, gain in zip(found, gains, strict=True)]


def _records(rooms: Sequence[Room]) -> list[dict[str, Any]]:
    """Each room, its share of the longest's time, and its settings; inputs are told with their fingerprints."""
    longest = max(room.manifest.seconds for room in rooms) or 1.0
    return [
        {
            "room": room,
            "share": room.manifest.seconds / longest,
            "settings": {
                name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                for name, value in flatten(room.manifest.settings).items()
                if name not in room.manifest.inputs
            },
        }
        for room in rooms
    ]
