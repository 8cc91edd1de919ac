"""The card of a model or a data set that others published: the front matter of its README.md, and its licence files."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from lep.io.model_folder import read_json

CARD = "README.md"
"""A model's card in its folder, as the hub expects it."""

PARENTS = "parents"
"""In the folder of a model that lep made: cards and licences of the models that it is made from, by name."""

_LEGAL = re.compile(r"(licen[cs]e|notice|copying|use_policy|terms)[^/]*", re.IGNORECASE)
_IN_CACHE = re.compile(r"models--([^/]+?)--([^/]+)")
_BEFORE = r"(?:huggingface\.co/|hf\.co/|(?<![^\s\"'`(\[]))"


@dataclass(frozen=True)
class StatedLicence:
    """A licence as a card states it."""

    id: str
    """The hub's identifier; where that is `other`, the name that the card gives."""
    link: str | None = None
    on_hub: bool = True
    """Whether `id` is the hub's."""


@dataclass(frozen=True)
class Card:
    """What a card's front matter says."""

    licences: tuple[StatedLicence, ...] = ()
    languages: tuple[str, ...] = ()
    pipeline: str | None = None
    bases: tuple[str, ...] = ()
    """Hub names of the models that it was made from."""


def read_card(folder: Path) -> Card | None:
    """The card in a folder; none where there is none. Front matter that is no YAML says nothing."""
    file = folder / CARD
    if not file.is_file():
        return None
    match = REGEX_YAML_BLOCK.search(file.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        data: Any = yaml.safe_load(match.group(2)) if match else {}
    except yaml.YAMLError:
        data = {}
    data = data if isinstance(data, dict) else {}
    pipeline = data.get("pipeline_tag")
    return Card(
        _licences(data),
        _words(data.get("language")),
        pipeline if isinstance(pipeline, str) else None,
        _words(data.get("base_model")),
    )


def hub_name(folder: Path) -> str | None:
    """`owner/name` of a model on the hub, where its folder tells.

    The hub's cache is laid out by names. Elsewhere the card and the configuration name many models: only a name that
    ends as the folder is called is taken for the model's own.
    """
    if match := _IN_CACHE.search(folder.as_posix()):
        return f"{match[1]}/{match[2]}"
    texts = []
    if (folder / CARD).is_file():
        texts.append((folder / CARD).read_text(encoding="utf-8", errors="replace"))
    if (folder / "config.json").is_file():
        texts.append(str(read_json(folder / "config.json").get("_name_or_path", "")))
    own = re.compile(rf"{_BEFORE}([A-Za-z0-9][\w.-]*/{re.escape(folder.name)})(?!\.?\w|-)")
    return next((match[1] for text in texts if (match := own.search(text))), None)


def model_name(folder: Path) -> str:
    """What to call a model: the last part of its name on the hub, else its folder."""
    return (hub_name(folder) or folder.name).rpartition("/")[2]


def legal_files(folder: Path) -> list[Path]:
    """A folder's card, licences, notices and terms of use."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.is_file() and (f.name == CARD or _LEGAL.fullmatch(f.name)))


def keep_parents(parents: Sequence[Path], target: Path) -> None:
    """Copy the cards and licences of a model's parents into `target/parents/NAME`; of one that has such, these, too.

    A second parent of one name is called `NAME-2`.
    """
    seen: Counter[str] = Counter()
    for parent in parents:
        name = model_name(parent)
        seen[name] += 1
        place = target / PARENTS / (name if seen[name] == 1 else f"{name}-{seen[name]}")
        for file in legal_files(parent):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / file.name)
        if (parent / PARENTS).is_dir():
            shutil.copytree(parent / PARENTS, target / PARENTS, dirs_exist_ok=True)


def _licences(data: dict[str, Any]) -> tuple[StatedLicence, ...]:
    """`other` stands for the name and the link beside it; `unknown` states nothing."""
    name, link = data.get("license_name"), data.get("license_link")
    link = link if isinstance(link, str) else None
    found = [id_ for id_ in _words(data.get("license")) if id_ != "unknown" and (id_ != "other" or name)]
    return tuple(StatedLicence(str(name), link, False) if id_ == "other" else StatedLicence(id_, link) for id_ in found)


def _words(value: object) -> tuple[str, ...]:
    """One word, or a list of them; YAML reads the language `no` as a truth value."""
    several = value if isinstance(value, list) else [value]
    return tuple("no" if item is False else item for item in several if isinstance(item, str) or item is False)
