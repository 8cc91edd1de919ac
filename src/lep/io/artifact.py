"""A finished room: a folder with `manifest.json`, written aside and renamed when whole.

The fingerprint covers the room, its settings and the contents of its inputs: a finished artifact with the same
fingerprint is not computed again, and one with another fingerprint is never overwritten unasked.
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

MANIFEST = "manifest.json"
_MOVE, _FILE = "make room, or give another out=", "expected a file there"
_RIGHTS = "give another out=, or yourself the right to it"
_REMEDIES = {
    errno.ENOSPC: _MOVE,
    errno.EDQUOT: _MOVE,
    errno.EFBIG: _MOVE,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EISDIR: _FILE,
    errno.ENOTDIR: "expected a folder there",
    errno.ENAMETOOLONG: "give a shorter out=",
    errno.ELOOP: "it is a link to itself",
    errno.EIO: "the disk does not answer; try another",
}
"""What to do about what the system says; other errors are lep's own."""
_BLOCK = 1 << 22
_LIBRARIES = ("lep", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "trl")


@dataclass(frozen=True)
class Input:
    """A file or folder that a room read; `path` is relative to the artifact that read it."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, and how it came about."""

    room: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input]
    versions: Mapping[str, str]
    numbers: Mapping[str, Any]
    seconds: float
    """Time at work, of all tries together when the room was interrupted."""
    peak_memory_bytes: int
    finished: str


