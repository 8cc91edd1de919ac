"""A room's folder is whole or not there, is made once, and is never overwritten unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lep.errors import ArtifactError
from lep.io.artifact import MANIFEST, Plan, complete, fingerprint, flatten, is_finished, read_manifest


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "text.txt").write_text("one")
    source = tmp_path / "text.txt"
    settings = {"source": str(source), "knob": 1, "nested": {"list": [1, 2]}}
    return Plan(room="collect", out=tmp_path / "runs" / "corpus", settings=settings, inputs={"source": source})


class Work:
    """Writes a file and counts how often it was asked to; breaks off as often as told."""

    def __init__(self, *, crashes: int = 0) -> None:
        self.calls, self.crashes = 0, crashes
        self.found: list[list[str]] = []

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls += 1
        self.found.append(sorted(path.name for path in folder.iterdir() if path.name != ".work"))
        (folder / f"part{self.calls}").write_text("x")
        if self.calls <= self.crashes:
            raise KeyboardInterrupt
        return {"documents": 3}


def test_a_finished_artifact_says_what_it_is(plan: Plan) -> None:
    assert complete(plan, Work()) is True
    manifest = read_manifest(plan.out)
    assert (manifest.room, manifest.settings, manifest.numbers) == ("collect", plan.settings, {"documents": 3})
    assert (plan.out / manifest.inputs["source"].path).resolve() == plan.inputs["source"]
    assert manifest.inputs["source"].fingerprint == fingerprint(plan.inputs["source"])
    assert manifest.fingerprint == fingerprint(plan.out)
    assert manifest.seconds >= 0 and manifest.peak_memory_bytes > 0 and "torch" in manifest.versions
    assert sorted(path.name for path in plan.out.iterdir()) == [MANIFEST, "part1"]
    assert not plan.partial.exists()


def test_a_crash_leaves_no_artifact_but_what_can_be_resumed(plan: Plan) -> None:
    work = Work(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        complete(plan, work)
    assert not plan.out.exists() and plan.partial.exists() and not is_finished(plan)
    with pytest.raises(ArtifactError, match="interrupted"):
        read_manifest(plan.out)
    assert complete(plan, work) is True
    assert work.found == [[], ["part1"]], "the second try finds what the first one left"
    assert is_finished(plan) and not plan.partial.exists() and not (plan.out / ".work").exists()


def test_time_of_all_tries_is_counted(plan: Plan) -> None:
    work = Work(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        complete(plan, work)
    left = json.loads((plan.partial / ".work").read_text())
    (plan.partial / ".work").write_text(json.dumps(left | {"seconds": 1000.0}))
    complete(plan, work)
    assert read_manifest(plan.out).seconds >= 1000


def test_what_another_fingerprint_left_is_not_resumed(plan: Plan) -> None:
    work = Work(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        complete(plan, work)
    complete(replace(plan, settings={**plan.settings, "knob": 2}), work)
    assert work.found == [[], []]
    assert not (plan.out / "part1").exists()


def test_the_same_fingerprint_is_not_computed_again(plan: Plan) -> None:
    work = Work()
    assert [complete(plan, work), complete(plan, work)] == [True, False]
    assert work.calls == 1 and is_finished(plan)


@pytest.mark.parametrize("change", [{"knob": 2}, {"nested": {"list": [1, 3]}}, {"nested": {"list": [1]}}, {"more": 0}])
def test_one_changed_knob_is_another_artifact(plan: Plan, change: dict[str, Any]) -> None:
    complete(plan, Work())
    changed = replace(plan, settings={**plan.settings, **change})
    assert not is_finished(changed)
    work = Work()
    with pytest.raises(ArtifactError, match="other settings"):
        complete(changed, work)
    assert work.calls == 0 and is_finished(plan)
    assert complete(changed, work, replace=True) is True
    assert is_finished(changed) and read_manifest(plan.out).settings == changed.settings


def test_the_error_names_the_knob_and_its_values(plan: Plan) -> None:
    complete(plan, Work())
    with pytest.raises(ArtifactError, match=r"nested\.list\.1: 2 → 7"):
        complete(replace(plan, settings={**plan.settings, "nested": {"list": [1, 7]}}), Work())


def test_other_contents_of_an_input_are_another_artifact(plan: Plan) -> None:
    complete(plan, Work())
    before = read_manifest(plan.out).fingerprint
    plan.inputs["source"].write_text("two")
    assert not is_finished(plan)
    with pytest.raises(ArtifactError, match="contents of its inputs changed"):
        complete(plan, Work())
    complete(plan, Work(), replace=True)
    assert read_manifest(plan.out).fingerprint != before


def test_the_path_of_an_input_does_not_count(plan: Plan, tmp_path: Path) -> None:
    complete(plan, Work())
    moved = tmp_path / "elsewhere.txt"
    plan.inputs["source"].rename(moved)
    other = replace(plan, settings={**plan.settings, "source": str(moved)}, inputs={"source": moved})
    assert is_finished(other) and not is_finished(plan)


def test_an_input_folder_counts_with_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    (folder / "b").write_text("2")
    seen = {fingerprint(folder)}
    (folder / "b").write_text("3")
    seen.add(fingerprint(folder))
    (folder / "b").rename(folder / "c")
    seen.add(fingerprint(folder))
    assert len(seen) == 3
    with pytest.raises(ArtifactError, match="no such file"):
        fingerprint(tmp_path / "nowhere")


def test_an_artifact_as_input_counts_with_its_fingerprint(plan: Plan) -> None:
    complete(plan, Work())
    later = Plan(room="tune", out=plan.out.with_name("tuned"), settings={}, inputs={"model": plan.out})
    complete(later, Work())
    assert read_manifest(later.out).inputs["model"].fingerprint == read_manifest(plan.out).fingerprint
    assert read_manifest(later.out).inputs["model"].path == "../corpus"


@pytest.mark.parametrize("may_replace", [False, True])
def test_a_foreign_folder_is_never_overwritten(plan: Plan, may_replace: bool) -> None:
    plan.out.mkdir(parents=True)
    (plan.out / "precious").write_text("mine")
    with pytest.raises(ArtifactError, match="not an artifact of lep"):
        complete(plan, Work(), replace=may_replace)
    assert (plan.out / "precious").read_text() == "mine"


def test_another_rooms_artifact_is_not_replaced(plan: Plan) -> None:
    complete(plan, Work())
    with pytest.raises(ArtifactError, match="made by 'collect'"):
        complete(replace(plan, room="tune"), Work(), replace=True)
    assert read_manifest(plan.out).room == "collect"


def test_a_failed_replacement_leaves_the_old_artifact(plan: Plan) -> None:
    complete(plan, Work())
    with pytest.raises(KeyboardInterrupt):
        complete(replace(plan, settings={"knob": 9}), Work(crashes=1), replace=True)
    assert is_finished(plan)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"room": "x", "inputs": {}}', '{"inputs": {"a": 1}}'])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_manifest(tmp_path)


def test_flatten_names_every_value() -> None:
    nested = {"a": {"b": [1, {"c": 2}]}, "d": "x", "e": None, "f": (3,)}
    assert flatten(nested) == {"a.b.0": 1, "a.b.1.c": 2, "d": "x", "e": None, "f.0": 3}


def test_settings_that_say_how_to_work_do_not_count(plan: Plan) -> None:
    free, work = replace(plan, free=frozenset({"knob"})), Work(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        complete(free, work)
    other = replace(free, settings={**plan.settings, "knob": 2})
    assert complete(other, work) and "part1" in work.found[1]  # it went on in the same folder
    assert not complete(free, work) and read_manifest(plan.out).settings["knob"] == 2
