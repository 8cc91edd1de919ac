"""What a model's card says in words: its title, what it is made from, how, and what it is not good for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lep.config import ROOMS, flatten, free
from lep.io.artifact import Manifest
from lep.io.model_folder import read_json
from lep.reporting import formatting as rounding
from lep.reporting.card.evaluation import section
from lep.reporting.card.licenses import Licence, Limit
from lep.reporting.card.provenance import Lineage, Made, Parent
from lep.reporting.i18n import language_name
from lep.reporting.page.stage_summaries import sentence
from lep.reporting.run_data import versions
from lep.results.stages import Numbers, Pretrained, Retokenized, parse

_ENDINGS = {
    "initialize": ", not trained yet",
    "pretrain": ", pre-trained further",
    "tune": ", tuned on conversations",
    "calibrate": ", calibrated",
}
_SUMMARIES = {
    "initialize": "The rows of its new tokens are means of old ones: a start for continued pre-training, not a model "
    "to use.",
    "pretrain": "A language model with another vocabulary, pre-trained further on text.",
    "tune": "A model that was tuned on conversations.",
    "propagate": "An instruct model with another vocabulary: what its base learnt for the new tokens was carried over "
    "in closed form, without any training of the instruct model.",
    "calibrate": "An instruct model with another vocabulary, which then learnt what the instruct model answers with "
    "its own vocabulary.",
}
_CODE = re.compile(r"[a-z]{2,3}")

Told = Sequence[tuple[Made, Numbers | None]]


@dataclass(frozen=True)
class Step:
    """One room in words."""

    room: str
    sources: str
    sentence: str
    time: str
    settings: tuple[str, ...]


def sections(folder: Path, lineage: Lineage) -> dict[str, Any]:
    """Everything that the template shows, but for the evaluation.

    Args:
        folder: the model's.
        lineage: what it is made from.

    Raises:
        ArtifactError: numbers of a room are not as they must be.
    """
    told = [(made, parse(made.manifest.numbers, room=made.manifest.room)) for made in lineage.made]
    language = _language(lineage)
    licences = [one.licence for one in (*lineage.parents, *lineage.texts) if one.licence]
    return {
        "title": _title(lineage, language),
        "notices": list(dict.fromkeys(one.notice for one in licences if one.notice)),
        "summary": " ".join((_SUMMARIES[lineage.made[-1].manifest.room], *_gains(told, language))),
        "warnings": warnings(lineage),
        "chat": _has_template(folder),
        "origins": _origins(lineage),
        "made": [_step(made, numbers, language) for made, numbers in told],
        "numbers": [found for made, numbers in told if (found := section(numbers, name=made.name))],
        "limitations": _limitations(told),
        "versions": _versions(lineage),
        "seconds": rounding.duration(sum(made.manifest.seconds for made in lineage.made)),
    }


def warnings(lineage: Lineage) -> list[str]:
    """What licences forbid, and ask of the name, and which are not known of models."""
    names: dict[Licence, dict[str, None]] = {}
    for one in (*lineage.parents, *lineage.texts):
        if one.licence and (one.licence.limit >= Limit.NO_COMMERCE or one.licence.beginning):
            names.setdefault(one.licence, {})[one.name] = None
    unknown = [one.name for one in lineage.parents if one.is_weights and one.licence is None]
    return [
        *(f"the licence of {' and '.join(of)}, {licence.id}, {licence.words}" for licence, of in names.items()),
        *(f"the licence of {name} is unknown: ask who published it before you share this model" for name in unknown),
    ]


def languages(lineage: Lineage) -> list[str]:
    """Codes of the languages that it learnt from, the one of the vocabulary first, then of its parents'."""
    learnt = [
        code
        for made in lineage.made
        for key in ("mixture", "sources")
        for code in made.manifest.settings.get(key) or ()
    ]
    theirs = [code for parent in lineage.parents if parent.card for code in parent.card.languages]
    return [code for code in dict.fromkeys([_language(lineage), *learnt, *theirs]) if _CODE.fullmatch(code)]


def _language(lineage: Lineage) -> str:
    """The language that most of what the vocabulary, else the training learnt from was in; else the corpus's first."""
    for room, key in (("retokenize", "mixture"), ("pretrain", "mixture"), ("collect", "sources")):
        for made in lineage.made:
            shares = made.manifest.settings.get(key) if made.manifest.room == room else None
            if shares:
                return max(shares, key=lambda code: shares[code]) if key == "mixture" else next(iter(shares))
    return ""


