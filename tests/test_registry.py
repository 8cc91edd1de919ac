"""The registry says everything about a stage: a new one needs its settings, its result, its module and an entry."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest

from lep import stages
from lep.cli.completion import complete
from lep.cli.main import main
from lep.config import Settings
from lep.config.base import RuntimeOnly
from lep.io.artifact import read_manifest
from lep.registry import STAGES, Stage


class CountSettings(Settings):
    """Count the bytes of a file."""

    file: Path
    """The file."""
    batch_size: Annotated[int, RuntimeOnly] = 1
    """How many bytes at a time."""


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_reference_of_a_stage_can_be_loaded(stage: Stage) -> None:
    assert is_dataclass(stage.result) and stage.settings.__doc__
    assert callable(stage.run) and (not stage.check or callable(stage.load(stage.check)))
    assert callable(stage.load(stage.estimate))
    assert not stage.summarize or callable(stage.load(stage.summarize))


def test_every_module_of_lep_stages_is_registered() -> None:
    files = {file.stem for file in Path(stages.__path__[0]).glob("[!_]*.py")}
    assert files == set(STAGES)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_results_hold_plain_values_only(stage: Stage) -> None:
    """What a manifest cannot hold as JSON, such as a tensor or a path, is not part of a result."""
    assert all("Tensor" not in str(field.type) and "Path" not in str(field.type) for field in fields(stage.result))


def test_a_new_stage_is_an_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """The command, recipes, completion, `explain` and the runner know it; nothing else has to be changed."""
    from lep.results.stages import LossPoint as CountResult  # any frozen dataclass of plain values

    module = ModuleType("count_stage")
    module.run = lambda settings, out: CountResult(step=len(settings.file.read_bytes()), loss=0.0)  # pyright: ignore
    monkeypatch.setitem(sys.modules, "count_stage", module)
    monkeypatch.setitem(STAGES, "count", Stage("count", CountSettings, CountResult, module="count_stage"))
    (tmp_path / "data").write_bytes(b"12345")
    (tmp_path / "recipe.yaml").write_text(f"out: {tmp_path / 'run'}\ncount: {{file: {tmp_path / 'data'}}}\n")

    assert main(["run", str(tmp_path / "recipe.yaml")]) == 0
    manifest = read_manifest(tmp_path / "run" / "count")
    assert manifest.stage == "count" and manifest.result == asdict(CountResult(step=5, loss=0.0))
    assert main(["run", str(tmp_path / "recipe.yaml"), "count.batch_size=2", "--dry-run"]) == 0
    assert "(done)" in capsys.readouterr().out
    assert main(["count", f"file={tmp_path / 'data'}", f"out={tmp_path / 'alone'}"]) == 0
    assert main(["explain", "count"]) == 0
    assert "How many bytes at a time." in capsys.readouterr().out

    class Overrides:
        dest = "overrides"

    class Parsed:
        stage = "count"

    assert "file=" in complete("fi", Overrides(), Parsed())  # pyright: ignore
