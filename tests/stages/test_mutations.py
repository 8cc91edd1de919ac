"""Whatever is broken in its inputs, propagate ends with a clear error and no result, or with a right result."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import logging

from lep import pipeline
from lep.errors import LepError

from .family import World, make_world
from .mutations import KINDS, Mutation, mutations
from .oracle import check_result

MUTATIONS = mutations()

CLEAR = re.compile(r"; |expected|must|should|required|[Cc]hoose|\?|give|no earlier stage")
"""An error says what was expected or what to do, not only what was found."""


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """No progress bars, no warnings; one thread, which is faster for products this small."""
    logging.disable_progress_bar()
    verbosity, threads = logging.get_verbosity(), torch.get_num_threads()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    root = tmp_path_factory.mktemp("worlds")
    one, three = KINDS
    return {
        one: make_world(root / "one", tied=True, dtype=torch.float32, shards=1),
        three: make_world(root / "three", tied=False, dtype=torch.bfloat16, shards=3),
    }


def contents(world: World, *, result: bool) -> dict[str, str]:
    """The contents of every file and the targets of links, without the unfinished folder and, optionally, `out`."""
    excluded = [f"{world.out}.partial", *([] if result else [f"{world.out}/"])]
    paths = (Path(place, name) for place, folders, files in os.walk(world.root) for name in (*folders, *files))
    return {str(path): describe(path) for path in paths if not f"{path}/".startswith(tuple(excluded))}


def describe(path: Path) -> str:
    if path.is_symlink():
        return f"link {path.readlink()}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run propagate as the command does."""
    steps = pipeline.build_stage_steps(
        "propagate", [f"{key}={value}" for key, value in {"out": world.out, **world.settings}.items()]
    )
    with monkeypatch.context() as patched:
        for place, value in world.patches.items():
            patched.setattr(place, value)
        pipeline.run_steps(steps, replace=False, on_start=lambda step: None, on_end=lambda step, did: None)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_refused_or_handled(
    worlds: dict[str, World],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutation: Mutation,
) -> None:
    shutil.copytree(worlds[mutation.kind].root, tmp_path / "w")
    world = World(tmp_path / "w")
    mutation.change(world)
    before = contents(world, result=mutation.refused is not None)
    if mutation.refused is None:
        run(world, monkeypatch)
        check_result(world)
    else:
        with pytest.raises(LepError, match=f"(?s){mutation.refused}") as caught:
            run(world, monkeypatch)
        assert CLEAR.search(str(caught.value)), caught.value
    after = contents(world, result=mutation.refused is not None)
    allowed = {str(world.loses), *map(str, world.out.parents)}
    assert {name for name in before | after if before.get(name) != after.get(name)} <= allowed


def test_there_are_more_than_two_hundred_mutations() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 200
