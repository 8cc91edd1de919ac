"""Missing packages are named before any work, with the command that installs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lep import extras
from lep.cli.main import main
from lep.errors import UsageError


@pytest.mark.parametrize("extra", ["cli", "report", "train", "eval", "serve", "export", "track", "docs", "demo"])
def test_all_extras_are_installed_for_the_tests(extra: str) -> None:
    assert extras._extra_requirements(extra)
    extras.require_extra(extra, required_by="a test")


def test_what_is_missing_or_too_old_is_named_at_once(without) -> None:
    without("trl", peft="0.1")
    with pytest.raises(UsageError, match=r"^tune needs peft>=[\d.]+, trl>=[\d.]+: pip install 'lep\[train\]'$"):
        extras.require_extra("train", required_by="tune")
    extras.require_extra("serve", required_by="an endpoint")


def test_an_older_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "requires", lambda _: ["torch>=2.6"])
    with pytest.raises(UsageError, match="the extra train, which the installed lep does not have"):
        extras.require_extra("train", required_by="tune")


def test_a_run_that_needs_a_missing_extra_does_not_start(without, tmp_path: Path, capsys) -> None:
    without("trl")
    (tmp_path / "ru.txt").write_text("Текст.")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"out: {tmp_path}/run\ncollect: {{sources: {{ru: {{files: [{tmp_path}/ru.txt]}}}}}}\n")
    for verb in ("check", "run"):
        assert main([verb, str(recipe)]) == 2
        assert "collect needs trl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_stages_load_with_their_own_extra_only() -> None:
    names = ("cli", "report", "train", "eval", "serve", "export", "track")
    packages = {name: [item.name for item in extras._extra_requirements(name)] for name in names}
    shared = ("jinja2", "markupsafe")  # torch depends on them, too
    all_packages = [name for names in packages.values() for name in names if name not in shared]
    script = f"""
import importlib.machinery, sys
from lep.registry import STAGES

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path = [Finder if item is importlib.machinery.PathFinder else item for item in sys.meta_path]
hidden = {all_packages}
for stage in STAGES.values():
    if not stage.extra:
        stage.run
packages = {packages}
for stage in STAGES.values():
    if stage.extra:
        hidden = [*{{*{all_packages}}} - {{*packages[stage.extra]}}]
        stage.run
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
