"""The folder of a stage is whole or absent, is made once, and is not overwritten without being asked."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lep.errors import ArtifactError
from lep.io.artifact import (
    MANIFEST,
    ArtifactPlan,
    build_artifact,
    compute_fingerprint,
    flatten,
    is_finished,
    read_manifest,
)


@pytest.fixture
def plan(tmp_path: Path) -> ArtifactPlan:
    (tmp_path / "text.txt").write_text("one")
    source = tmp_path / "text.txt"
    settings = {"source": str(source), "seed": 1, "nested": {"list": [1, 2]}}
    return ArtifactPlan(stage="collect", out=tmp_path / "runs" / "corpus", settings=settings, inputs={"source": source})


@dataclass(frozen=True)
class CountingResult:
    """The result of a stage."""

    documents: int


class CountingStage:
    """Writes a file and counts its calls; the first `crashes` of them are interrupted."""

    def __init__(self, *, crashes: int = 0) -> None:
        self.calls, self.crashes = 0, crashes
        self.files_before: list[list[str]] = []

    def __call__(self, folder: Path) -> CountingResult:
        self.calls += 1
        self.files_before.append(sorted(path.name for path in folder.iterdir() if path.name != ".work"))
        (folder / f"part{self.calls}").write_text("x")
        if self.calls <= self.crashes:
            raise KeyboardInterrupt
        return CountingResult(documents=3)


def test_manifest_of_a_finished_artifact(plan: ArtifactPlan) -> None:
    assert build_artifact(plan, CountingStage()) is True
    manifest = read_manifest(plan.out)
    assert (manifest.stage, manifest.settings, manifest.result) == ("collect", plan.settings, {"documents": 3})
    assert (plan.out / manifest.inputs["source"].path).resolve() == plan.inputs["source"]
    assert manifest.inputs["source"].fingerprint == compute_fingerprint(plan.inputs["source"])
    assert manifest.fingerprint == compute_fingerprint(plan.out)
    assert manifest.seconds >= 0 and manifest.peak_memory_bytes > 0 and "torch" in manifest.versions
    assert sorted(path.name for path in plan.out.iterdir()) == [MANIFEST, "part1"]
    assert not plan.partial_folder.exists()


def test_a_crash_leaves_no_artifact_but_what_can_be_resumed(plan: ArtifactPlan) -> None:
    work = CountingStage(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        build_artifact(plan, work)
    assert not plan.out.exists() and plan.partial_folder.exists() and not is_finished(plan)
    with pytest.raises(ArtifactError, match="interrupted"):
        read_manifest(plan.out)
    assert build_artifact(plan, work) is True
    assert work.files_before == [[], ["part1"]], "the second try finds what the first one left"
    assert is_finished(plan) and not plan.partial_folder.exists() and not (plan.out / ".work").exists()


def test_seconds_of_interrupted_runs_are_added(plan: ArtifactPlan) -> None:
    work = CountingStage(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        build_artifact(plan, work)
    state = json.loads((plan.partial_folder / ".work").read_text())
    (plan.partial_folder / ".work").write_text(json.dumps(state | {"seconds": 1000.0}))
    build_artifact(plan, work)
    assert read_manifest(plan.out).seconds >= 1000


def test_work_of_another_fingerprint_is_not_resumed(plan: ArtifactPlan) -> None:
    work = CountingStage(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        build_artifact(plan, work)
    build_artifact(replace(plan, settings={**plan.settings, "seed": 2}), work)
    assert work.files_before == [[], []]
    assert not (plan.out / "part1").exists()


def test_the_same_fingerprint_is_not_computed_again(plan: ArtifactPlan) -> None:
    work = CountingStage()
    assert [build_artifact(plan, work), build_artifact(plan, work)] == [True, False]
    assert work.calls == 1 and is_finished(plan)


@pytest.mark.parametrize("change", [{"seed": 2}, {"nested": {"list": [1, 3]}}, {"nested": {"list": [1]}}, {"more": 0}])
def test_one_changed_setting_is_another_artifact(plan: ArtifactPlan, change: dict[str, Any]) -> None:
    build_artifact(plan, CountingStage())
    changed = replace(plan, settings={**plan.settings, **change})
    assert not is_finished(changed)
    work = CountingStage()
    with pytest.raises(ArtifactError, match="other settings"):
        build_artifact(changed, work)
    assert work.calls == 0 and is_finished(plan)
    assert build_artifact(changed, work, replace=True) is True
    assert is_finished(changed) and read_manifest(plan.out).settings == changed.settings


def test_the_error_names_the_setting_and_its_values(plan: ArtifactPlan) -> None:
    build_artifact(plan, CountingStage())
    with pytest.raises(ArtifactError, match=r"nested\.list\.1: 2 → 7"):
        build_artifact(replace(plan, settings={**plan.settings, "nested": {"list": [1, 7]}}), CountingStage())


def test_other_contents_of_an_input_are_another_artifact(plan: ArtifactPlan) -> None:
    build_artifact(plan, CountingStage())
    before = read_manifest(plan.out).fingerprint
    plan.inputs["source"].write_text("two")
    assert not is_finished(plan)
    with pytest.raises(ArtifactError, match="contents of its inputs changed"):
        build_artifact(plan, CountingStage())
    build_artifact(plan, CountingStage(), replace=True)
    assert read_manifest(plan.out).fingerprint != before


def test_the_path_of_an_input_does_not_count(plan: ArtifactPlan, tmp_path: Path) -> None:
    build_artifact(plan, CountingStage())
    moved = tmp_path / "elsewhere.txt"
    plan.inputs["source"].rename(moved)
    other = replace(plan, settings={**plan.settings, "source": str(moved)}, inputs={"source": moved})
    assert is_finished(other) and not is_finished(plan)


def test_an_input_folder_counts_with_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    (folder / "b").write_text("2")
    fingerprints = {compute_fingerprint(folder)}
    (folder / "b").write_text("3")
    fingerprints.add(compute_fingerprint(folder))
    (folder / "b").rename(folder / "c")
    fingerprints.add(compute_fingerprint(folder))
    assert len(fingerprints) == 3
    with pytest.raises(ArtifactError, match="no such file"):
        compute_fingerprint(tmp_path / "nowhere")


def test_an_artifact_as_input_counts_with_its_fingerprint(plan: ArtifactPlan) -> None:
    build_artifact(plan, CountingStage())
    later = ArtifactPlan(stage="tune", out=plan.out.with_name("tuned"), settings={}, inputs={"model": plan.out})
    build_artifact(later, CountingStage())
    assert read_manifest(later.out).inputs["model"].fingerprint == read_manifest(plan.out).fingerprint
    assert read_manifest(later.out).inputs["model"].path == "../corpus"


@pytest.mark.parametrize("may_replace", [False, True])
def test_a_foreign_folder_is_never_overwritten(plan: ArtifactPlan, may_replace: bool) -> None:
    plan.out.mkdir(parents=True)
    (plan.out / "precious").write_text("mine")
    with pytest.raises(ArtifactError, match="is not a lep artifact"):
        build_artifact(plan, CountingStage(), replace=may_replace)
    assert (plan.out / "precious").read_text() == "mine"


def test_the_artifact_of_another_stage_is_not_replaced(plan: ArtifactPlan) -> None:
    build_artifact(plan, CountingStage())
    with pytest.raises(ArtifactError, match="made by 'collect'"):
        build_artifact(replace(plan, stage="tune"), CountingStage(), replace=True)
    assert read_manifest(plan.out).stage == "collect"


def test_a_failed_replacement_leaves_the_old_artifact(plan: ArtifactPlan) -> None:
    build_artifact(plan, CountingStage())
    with pytest.raises(KeyboardInterrupt):
        build_artifact(replace(plan, settings={"seed": 9}), CountingStage(crashes=1), replace=True)
    assert is_finished(plan)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": 2, "inputs": {}}', '{"schema_version": 2, "inputs": {"a": 1}}']
)
def test_an_invalid_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_manifest(tmp_path)


def test_flatten_names_every_value() -> None:
    nested = {"a": {"b": [1, {"c": 2}]}, "d": "x", "e": None, "f": (3,)}
    assert flatten(nested) == {"a.b.0": 1, "a.b.1.c": 2, "d": "x", "e": None, "f.0": 3}


def test_runtime_only_settings_do_not_change_the_fingerprint(plan: ArtifactPlan) -> None:
    flexible, work = replace(plan, runtime_only=frozenset({"seed"})), CountingStage(crashes=1)
    with pytest.raises(KeyboardInterrupt):
        build_artifact(flexible, work)
    other = replace(flexible, settings={**plan.settings, "seed": 2})
    assert build_artifact(other, work) and "part1" in work.files_before[1]  # resumed in the same folder
    assert not build_artifact(flexible, work) and read_manifest(plan.out).settings["seed"] == 2


def test_a_manifest_of_the_first_schema_is_refused(tmp_path: Path) -> None:
    """lep 0.1 before its release wrote `room` and `numbers`, and no schema version."""
    (tmp_path / MANIFEST).write_text('{"room": "collect", "fingerprint": "0", "numbers": {}, "inputs": {}}')
    with pytest.raises(ArtifactError, match="schema version 1, this lep reads version 2; run its stage again"):
        read_manifest(tmp_path)


def test_a_full_disk_is_explained_and_what_is_done_stays(plan: ArtifactPlan) -> None:
    def fill_disk(folder: Path) -> CountingResult:
        (folder / "part").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "part"))

    with pytest.raises(ArtifactError, match=r"part: No space left on device; free some disk space, or choose another"):
        build_artifact(plan, fill_disk)
    assert (plan.partial_folder / "part").exists() and not plan.out.exists()
