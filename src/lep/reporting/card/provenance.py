"""What a model is made from, found through manifests: the rooms behind it, and the models and texts before them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.io.artifact import MANIFEST, Manifest, read_manifest
from lep.io.model_card import Card, hub_name, model_name, read_card
from lep.reporting.card.licenses import Licence, licence, strictest
from lep.reporting.i18n import language_name

_WEIGHTS = ("instruct", "model", "base", "adapted", "adapter_base")
"""Inputs whose weights go into a model, the ones that it is most like first."""

_MODELS = (*_WEIGHTS, "tokenizer", "pieces", "teacher")
"""Inputs that are models, or as much of one as a tokenizer is."""

_ASIDE = ("judge", "skills")
"""Inputs of which nothing goes into a model."""


@dataclass(frozen=True)
class Made:
    """A room on the way, the model itself last."""

    name: str
    """Its folder."""
    manifest: Manifest
    sources: tuple[tuple[str, str], ...]
    """What it read, as role and name."""


@dataclass(frozen=True)
class Parent:
    """A model that was not made on the way."""

    name: str
    roles: tuple[str, ...]
    folder: Path
    hub: str | None = None
    card: Card | None = None

    @property
    def licence(self) -> Licence | None:
        """The strictest that its card states."""
        stated = self.card.licences if self.card else ()
        return strictest(licence(one.id, link=one.link, on_hub=one.on_hub) for one in stated)

    @property
    def is_weights(self) -> bool:
        """Whether its weights went into the model; else its answers or its vocabulary did."""
        return not set(self.roles).isdisjoint(_WEIGHTS)

    @property
    def hub_names(self) -> tuple[str, ...]:
        """Its own; where it has none, those of the models that its card says it was made from."""
        return (self.hub,) if self.hub else self.card.bases if self.card else ()


@dataclass(frozen=True)
class Text:
    """Text that was learnt from."""

    role: str
    name: str
    licence: Licence | None = None
    dataset: str | None = None
    """Its name on the hub."""


@dataclass(frozen=True)
class Lineage:
    """All that led to a model, in the order in which it was made."""

    made: tuple[Made, ...]
    parents: tuple[Parent, ...]
    texts: tuple[Text, ...]


def trace(folder: Path, manifest: Manifest) -> Lineage:
    """Everything behind a model.

    A model on the way that no longer has its own inputs beside it counts as one that was not made here: its card
    speaks for what it was made from.

    Args:
        folder: the model's; it need not be finished.
        manifest: what its manifest says, or will say.

    Raises:
        ArtifactError: a manifest on the way cannot be read.
    """
    rooms = dict(_rooms(folder.resolve(), manifest))
    made = tuple(Made(_name(place), found, _sources(place, found)) for place, found in rooms.items())
    texts = dict.fromkeys(text for place, found in rooms.items() for text in _texts(place, found))
    return Lineage(made, _parents(rooms), tuple(texts))


def _rooms(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, Manifest]]:
    """Each room after those that it read, perhaps more than once."""
    for _, path in _inputs(folder, manifest):
        if before := _made_here(path):
            yield from _rooms(path, before)
    yield folder, manifest


def _parents(rooms: Mapping[Path, Manifest]) -> tuple[Parent, ...]:
    """The models that no room made, those first that the result is most like."""
    roles: dict[Path, dict[str, None]] = {}
    for place, manifest in rooms.items():
        for role, path in _inputs(place, manifest):
            if role in _MODELS and path not in rooms:
                roles.setdefault(path, {})[role] = None
    found = [
        Parent(model_name(path), tuple(sorted(its, key=_MODELS.index)), path, hub_name(path), read_card(path))
        for path, its in roles.items()
    ]
    return tuple(sorted(found, key=lambda parent: _MODELS.index(parent.roles[0])))


def _inputs(place: Path, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """Role and place of each input; `copies.corpus` is a corpus, `sources.ru.files.0` are sources."""
    for name, item in manifest.inputs.items():
        role = name.removeprefix("copies.").partition(".")[0]
        if role not in _ASIDE:
            yield role, Path(os.path.normpath(place / item.path))


def _made_here(path: Path) -> Manifest | None:
    """The manifest of an artifact, if what it was made from can be followed."""
    if not (path / MANIFEST).is_file():
        return None
    manifest = read_manifest(path)
    models = [before for role, before in _inputs(path, manifest) if role in _MODELS]
    return manifest if all(before.exists() for before in models) else None


def _name(place: Path) -> str:
    """Of a room's folder, also while it works."""
    return place.name.removesuffix(".partial")


def _sources(place: Path, manifest: Manifest) -> tuple[tuple[str, str], ...]:
    return tuple(
        (role, path.name if _made_here(path) else model_name(path))
        for role, path in _inputs(place, manifest)
        if role in _MODELS or role == "corpus"
    )


def _texts(place: Path, manifest: Manifest) -> Iterator[Text]:
    """What a room read of text, by its settings; a corpus that `collect` made is told by `collect`."""
    settings = manifest.settings
    if manifest.room == "collect":
        for language, source in settings.get("sources", {}).items():
            yield _text(f"text, {language_name(language)}", source, key=f"sources.{language}", of=(place, manifest))
    data = settings.get("data")
    if isinstance(data, Mapping):
        for name, source in data.items():
            yield _text("conversations", source, key=f"data.{name}", of=(place, manifest))
    elif data:
        yield _text("conversations", data, key="data", of=(place, manifest))
    if prompts := settings.get("prompts"):
        yield _text("prompts", prompts, key="prompts", of=(place, manifest))
    if isinstance(teacher := settings.get("teacher"), Mapping):
        yield Text("answers", str(teacher["model"]))
    for role, path in _inputs(place, manifest):
        if role == "corpus" and not _made_here(path):
            yield Text("text", path.name)


def _text(role: str, source: str | Mapping[str, Any], *, key: str, of: tuple[Path, Manifest]) -> Text:
    """One source: a path, or files or a data set with what is known of them."""
    place, manifest = of
    paths = [
        Path(os.path.normpath(place / item.path))
        for name, item in manifest.inputs.items()
        if name == key or name.startswith(f"{key}.")
    ]
    about = source if isinstance(source, Mapping) else {}
    dataset = None if paths else about.get("dataset")
    first, *others = [path.name for path in paths] or [str(dataset)]
    name = f"{first} and {len(others)} more" if others else first
    if stated := about.get("license"):
        return Text(role, name, licence(stated), dataset)
    card = read_card(paths[0]) if paths else None
    found = strictest(licence(one.id, link=one.link, on_hub=one.on_hub) for one in card.licences) if card else None
    return Text(role, name, found, dataset)
