"""What is not installed is named before any work, with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lep import extras
from lep.cli.main import main
from lep.errors import UsageError


@pytest.mark.parametrize("extra", ["train", "eval", "serve", "export", "track", "docs", "demo"])
def test_here_all_extras_are_installed(extra: str) -> None:
    assert extras._packages(extra)
    extras.need(extra, what="a test")


def test_what_is_missing_or_too_old_is_named_at_once(without) -> None:
    without("trl", peft="0.1")
    with pytest.raises(UsageError, match=r"^tune needs peft>=[\d.]+, trl>=[\d.]+: pip install 'lep\[train\]'$"):
        extras.need("train", what="tune")
    extras.need("serve", what="an endpoint")


def test_an_older_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "requires", lambda _: ["torch>=2.6"])
    with pytest.raises(UsageError, match="the extra train, which the installed lep does not have"):
        extras.need("train", what="tune")


def test_a_walk_that_would_need_it_does_not_begin(without, tmp_path: Path, capsys) -> None:
    without("trl")
    (tmp_path / "ru.txt").write_text("Текст.")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"out: {tmp_path}/run\ncollect: {{sources: {{ru: {{files: [{tmp_path}/ru.txt]}}}}}}\n")
    for verb in ("check", "run"):
        assert main([verb, str(recipe)]) == 2
        assert "collect needs trl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_rooms_load_without_extras_and_those_that_train_with_theirs() -> None:
    extra = ("train", "eval", "serve", "export", "track")
    packages = {name: [found.name for found in extras._packages(name)] for name in extra}
    every = [name for names in packages.values() for name in names]
    script = f"""
import importlib.machinery, sys
from lep.config import ROOMS
from lep.pipeline import _TRAINING

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in gone else super().find_spec(name, path, target)

sys.meta_path = [Finder if found is importlib.machinery.PathFinder else found for found in sys.meta_path]
gone = {every}
for room in set(ROOMS) - set(_TRAINING):
    importlib.import_module("lep.stages." + room)
gone = {sorted(set(every) - set(packages["train"]))}
for room in _TRAINING:
    importlib.import_module("lep.stages." + room)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