@dataclass(frozen=True)
class Plan:
    """A room that is ready to run: where it will write, from what, under which fingerprint."""

    room: str
    out: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    free: frozenset[str] = frozenset()
    """Settings that do not count: interrupted work goes on with others."""
    describe: Callable[[Path, Manifest], None] | None = None
    """Adds to the folder, when all work is done, what tells people about it."""

    @property
    def partial(self) -> Path:
        """Where the room works until it is whole."""
        return self.out.with_name(self.out.name + ".partial")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished artifact; `ArtifactError` when there is none or it cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        partial = folder.with_name(folder.name + ".partial")
        hint = "it was interrupted; run its room again" if partial.exists() else "run its room first"
        raise ArtifactError(f"{folder}: not a finished artifact (no {MANIFEST}); {hint}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["inputs"] = {name: Input(**item) for name, item in raw["inputs"].items()}
        return Manifest(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a manifest of this version of lep ({error})") from None


def fingerprint(path: Path) -> str:
    """What identifies an input: of an artifact, the fingerprint it was made under; else a hash of its contents."""
    if (path / MANIFEST).exists():
        return read_manifest(path).fingerprint
    if not path.exists():
        raise ArtifactError(f"{path}: no such file or folder")
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        for file, found in zip(files, pool.map(_contents, files), strict=True):
            digest.update(found + str(file.relative_to(path)).encode() + b"\0")
    return digest.hexdigest()[:16]


def complete(plan: Plan, work: Callable[[Path], Mapping[str, Any]], *, replace: bool = False) -> bool:
    """Make the artifact unless it is there already; returns whether work was done.

    `work(partial)` writes into the folder and returns the room's numbers. When it is interrupted, the folder stays, and
    a later call with the same fingerprint hands it the same folder again.

    Args:
        plan: the room.
        work: does it.
        replace: whether an artifact made with other settings or inputs may be replaced.

    Raises:
        ArtifactError: the place is taken by something else, and `replace` is not set; it is an input, or lies in one;
            the disk is full, or a file cannot be read or written.
    """
    try:
        return _complete(plan, work, replace=replace)
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        where = error.filename or plan.partial
        raise ArtifactError(f"{where}: {error.strerror}; {_REMEDIES[error.errno]}") from error


def _complete(plan: Plan, work: Callable[[Path], Mapping[str, Any]], *, replace: bool) -> bool:
    _check_apart(plan)
    inputs = {name: Input(_relative(path, plan.out), fingerprint(path)) for name, path in plan.inputs.items()}
    identity = _identity(plan, inputs)
    if plan.out.exists() and not _is_stale(plan, identity, replace=replace):
        return False
    spent = _prepare(plan.partial, identity)
    _reset_peak_memory()
    started = time.monotonic()
    try:
        numbers = work(plan.partial)
    finally:
        seconds = spent + time.monotonic() - started
        _remember(plan.partial, identity, seconds)
    manifest = Manifest(
        room=plan.room,
        fingerprint=identity,
        settings=plan.settings,
        inputs=inputs,
        versions={name: found for name in _LIBRARIES if (found := _version(name))},
        numbers=numbers,
        seconds=round(seconds, 2),
        peak_memory_bytes=_peak_memory(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if plan.describe:
        plan.describe(plan.partial, manifest)
    _finish(plan, manifest)
    return True


def is_finished(plan: Plan) -> bool:
    """Whether the artifact is there with the plan's fingerprint. Inputs that are not made yet: it is not."""
    if not plan.out.exists() or not all(path.exists() for path in plan.inputs.values()):
        return False
    inputs = {name: Input("", fingerprint(path)) for name, path in plan.inputs.items()}
    return (plan.out / MANIFEST).exists() and read_manifest(plan.out).fingerprint == _identity(plan, inputs)


def _identity(plan: Plan, inputs: Mapping[str, Input]) -> str:
    """Settings name inputs by path; the contents count, not the paths."""
    ignored = {*plan.inputs, *plan.free}
    settings = {name: value for name, value in flatten(plan.settings).items() if name not in ignored}
    known = {"room": plan.room, "settings": settings, "inputs": {k: v.fingerprint for k, v in inputs.items()}}
    known["lep"] = _version("lep")
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _is_stale(plan: Plan, identity: str, *, replace: bool) -> bool:
    if not (plan.out / MANIFEST).exists():
        raise ArtifactError(f"{plan.out}: is there but is not an artifact of lep; give another out=")
    found = read_manifest(plan.out)
    if found.fingerprint == identity:
        return False
    if replace and found.room == plan.room:
        return True
    old, new = flatten(found.settings), flatten(plan.settings)
    changed = [f"{key}: {old.get(key)} → {new.get(key)}" for key in old | new if old.get(key) != new.get(key)]
    raise ArtifactError(
        f"{plan.out}: was made by {found.room!r} with other settings or inputs "
        f"({'; '.join(changed) or 'the contents of its inputs changed'}); give another out= or pass --replace"
    )


def _contents(file: Path) -> bytes:
    """A hash of a file, at the speed of reading it."""
    digest, block = xxhash.xxh3_128(), memoryview(bytearray(_BLOCK))
    with file.open("rb", buffering=0) as stream:
        while size := stream.readinto(block):
            digest.update(block[:size])
    return digest.digest()


def _check_apart(plan: Plan) -> None:
    """`ArtifactError` when writing would change an input, or replace it."""
    for name, path in plan.inputs.items():
        read = path.resolve()
        for place in (plan.out.resolve(), plan.partial.resolve()):
            if place == read or place in read.parents or read in place.parents:
                raise ArtifactError(f"{place}: is {name}, {path}, or one lies in the other; give another out=")


def _prepare(partial: Path, identity: str) -> float:
    """An empty folder, or the one that an interrupted run of the same fingerprint left; returns its seconds."""
    left = _left(partial)
    if left.get("fingerprint") == identity:
        return left["seconds"]
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    _remember(partial, identity, 0.0)
    return 0.0


def _left(partial: Path) -> dict[str, Any]:
    """What an interrupted run says of itself; `ArtifactError` when something else than a run's folder is there."""
    try:
        return dict(json.loads((partial / ".work").read_text()))
    except FileNotFoundError:
        known = {MANIFEST, ".work.new"}
        if partial.exists() and not any(item.name in known for item in partial.iterdir()) and any(partial.iterdir()):
            raise ArtifactError(
                f"{partial}: is not what an interrupted run left; move it, or give another out="
            ) from None
        return {}
    except (ValueError, TypeError):
        return {}


def _remember(partial: Path, identity: str, seconds: float) -> None:
    """Write `.work` whole or not at all: a full disk must not cost what can be resumed."""
    fresh = partial / ".work.new"
    fresh.write_text(json.dumps({"fingerprint": identity, "seconds": seconds}))
    fresh.replace(partial / ".work")


def _finish(plan: Plan, manifest: Manifest) -> None:
    (plan.partial / ".work").unlink()
    with (plan.partial / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(manifest), ensure_ascii=False, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if plan.out.exists():
        shutil.rmtree(plan.out)
    plan.partial.rename(plan.out)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.resolve(), out.resolve())


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _reset_peak_memory() -> None:
    """Start the peak anew where the kernel allows it (Linux); elsewhere the peak is that of the process so far."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def _peak_memory() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
