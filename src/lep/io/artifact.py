"""Artifacts: the folder of a finished stage, with a `manifest.json`, written aside and renamed when it is whole.

The fingerprint covers the stage, its settings and the contents of its inputs. A finished artifact with the same
fingerprint is not computed again; one with another fingerprint is never overwritten unless the user asks for it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

from lep.config import flatten
from lep.errors import ArtifactError
from lep.io.atomic import PARTIAL_SUFFIX, write_atomically

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
"""Of the manifest; 1 was that of lep 0.1 before its first release, with other names."""
_WORK_STATE = ".work"
"""File of a partial folder: the fingerprint it is made under, and the seconds spent so far."""
_DISK_FULL_HINT = "free some disk space, or choose another out="
_PERMISSION_HINT = "choose another out=, or change the permissions"
_REMEDIES = {
    errno.ENOSPC: _DISK_FULL_HINT,
    errno.EDQUOT: _DISK_FULL_HINT,
    errno.EFBIG: _DISK_FULL_HINT,
    errno.EROFS: _PERMISSION_HINT,
    errno.EACCES: _PERMISSION_HINT,
    errno.EPERM: _PERMISSION_HINT,
    errno.EISDIR: "expected a file there",
    errno.ENOTDIR: "expected a folder there",
    errno.ENAMETOOLONG: "choose a shorter out=",
    errno.ELOOP: "it is a symbolic link to itself",
    errno.EIO: "the disk reports an error; try another disk",
}
"""What to do about an error of the operating system, by its number; others are raised as they are."""
_READ_BUFFER_BYTES = 1 << 22
_LIBRARIES = ("lep", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "trl")


@dataclass(frozen=True)
class Input:
    """A file or folder that a stage read; `path` is relative to the artifact."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and how it was made."""

    stage: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input]
    versions: Mapping[str, str]
    """Versions of lep and of the libraries that it uses, by package."""
    result: Mapping[str, Any]
    """`asdict` of the stage's result; `lep.registry.parse_stage_result` makes the dataclass of it."""
    seconds: float
    """Working time; of an interrupted stage, of all its runs together."""
    peak_memory_bytes: int
    finished_at: str
    """ISO 8601, UTC."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class ArtifactPlan:
    """A stage that is ready to run: from what, with which settings, and where it writes."""

    stage: str
    out: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    runtime_only: frozenset[str] = frozenset()
    """Settings that do not affect the result; an interrupted stage can be resumed with other values of them."""
    write_card: Callable[[Path, Manifest], None] | None = None
    """Adds a model card to the finished folder."""

    @property
    def partial_folder(self) -> Path:
        """The folder that the stage writes into until it is finished."""
        return self.out.with_name(self.out.name + PARTIAL_SUFFIX)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished artifact.

    Args:
        folder: The artifact.

    Returns:
        The manifest, with the stage's result as plain JSON values.

    Raises:
        ArtifactError: There is no manifest, it cannot be read, or another version of lep wrote it.
    """
    path = folder / MANIFEST
    if not path.exists():
        partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
        hint = "it was interrupted; run its stage again" if partial.exists() else "run its stage first"
        raise ArtifactError(f"{folder}: not a finished artifact (no {MANIFEST}); {hint}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.pop("schema_version", 1)
        if version == SCHEMA_VERSION:
            raw["inputs"] = {name: Input(**item) for name, item in raw["inputs"].items()}
            return Manifest(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a manifest of lep ({error}); run its stage again") from None
    raise ArtifactError(
        f"{path}: has schema version {version}, this lep reads version {SCHEMA_VERSION}; "
        "run its stage again with this lep, or use the lep that wrote it"
    )


def compute_fingerprint(path: Path) -> str:
    """Compute what identifies an input.

    Args:
        path: An artifact, or any file or folder.

    Returns:
        The fingerprint that the artifact was made under; of anything else a hash of its contents, 16 hex digits.

    Raises:
        ArtifactError: The path does not exist, or its manifest cannot be read.
    """
    if (path / MANIFEST).exists():
        return read_manifest(path).fingerprint
    if not path.exists():
        raise ArtifactError(f"{path}: no such file or folder")
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        for file, contents in zip(files, pool.map(_hash_file, files), strict=True):
            digest.update(contents + str(file.relative_to(path)).encode() + b"\0")
    return digest.hexdigest()[:16]


def build_artifact(plan: ArtifactPlan, run_stage: Callable[[Path], Any], *, replace: bool = False) -> bool:
    """Run a stage unless its artifact exists already.

    An interrupted stage leaves its partial folder; a later call with the same fingerprint hands it the same folder.

    Args:
        plan: The stage to run.
        run_stage: Writes into the folder that it is given and returns the stage's result, a dataclass.
        replace: Whether to replace an artifact that was made with other settings or inputs.

    Returns:
        Whether the stage was run.

    Raises:
        ArtifactError: `out` holds something else and `replace` is off; `out` is an input or overlaps with one; the
            disk is full; a file cannot be read or written.
    """
    try:
        return _build_artifact(plan, run_stage, replace=replace)
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        path = error.filename or plan.partial_folder
        raise ArtifactError(f"{path}: {error.strerror}; {_REMEDIES[error.errno]}") from error


def _build_artifact(plan: ArtifactPlan, run_stage: Callable[[Path], Any], *, replace: bool) -> bool:
    _check_no_overlap(plan)
    inputs = {
        name: Input(_relative_path(path, plan.out), compute_fingerprint(path)) for name, path in plan.inputs.items()
    }
    fingerprint = _compute_plan_fingerprint(plan, inputs)
    if plan.out.exists() and not _is_stale(plan, fingerprint, replace=replace):
        return False
    seconds_before = _prepare_partial_folder(plan.partial_folder, fingerprint)
    _reset_peak_memory()
    started = time.monotonic()
    try:
        result = run_stage(plan.partial_folder)
    finally:
        seconds = seconds_before + time.monotonic() - started
        _write_work_state(plan.partial_folder, fingerprint, seconds)
    manifest = Manifest(
        stage=plan.stage,
        fingerprint=fingerprint,
        settings=plan.settings,
        inputs=inputs,
        versions={name: number for name in _LIBRARIES if (number := _installed_version(name))},
        result=asdict(result),
        seconds=round(seconds, 2),
        peak_memory_bytes=_read_peak_memory_bytes(),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if plan.write_card:
        plan.write_card(plan.partial_folder, manifest)
    _finalize_artifact(plan, manifest)
    return True


def is_finished(plan: ArtifactPlan) -> bool:
    """Return whether the artifact exists with the plan's fingerprint; it does not while an input is missing."""
    if not plan.out.exists() or not all(path.exists() for path in plan.inputs.values()):
        return False
    inputs = {name: Input("", compute_fingerprint(path)) for name, path in plan.inputs.items()}
    fingerprint = _compute_plan_fingerprint(plan, inputs)
    return (plan.out / MANIFEST).exists() and read_manifest(plan.out).fingerprint == fingerprint


def _compute_plan_fingerprint(plan: ArtifactPlan, inputs: Mapping[str, Input]) -> str:
    """Hash settings and inputs; settings name inputs by path, and here their contents count instead."""
    ignored = {*plan.inputs, *plan.runtime_only}
    identity = {
        "stage": plan.stage,
        "settings": {name: value for name, value in flatten(plan.settings).items() if name not in ignored},
        "inputs": {name: item.fingerprint for name, item in inputs.items()},
        "lep": _installed_version("lep"),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _is_stale(plan: ArtifactPlan, plan_fingerprint: str, *, replace: bool) -> bool:
    if not (plan.out / MANIFEST).exists():
        raise ArtifactError(f"{plan.out} already exists and is not a lep artifact; choose another out=")
    manifest = read_manifest(plan.out)
    if manifest.fingerprint == plan_fingerprint:
        return False
    if replace and manifest.stage == plan.stage:
        return True
    old, new = flatten(manifest.settings), flatten(plan.settings)
    changes = [f"{key}: {old.get(key)} → {new.get(key)}" for key in old | new if old.get(key) != new.get(key)]
    raise ArtifactError(
        f"{plan.out} was made by {manifest.stage!r} with other settings or inputs "
        f"({'; '.join(changes) or 'the contents of its inputs changed'}); choose another out= or pass --replace"
    )


def _hash_file(file: Path) -> bytes:
    """Hash a file at the speed of reading it."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(_READ_BUFFER_BYTES))
    with file.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            digest.update(buffer[:size])
    return digest.digest()


def _check_no_overlap(plan: ArtifactPlan) -> None:
    """Raise `ArtifactError` when writing would change or replace an input."""
    for name, path in plan.inputs.items():
        source = path.resolve()
        for target in (plan.out.resolve(), plan.partial_folder.resolve()):
            if target == source or target in source.parents or source in target.parents:
                raise ArtifactError(f"{target} overlaps with the input {name}={path}; choose another out=")


def _prepare_partial_folder(partial_folder: Path, plan_fingerprint: str) -> float:
    """Make an empty folder, or keep that of an interrupted run of the same plan; returns the seconds it has used."""
    state = _read_work_state(partial_folder)
    if state.get("fingerprint") == plan_fingerprint:
        return state["seconds"]
    if partial_folder.exists():
        shutil.rmtree(partial_folder)
    partial_folder.mkdir(parents=True)
    _write_work_state(partial_folder, plan_fingerprint, 0.0)
    return 0.0


def _read_work_state(partial_folder: Path) -> dict[str, Any]:
    """Read what an interrupted run noted; `ArtifactError` when the folder holds something that lep did not write."""
    try:
        return dict(json.loads((partial_folder / _WORK_STATE).read_text()))
    except FileNotFoundError:
        names = {item.name for item in partial_folder.iterdir()} if partial_folder.exists() else set()
        if names and not names & {MANIFEST, _WORK_STATE + PARTIAL_SUFFIX}:
            raise ArtifactError(
                f"{partial_folder} already exists and is not a partial lep artifact; move it, or choose another out="
            ) from None
        return {}
    except (ValueError, TypeError):
        return {}


def _write_work_state(partial_folder: Path, plan_fingerprint: str, seconds: float) -> None:
    state = json.dumps({"fingerprint": plan_fingerprint, "seconds": seconds})
    write_atomically(partial_folder / _WORK_STATE, state)  # a full disk must not cost what can be resumed


def _finalize_artifact(plan: ArtifactPlan, manifest: Manifest) -> None:
    write_atomically(plan.partial_folder / MANIFEST, json.dumps(asdict(manifest), ensure_ascii=False, indent=1) + "\n")
    (plan.partial_folder / _WORK_STATE).unlink()
    if plan.out.exists():
        shutil.rmtree(plan.out)
    plan.partial_folder.rename(plan.out)


def _relative_path(path: Path, out: Path) -> str:
    return os.path.relpath(path.resolve(), out.resolve())


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _reset_peak_memory() -> None:
    """Reset the peak where the kernel allows it (Linux); elsewhere it is the peak of the process so far."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def _read_peak_memory_bytes() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
