"""Facts → one HTML page that needs nothing else: no network, no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lep.io.artifact import flatten
from lep.reporting import efficiency, rounding, side_effects
from lep.reporting.benchmark import scores
from lep.reporting.evaluated import Evaluated
from lep.reporting.facts import Facts, Room
from lep.reporting.figures import (
    benchmark_charts,
    damage_charts,
    learning_charts,
    loss_charts,
    score_charts,
    skill_charts,
    speed_charts,
)
from lep.reporting.headline import headline, language_name
from lep.reporting.measures import Efficiency, SideEffects
from lep.reporting.numbers import Propagated, Retokenized
from lep.reporting.paper import Beside
from lep.reporting.story import story
from lep.reporting.table import main_table

_MARKS = str.maketrans({" ": "·", "\n": "↵", "\r": "␍", "\t": "⇥"})
_ROUNDED = "count decimal percent duration memory condition symbols_per_token score signed".split()
_OPEN = 6
"""Answers shown at once; the others unfold."""


_PROMISES = {
    "reachable": "new tokens can be reached from their own bytes",
    "old_ids": "old tokens keep their ids",
    "special_ids": "special tokens keep their ids",
    "special_tokens": "special tokens are carried over",
    "settings": "of normalizer, pre-tokenizer and decoder are the base's",
    "base_ids": "texts, with each new token spelt in its pieces, give the base tokenizer's ids",
    "round_trips": "texts come back from their tokens as they do from the base's",
    "sentencepiece": "texts get the same tokens from tokenizer.model",
}
"""What each proof of a vocabulary says, after its count."""


def render(facts: Facts, *, title: str, beside: Sequence[Beside] = ()) -> str:
    """The page.

    Args:
        facts: what `gather` found.
        title: heading of the page.
        beside: models that stand beside the paper's.

    Returns:
        A whole HTML document. Text that models wrote is escaped; the page allows itself no script and no connection.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {name: getattr(rounding, name) for name in _ROUNDED}
    environment.filters |= {"language": language_name, "visible": visible, "safe_svg": Markup}
    template = environment.from_string(_resource("page.html.jinja"))
    sections = _sections(facts) | {"beside": beside}
    return template.render(title=title, css=Markup(_resource("page.css")), facts=facts, **sections)


def visible(token: str) -> str:
    """A token with its white space made visible."""
    return token.translate(_MARKS) or "∅"


def _resource(name: str) -> str:
    return (resources.files("lep.reporting") / name).read_text(encoding="utf-8")


def _sections(facts: Facts) -> dict[str, Any]:
    """What the template shows; an empty value leaves its section out."""
    return {
        "headline": headline(facts),
        "story": story(facts),
        "vocabularies": [(room, numbers, _promises(numbers)) for room, numbers in facts.of(Retokenized)],
        "learning": learning_charts(facts),
        "scored": score_charts(facts),
        "losses": loss_charts(facts),
        "fits": [
            (room.key.removeprefix("propagate/"), numbers.method, name, fit)
            for room, numbers in facts.of(Propagated)
            for name, fit in numbers.tables.items()
        ],
        "table": main_table(facts.evaluation, instruct=facts.reference),
        "skills": skill_charts(facts),
        "counts": _counts(facts.evaluation),
        "benchmark": scores(facts.evaluation.benchmark) if facts.evaluation.benchmark else None,
        "benchmark_charts": benchmark_charts(facts),
        "efficiency": _efficiency(facts.evaluation.efficiency),
        "speed_charts": speed_charts(facts),
        "side_effects": _side_effects(facts.evaluation.side_effects),
        "damage_charts": damage_charts(facts),
        "answers": (facts.evaluation.answers[:_OPEN], facts.evaluation.answers[_OPEN:]),
        "costs": [(room, _share(room, facts)) for room in facts.rooms],
        "settings": {room.key: _settings(room) for room in facts.rooms},
        "inputs": {room.key: room.manifest.inputs for room in facts.rooms},
        "versions": _versions(facts),
    }


def _efficiency(found: Efficiency | None) -> dict[str, Any] | None:
    if found is None:
        return None
    reference = efficiency.reference(found)
    texts, models = efficiency.by_text(found), efficiency.by_model(found)
    return {"reference": reference, "texts": texts, "models": models, "how": efficiency.how(found)}


def _side_effects(found: SideEffects | None) -> dict[str, Any] | None:
    return {"reference": side_effects.reference(found), "grids": side_effects.grids(found)} if found else None


def _promises(numbers: Retokenized) -> list[tuple[bool, str]]:
    """What was promised of a vocabulary, and whether it holds."""
    return [
        (proof.held == proof.of, f"{rounding.count(proof.held)} of {rounding.count(proof.of)} {_PROMISES[proof.name]}")
        for proof in numbers.proofs
        if proof.promised
    ]


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


def _share(room: Room, facts: Facts) -> float:
    longest = max(other.manifest.seconds for other in facts.rooms)
    return room.manifest.seconds / longest if longest else 0.0


def _settings(room: Room) -> dict[str, str]:
    """Settings that are not inputs; those are listed with their fingerprints."""
    flat = flatten(room.manifest.settings)
    return {name: _plain(value) for name, value in flat.items() if name not in room.manifest.inputs}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _versions(facts: Facts) -> Mapping[str, str]:
    """Each library's version, or all of them where rooms differ."""
    found: dict[str, dict[str, None]] = {}
    for room in facts.rooms:
        for library, version in room.manifest.versions.items():
            found.setdefault(library, {})[version] = None
    return {library: ", ".join(versions) for library, versions in found.items()}
