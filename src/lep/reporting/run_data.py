"""From the manifest of an evaluation to everything that led to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lep.config import ROOMS
from lep.errors import ArtifactError
from lep.io.artifact import MANIFEST, Manifest, read_manifest
from lep.results.evaluation import Evaluated
from lep.results.stages import Calibrated, Numbers, Propagated, parse, parse_evaluation

T = TypeVar("T")

_RESULTS = ("calibrated", "conversion")
"""Names of what a walk leads to, the last first."""


@dataclass(frozen=True)
class Room:
    """One finished artifact of the run."""

    key: str
    """Its folder below the evaluation's home: `pretrain`, `propagate/swap`; of another home, its room and name."""
    folder: Path
    manifest: Manifest
    numbers: Numbers | None
    """None: a room that the page has no section for."""


@dataclass(frozen=True)
class Facts:
    """All that a page tells: the rooms in the order of the walk, and who is compared with whom."""

    rooms: tuple[Room, ...]
    evaluation: Evaluated
    language: str
    """The language that the new vocabulary is for."""
    result: str
    """The model that the page is about: the one called `calibrated`, else `conversion`, else the last."""
    reference: str
    """The model that the result is compared with: the instruct model that it came from, else the first."""

    def of(self, kind: type[T]) -> list[tuple[Room, T]]:
        """The rooms whose numbers are of one kind."""
        return [(room, room.numbers) for room in self.rooms if isinstance(room.numbers, kind)]


def gather(evaluation: Path) -> Facts:
    """Everything that led to an evaluation, found through the inputs that manifests name.

    Args:
        evaluation: folder of an artifact of `evaluate`.

    Raises:
        ArtifactError: the folder, or an artifact before it, has a broken manifest; or it is of another room.
    """
    first = _read(evaluation)
    require_evaluation(evaluation, first.manifest)
    rooms = _walk(first)
    numbers = parse_evaluation(first.manifest.numbers, where=evaluation / MANIFEST)
    result = next((name for name in _RESULTS if name in numbers.models), list(numbers.models)[-1])
    reference = _reference(result, rooms=rooms, first=first, models=numbers.models)
    return Facts(rooms, numbers, _language(rooms, numbers), result, reference)


def require_evaluation(folder: Path, manifest: Manifest) -> None:
    """`ArtifactError` when a folder with this manifest is not of `evaluate`."""
    if manifest.room != "evaluate":
        raise ArtifactError(
            f"{folder / MANIFEST}: expected an evaluation, found an artifact of {manifest.room!r}; give the folder "
            "that `lep evaluate` wrote"
        )


def versions(manifests: Iterable[Manifest], *, joined: str) -> dict[str, str]:
    """Each library's version, or all of them where rooms differ."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        for library, version in manifest.versions.items():
            found.setdefault(library, {})[version] = None
    return {library: joined.join(its) for library, its in found.items()}


def _read(folder: Path) -> Room:
    try:
        manifest = read_manifest(folder)
        numbers = parse(manifest.numbers, room=manifest.room, where=folder / MANIFEST)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}. The page needs every artifact whole: make {folder} again with `lep run`, then report again"
        ) from None
    return Room(folder.name, folder.resolve(), manifest, numbers)


def _walk(first: Room) -> tuple[Room, ...]:
    """Breadth first up the inputs, each folder once; then in the order of the walk."""
    found = {first.folder: first}
    queue = deque([first])
    while queue:
        room = queue.popleft()
        for path in _inputs(room).values():
            if path not in found and (path / MANIFEST).is_file():
                found[path] = _read(path)
                queue.append(found[path])
    order = {name: index for index, name in enumerate(ROOMS)}
    ordered = sorted(found.values(), key=lambda room: order.get(room.manifest.room, len(order)))
    home = first.folder.parent
    return tuple(replace(room, key=_key(room, home)) for room in ordered)


def _inputs(room: Room) -> dict[str, Path]:
    return {name: (room.folder / item.path).resolve() for name, item in room.manifest.inputs.items()}


def _key(room: Room, home: Path) -> str:
    """Below `home` its path; elsewhere what it would be called in a recipe."""
    if room.folder.is_relative_to(home):
        return room.folder.relative_to(home).as_posix()
    name = room.manifest.room
    return name if room.folder.name == name else f"{name}/{room.folder.name}"


def _reference(result: str, *, rooms: tuple[Room, ...], first: Room, models: Mapping[str, object]) -> str:
    """The instruct model that the result was propagated into, or calibrated by, if it was evaluated too; else by name;
    else the first."""
    evaluated = {name: path for name, path in _inputs(first).items() if name.startswith("models.")}
    home = evaluated.get(f"models.{result}")
    for room in rooms:
        if room.folder == home and isinstance(room.numbers, Propagated | Calibrated):
            instruct = _inputs(room).get("instruct") or _inputs(room).get("teacher")
            for name in models:
                if instruct is not None and evaluated.get(f"models.{name}") == instruct:
                    return name
    return "instruct" if "instruct" in models else next(iter(models))


def _language(rooms: tuple[Room, ...], numbers: Evaluated) -> str:
    """The language that most of what `retokenize` learnt from was in; else the first one measured."""
    measured = numbers.languages()
    for room in rooms:
        mixture = room.manifest.settings.get("mixture") if room.manifest.room == "retokenize" else None
        shares = {language: share for language, share in (mixture or {}).items() if language in measured}
        if shares:
            return max(shares, key=lambda language: shares[language])
    return next(iter(measured), "")
