"""The order of the rooms: a recipe becomes steps, and steps become artifacts, each made once.

A recipe is the walk as data: `out:` and one section a room, in the order in which they run. Where a setting names an
input, the name of an earlier room stands for its artifact (`adapted: pretrain`). A list where one value is expected
makes one artifact for each value (`method: [swap, conversion]` gives `propagate/swap` and `propagate/conversion`), a
mapping where a path is expected names them (`instruct: {chat: models/chat}` gives `propagate/chat`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from lep.config import ROOMS, Settings, free, paths, with_paths
from lep.config.recipe import override, read_recipe
from lep.distributed import by_main, hear, is_main, join, tell, world
from lep.errors import LepError, UsageError
from lep.extras import need
from lep.io.artifact import Manifest, Plan, complete, is_finished
from lep.progress import note

_NAME = re.compile(r"\w[\w.+-]*")

_CHECKED = ("propagate",)
"""Rooms whose `check(settings)` tells before any work that inputs do not agree, and `cost(settings)` what it takes."""

_TRAINING = ("collect", "pretrain", "tune", "calibrate")
"""Rooms that need the packages of the extra `train`."""

_MODELS = ("initialize", "pretrain", "tune", "propagate", "calibrate")
"""Rooms whose result is a model, and gets a card."""

_TOGETHER = ("pretrain", "tune", "calibrate")
"""Rooms that many processes work in at once; in the others the main process works and the rest wait."""


_OF_WEIGHTS = ("initialize", "pretrain", "tune", "propagate", "calibrate", "evaluate")
"""Rooms that read models, not only their tokenizers."""


@dataclass(frozen=True)
class Step:
    """One artifact to make: `address` is its place in the run, `propagate/swap`."""

    address: str
    room: str
    settings: Settings
    out: Path

    @property
    def plan(self) -> Plan:
        """What the artifact will be known by."""
        settings = self.settings.model_dump(mode="json")
        describe = _write_card if self.room in _MODELS else None
        return Plan(self.room, self.out, settings, paths(self.settings), free=free(self.settings), describe=describe)


def load_recipe(file: Path, overrides: Sequence[str] = (), *, last: str | None = None) -> list[Step]:
    """The steps of a recipe, resolved and validated.

    Args:
        file: YAML.
        overrides: `room.key=value` or `out=folder`; values are YAML.
        last: what rooms after this one refer to is not looked at.

    Raises:
        UsageError: with every error at once: unknown rooms, unknown keys, wrong types, references to later rooms.
    """
    raw = read_recipe(file)
    for assignment in overrides:
        override(raw, assignment)
    out = Path(str(raw.pop("out", Path("runs") / file.stem)))
    steps: list[Step] = []
    problems: list[str] = []
    known: dict[str, Path] = {}
    beyond = set(list(raw)[list(raw).index(last) + 1 :]) if last in raw else set()
    for room, section in raw.items():
        if room not in ROOMS:
            problems.append(f"{room}: no such room; rooms: {', '.join(ROOMS)}")
            continue
        if not isinstance(section or {}, dict):
            problems.append(f"{room}: expected settings, found {section!r}")
            continue
        for address, values in _sweep(room, section or {}):
            settings = _validated(room, values, address, problems)
            if settings is not None:
                resolved = with_paths(settings, lambda path, known=known: known.get(str(path), path))
                problems += [] if room in beyond else _forward_references(address, resolved, raw)
                steps.append(Step(address, room, resolved, out / address))
            known[address] = out / address
    if problems:
        raise UsageError("\n  ".join([f"{file}:", *problems]))
    return steps


def room_steps(room: str, assignments: Sequence[str]) -> list[Step]:
    """One room from the command line: `key=value …` and `out=folder`; several values of one key are several steps."""
    raw: dict[str, Any] = {}
    for assignment in assignments:
        override(raw, assignment)
    if "out" not in raw:
        raise UsageError(f"{room}: out= is missing: say where the result goes")
    out = Path(str(raw.pop("out")))
    problems: list[str] = []
    found = [(address, _validated(room, values, address, problems)) for address, values in _sweep(room, raw)]
    if problems:
        raise UsageError("\n  ".join([f"{room}:", *problems]))
    return [
        Step(address, room, settings, out / address.removeprefix(room).removeprefix("/"))
        for address, settings in found
        if settings
    ]


def between(steps: Sequence[Step], *, first: str | None, last: str | None) -> list[Step]:
    """The steps from one room to another, both included."""
    rooms = [step.room for step in steps]
    for name in (first, last):
        if name and name not in rooms:
            raise UsageError(f"{name}: not a room of this recipe; it has: {', '.join(dict.fromkeys(rooms))}")
    begin = rooms.index(first) if first else 0
    end = len(rooms) - rooms[::-1].index(last) if last else len(rooms)
    if begin >= end:
        raise UsageError(f"{first} comes after {last} in this recipe: nothing lies between them")
    return list(steps[begin:end])


def check(steps: Sequence[Step]) -> list[str]:
    """What stands in the way of running: inputs that are neither there nor made by an earlier step."""
    made: set[Path] = set()
    problems = []
    for room in dict.fromkeys(step.room for step in steps if step.room in _TRAINING):
        need("train", what=room)
    for step in steps:
        if getattr(step.settings, "benchmark", None):
            need("eval", what=f"{step.room}.benchmark")
    for step in steps:
        for name, path in paths(step.settings).items():
            if path not in made and not path.exists():
                problems.append(f"{step.address}.{name}: {path} is not there, and no earlier room makes it")
            elif path not in made and step.room in _OF_WEIGHTS and name != "tokenizer" and _lacks_weights(path):
                problems.append(
                    f"{step.address}.{name}: {path} has a config.json and no weights; expected .safetensors beside it"
                )
                made.add(path)  # told once
        made.add(step.out)
    if problems:
        return problems
    for step in steps:
        if step.room in _CHECKED:
            import_module(f"lep.stages.{step.room}").check(step.settings)
    return problems


def _lacks_weights(path: Path) -> bool:
    return (path / "config.json").exists() and not any(path.glob("*.safetensors"))


def run(
    steps: Sequence[Step], *, replace: bool, started: Callable[[Step], None], ended: Callable[[Step, bool], None]
) -> None:
    """Make every artifact that is not there yet; one of several processes makes them with the others.

    Args:
        replace: whether artifacts made with other settings may be replaced.
        started, ended: told of each step, in the main process; `ended` also whether there was work to do.
    """
    join()
    if problems := by_main(lambda: check(steps)):
        raise UsageError("\n  ".join(["cannot start:", *problems]))
    for step in steps:
        if is_main():
            started(step)
        work = partial(import_module(f"lep.stages.{step.room}").run, step.settings)
        if step.room in _TOGETHER and world() > 1:
            did = _together(step.plan, work, replace=replace)
        else:
            did = by_main(partial(complete, step.plan, work, replace=replace))
        if is_main():
            ended(step, did)


def _together(plan: Plan, work: Callable[[Path], Mapping[str, Any]], *, replace: bool) -> bool:
    """`complete` in the main process, with `work` done in the others at the same time."""
    if not is_main():
        if hear():
            work(plan.partial)
        return hear()

    def with_others(folder: Path) -> Mapping[str, Any]:
        tell(True)
        return work(folder)

    did = complete(plan, with_others, replace=replace)
    if not did:
        tell(False)
    tell(did)
    return did


def _write_card(folder: Path, manifest: Manifest) -> None:
    """The card of a model. One that cannot be written must not cost the model."""
    try:
        import_module("lep.reporting.card.write").write_card(folder, manifest)
    except LepError as error:
        note(f"no card was written: {error}; `lep card` shows it when that is mended")


def cost(step: Step) -> object | None:
    """What the step will take, where its room can tell and its inputs are there."""
    if step.room not in _CHECKED or not all(path.exists() for path in step.plan.inputs.values()):
        return None
    return import_module(f"lep.stages.{step.room}").cost(step.settings)


def status(step: Step) -> str:
    """`done`, or what running the step would do."""
    if is_finished(step.plan):
        return "done"
    return "goes on" if step.plan.partial.exists() else "to do"


def _sweep(room: str, section: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A section, or one for each value where one is expected and a list, or a mapping of names to paths, stands."""
    knobs = ROOMS[room].model_fields
    swept = [key for key, value in section.items() if key in knobs and _is_several(knobs[key].annotation, value)]
    if len(swept) > 1:
        raise UsageError(f"{room}: only one setting can have several values; these do: {', '.join(swept)}")
    if not swept:
        yield room, dict(section)
        return
    values = section[swept[0]]
    if not values:
        raise UsageError(f"{room}.{swept[0]}: no value; give at least one")
    named = list(values.items()) if isinstance(values, Mapping) else [(Path(str(v)).name, v) for v in values]
    if len(dict(named)) < len(named):
        raise UsageError(f"{room}.{swept[0]}: two values of one name; name them apart: {{first: …, second: …}}")
    for name, value in named:
        if not _NAME.fullmatch(str(name)):
            raise UsageError(f"{room}.{swept[0]}: {name!r} cannot name a result; use letters, digits, and -_.+ within")
        yield f"{room}/{name}", dict(section) | {swept[0]: value}


def _is_several(expected: Any, value: object) -> bool:
    if isinstance(value, Mapping):
        return expected is Path
    return isinstance(value, list) and get_origin(expected) not in (list, tuple)


def _validated(room: str, values: Mapping[str, Any], address: str, problems: list[str]) -> Settings | None:
    try:
        return ROOMS[room].model_validate(values)
    except ValidationError as error:
        for item in error.errors():
            parts = [part for part in map(str, item["loc"]) if "[" not in part]  # else pydantic's name of a type
            place = ".".join((address, *parts))
            unknown = item["type"] == "extra_forbidden" and len(parts) == 1
            hint = f"; knobs: {', '.join(ROOMS[room].model_fields)}" if unknown else ""
            problems.append(f"{place}: {item['msg']}{hint}")
        if (words := f"`lep explain {room}` says what each knob takes") not in problems:
            problems.append(words)
        return None


def _forward_references(address: str, settings: Settings, raw: Mapping[str, Any]) -> list[str]:
    """References that were not resolved although the recipe has a room of that name."""
    return [
        f"{address}.{name}: {path} is a room that comes later, or has several results (as propagate/swap); "
        "name an earlier room"
        for name, path in paths(settings).items()
        if str(path).split("/")[0] in raw and not path.exists()
    ]
