"""What the command prints of a finished stage is what its typed result says."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lep.cli.summaries import (
    print_advice,
    print_pretraining,
    print_propagation,
    print_stage_summary,
    print_training_comparison,
    print_vocabulary,
)
from lep.config import AdviseSettings
from lep.io.artifact import Manifest
from lep.registry import STAGES
from lep.results.advice import AdviceResult, LanguageCompression, SizeRecommendation, SizeTradeoff, TextCounts
from lep.results.embeddings import ProjectionFit, PropagationResult
from lep.results.stages import (
    BeforeAfter,
    CollectionResult,
    NewTokenCounts,
    PretrainingResult,
    RetokenizationResult,
    StageResult,
    ValidationPoint,
)

RETOKENIZED = RetokenizationResult(
    kind="extended",
    old_tokens=49152,
    kept_tokens=49152,
    new_tokens=3000,
    vocab_size=52152,
    characters_per_token={"ru": BeforeAfter(1.31, 2.62)},
)


def train(best: float, *, mfu: float | None = None) -> PretrainingResult:
    points = (ValidationPoint(0, 0, {"ru": 1.5}, 1.5), ValidationPoint(9, 900, {"ru": best}, best))
    return PretrainingResult(900, 1234.5, 9, points, new_tokens=NewTokenCounts(3000, 2, 41), mfu=mfu)


def make_step(folder: Path, stage: str, result: StageResult, *, settings: Any = None) -> Any:
    manifest = Manifest(
        stage, "", {}, {}, {}, result=asdict(result), seconds=12.4, peak_memory_bytes=3 << 30, finished_at=""
    )
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))
    return SimpleNamespace(name=folder.name, stage=STAGES[stage], settings=settings, out=folder)


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=200)


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("was_run", "line"), [(True, "  done in 12 s, 3.0 GiB"), (False, "  was done")])
def test_a_step_is_summarized_from_its_manifest(tmp_path: Path, console: Console, was_run: bool, line: str) -> None:
    print_stage_summary(make_step(tmp_path / "retokenize", "retokenize", RETOKENIZED), was_run, console)
    assert printed(console).splitlines()[0] == line and "52,152 tokens" in printed(console)


def test_a_stage_without_a_summary_has_its_time_only(tmp_path: Path, console: Console) -> None:
    print_stage_summary(make_step(tmp_path / "collect", "collect", CollectionResult({})), True, console)
    assert printed(console).splitlines() == ["  done in 12 s, 3.0 GiB"]


def test_every_summary_of_the_registry_exists() -> None:
    for stage in STAGES.values():
        assert not stage.summarize or callable(stage.load(stage.summarize))


def test_a_vocabulary_is_its_sizes_and_compression(console: Console) -> None:
    print_vocabulary(RETOKENIZED, SimpleNamespace(), console)  # type: ignore[arg-type]
    assert "52,152 tokens: 49,152 of the base's 49,152, 3,000 new" in printed(console)
    assert "ru: 2.62 characters per token, before 1.31" in printed(console)


@pytest.mark.parametrize(
    ("mfu", "words"), [(0.41, "1,234 tokens/s, 41% of the peak FLOPs; of"), (None, "tokens/s; of")]
)
def test_a_training_is_its_best_step_and_speed(console: Console, mfu: float | None, words: str) -> None:
    print_pretraining(train(1.2345, mfu=mfu), SimpleNamespace(), console)  # type: ignore[arg-type]
    assert "step 9 is the best: held-out bits per byte ru 1.2345" in printed(console)
    assert words in printed(console) and "3,000 new tokens, 2 never occur" in printed(console)


def test_trainings_are_compared_by_their_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [make_step(tmp_path / name, "pretrain", train(best)) for name, best in (("worse", 1.4), ("better", 1.2))]
    print_training_comparison(steps, Console(width=200))
    out = capsys.readouterr().out
    assert out.index("better") < out.index("worse") and "1.4000" in out


def test_a_propagation_is_a_row_for_each_fit(console: Console) -> None:
    by_method = {"swap": 1.0, "conversion": 0.413}
    fit = ProjectionFit("conversion", 560, 32, 91.04, 0.402, 0.413, residual_heldout_by_method=by_method)
    print_propagation(
        PropagationResult("auto", {"embed": fit, "head": ProjectionFit("swap")}), SimpleNamespace(), console
    )  # type: ignore[arg-type]
    assert all(text in printed(console) for text in ("0.402", "0.413", "91", "–", "  swap"))


def test_advice_ends_with_the_command_to_run(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    compression = {"ru": LanguageCompression(2.5, 4.5, 1.8)}
    points = (
        SizeTradeoff(0, 500, compression, 0.0, 1.0, None, None, 0.0, 0),
        SizeTradeoff(1000, 1500, compression, 0.3, 1.4, None, None, 0.98, None),
    )
    result = AdviceResult(
        kind="extended",
        training_tokens=None,
        language_weights={"ru": 1.0},
        texts={"ru": TextCounts(900, 1700, 150)},
        model=None,
        points=points,
        recommendation=SizeRecommendation(1000, "sweep", 1000),
        explanation=("Extend the base.", "More may pay."),
        assumptions=("Measured on little text.",),
    )
    settings = AdviseSettings(base=Path("b"), corpus=Path("c"), mixture={"ru": 9, "en": 1})
    print_advice(result, SimpleNamespace(settings=settings, out=Path("out")), console)  # type: ignore[arg-type]
    lines = printed(console).splitlines()
    assert lines[:2] == ["· Measured on little text.", "Extend the base. More may pay."]
    command = "lep retokenize base=b corpus=c kind=extended 'mixture={ru: 9, en: 1}' new_tokens=1000 'out=…'"
    assert lines[-1] == f"  then {command}"
    assert "1,500" in capsys.readouterr().out
