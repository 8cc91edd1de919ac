"""Every way in which the inputs of propagate are broken: refused with this message, or handled with a right result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import mutations_of_adapters as adapters
from . import mutations_of_families as families
from . import mutations_of_files as files
from . import mutations_of_weights as weights
from .family import World

MODELS = ("base", "adapted", "instruct")
KINDS = ("one file", "three files")


@dataclass(frozen=True)
class Mutation:
    name: str
    kind: str
    change: Callable[[World], object]
    refused: str | None


def _each(changes: weights.Changes, kind: str, *, subject: str, models: tuple[str, ...] = MODELS) -> Iterator[Mutation]:
    for name, (change, refusal) in changes.items():
        for which in models if not isinstance(refusal, dict) else [which for which in models if which in refusal]:
            message = refusal[which] if isinstance(refusal, dict) else refusal
            yield Mutation(
                f"{kind}: {which}: {subject}: {name}",
                kind,
                lambda world, change=change, which=which: change(world.root / which),
                message,
            )


def _all(cases: families.Cases, kind: str, *, subject: str) -> Iterator[Mutation]:
    return (Mutation(f"{kind}: {subject}: {name}", kind, change, message) for name, (change, message) in cases.items())


def mutations() -> list[Mutation]:
    one, three = KINDS
    result = [
        *_each(weights.SHARDS, one, subject="shard"),
        *_each(weights.INDICES, three, subject="index"),
        *_each(weights.TABLES, one, subject="tables"),
        *_each(weights.TABLES, three, subject="tables"),
        *_each(weights.HEADS, three, subject="heads"),
        *_each(files.CONFIGS, one, subject="config"),
        *_each(files.TIED, one, subject="config"),
        *_each(files.UNTIED, three, subject="config"),
        *_each(files.GENERATIONS, one, subject="generation", models=("instruct",)),
        *_each(files.TOKENIZERS, one, subject="tokenizer"),
        *_each(files.CHAT, one, subject="chat"),
        *_all(families.SETTINGS, one, subject="settings"),
        *_all(families.FAMILIES, one, subject="family"),
        *_all(families.FAMILIES, three, subject="family"),
        *_all(families.PLACES, one, subject="place"),
        *_all(families.DISKS, one, subject="disk"),
        *_all(families.DISKS, three, subject="disk"),
        *_all(adapters.BASELESS, one, subject="adapter"),
    ]
    for which in ("instruct", "adapted"):
        result += (
            Mutation(f"{one}: {which}: adapter: {name}", one, adapters.adapter(which, change), message)
            for name, (change, message) in adapters.ADAPTERS.items()
        )
    return result
