"""The wheel: all that the package needs is in it, and it works outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources and installed into a folder."""
    work = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", work / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run(
        [*pip, "--no-index", "--no-deps", "--no-build-isolation", "--target", "here", "."], cwd=work, check=True
    )
    return work / "here"


def test_every_file_of_the_package_is_in_it(unpacked: Path) -> None:
    def files(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files(ROOT / "src" / "lep") == files(unpacked / "lep")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["explain", "propagate"]])
def test_the_command_works_elsewhere(unpacked: Path, tmp_path: Path, words: list[str]) -> None:
    script = (
        f"import lep; assert lep.__file__.startswith({str(unpacked)!r}); from lep.cli.main import main; main({words})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_library_alone_requires_no_package_of_the_command_or_the_page(unpacked: Path) -> None:
    metadata = next(unpacked.glob("lep-*.dist-info")).joinpath("METADATA").read_text()
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert "torch" in required
    assert not {"argcomplete", "babel", "jinja2", "markupsafe", "matplotlib", "rich"} & {*required}
    entry_points = next(unpacked.glob("lep-*.dist-info")).joinpath("entry_points.txt").read_text()
    assert "lep = lep.cli:run" in entry_points


def test_the_container_is_made_of_what_is_there() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    copied = [
        name for words in re.findall(r"^COPY (?!--from)(.+) \S+$", recipe, re.MULTILINE) for name in words.split()
    ]
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(let_in) and all((ROOT / name).exists() for name in copied)
    extras = re.search(r"^ARG EXTRAS=(.+)$", recipe, re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras and set(extras[1].split(",")) <= set(known)
