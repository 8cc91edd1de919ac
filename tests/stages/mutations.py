"""Every way in which the inputs of propagate are broken, and how it must end: refused in these words, or right."""

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


def _each(changes: weights.Changes, kind: str, *, what: str, models: tuple[str, ...] = MODELS) -> Iterator[Mutation]:
    for name, (change, refusal) in changes.items():
        for which in models if not isinstance(refusal, dict) else [which for which in models if which in refusal]:
            words = refusal[which] if isinstance(refusal, dict) else refusal
            yield Mutation(
                f"{kind}: {which}: {what}: {name}",
                kind,
                lambda world, change=change, which=which: change(world.root / which),
                words,
            )


def _all(cases: families.Cases, kind: str, *, what: str) -> Iterator[Mutation]:
    return (Mutation(f"{kind}: {what}: {name}", kind, change, words) for name, (change, words) in cases.items())


def mutations() -> list[Mutation]:
    one, three = KINDS
    found = [
        *_each(weights.SHARDS, one, what="shard"),
        *_each(weights.INDICES, three, what="index"),
        *_each(weights.TABLES, one, what="tables"),
        *_each(weights.TABLES, three, what="tables"),
        *_each(weights.HEADS, three, what="heads"),
        *_each(files.CONFIGS, one, what="config"),
        *_each(files.TIED, one, what="config"),
        *_each(files.UNTIED, three, what="config"),
        *_each(files.GENERATIONS, one, what="generation", models=("instruct",)),
        *_each(files.TOKENIZERS, one, what="tokenizer"),
        *_each(files.CHAT, one, what="chat"),
        *_all(families.SETTINGS, one, what="settings"),
        *_all(families.FAMILIES, one, what="family"),
        *_all(families.FAMILIES, three, what="family"),
        *_all(families.PLACES, one, what="place"),
        *_all(families.DISKS, one, what="disk"),
        *_all(families.DISKS, three, what="disk"),
        *_all(adapters.BASELESS, one, what="adapter"),
    ]
    for which in ("instruct", "adapted"):
        found += (
            Mutation(f"{one}: {which}: adapter: {name}", one, adapters.adapter(which, change), words)
            for name, (change, words) in adapters.ADAPTERS.items()
        )
    return found