def _title(lineage: Lineage, language: str) -> str:
    """The parent that it is most like, and what was done to it; as a licence wants it to begin."""
    last = lineage.made[-1]
    name = lineage.parents[0].name if lineage.parents else last.name
    if not {made.manifest.room for made in lineage.made}.isdisjoint({"initialize", "propagate"}):
        name += f" with a vocabulary for {language_name(language)}" if language else " with another vocabulary"
    beginning = next((one.licence.beginning for one in lineage.parents if one.licence and one.licence.beginning), "")
    title = name + _ENDINGS.get(last.manifest.room, "")
    return title if title.startswith(beginning or "") else f"{beginning}: {title}"


def _gains(told: Told, language: str) -> list[str]:
    """What the vocabulary is good for, in a sentence."""
    for _, numbers in told:
        change = numbers.symbols_per_token.get(language) if isinstance(numbers, Retokenized) else None
        if change:
            before, after = rounding.symbols_per_token(change.before), rounding.symbols_per_token(change.after)
            return [f"A token holds {after} symbols of {language_name(language)}, before {before}."]
    return []


def _has_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        settings.is_file() and bool(read_json(settings).get("chat_template"))
    )


def _origins(lineage: Lineage) -> list[tuple[str, ...]]:
    """Models and texts that it is made from, with their licences."""
    models = [(", ".join(one.roles), _model(one), *_licence(one.licence)) for one in lineage.parents]
    texts = [
        (one.role, _linked(one.dataset, kind="datasets/") if one.dataset else f"`{one.name}`", *_licence(one.licence))
        for one in lineage.texts
    ]
    return models + texts


def _model(parent: Parent) -> str:
    if parent.hub:
        return _linked(parent.hub)
    return ", from ".join((f"`{parent.name}`", *map(_linked, parent.hub_names)))


def _linked(name: str, *, kind: str = "") -> str:
    """A name on the hub."""
    return f"[{name}](https://huggingface.co/{kind}{name})"


def _licence(found: Licence | None) -> tuple[str, str]:
    if found is None:
        return "unknown: ask", ""
    return (f"[{found.id}]({found.link})" if found.link else found.id), found.words


def _step(made: Made, numbers: Numbers | None, language: str) -> Step:
    sources = ", ".join(f"{role} `{name}`" for role, name in made.sources)
    told = sentence([numbers] if numbers else [], language=language)
    return Step(made.manifest.room, sources, told, rounding.duration(made.manifest.seconds), _settings(made.manifest))


def _settings(manifest: Manifest) -> tuple[str, ...]:
    """All of a room but its inputs and those that do not count, among which are addresses."""
    try:
        known = ROOMS[manifest.room].model_validate(manifest.settings)
    except ValidationError:
        return ("of another version of lep",)
    aside = {*manifest.inputs, *free(known)}
    return tuple(
        f"`{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"
        for key, value in flatten(manifest.settings).items()
        if key not in aside and value is not None
    )


def _limitations(told: Told) -> list[str]:
    rooms = [made.manifest.room for made, _ in told]
    found = [_seen(made, numbers) for made, numbers in told if isinstance(numbers, Pretrained)]
    if rooms[-1] == "initialize":
        found.append("No row of a new token was trained.")
    if rooms[-1] == "propagate":
        found.append("The instruct model never trained with the new tokens: their rows are computed.")
    if "propagate" in rooms:
        found.append(
            "Skills of the instruct model may be lost with its vocabulary where numbers about text do not show it."
        )
    return [
        *found,
        "Languages that it was not trained further on may have become worse.",
        "Whether its answers are safe and true was not measured; what its parents' cards say of biases and use holds "
        "for it, too.",
    ]


def _seen(made: Made, numbers: Pretrained) -> str:
    """How much a training saw of the new tokens."""
    text = f"`{made.name}` learnt from {rounding.magnitude(numbers.trained_tokens)} tokens of text"
    new = made.manifest.numbers.get("new_tokens") or {}
    if not new.get("known"):
        return f"{text}."
    known, never, rarely = (rounding.count(new[key]) for key in ("known", "never_seen", "seen_less_than_100_times"))
    return f"{text}: of {known} new tokens it saw {never} never and {rarely} less than 100 times."


def _versions(lineage: Lineage) -> str:
    found = versions((made.manifest for made in lineage.made), joined=" and ")
    return ", ".join(f"{library} {its}" for library, its in found.items())
