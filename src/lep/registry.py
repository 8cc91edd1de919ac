"""The stages of the pipeline, one frozen `Stage` each: everything that the rest of lep needs to know of them.

The runner, `lep check`, estimation, the model card, the page and shell completion ask `STAGES`. Only the sentences of
the page and the card are kept by stage elsewhere (`lep.reporting`), with a general one for a stage that has none. To
add a stage, add its settings (`lep.config`), its result (`lep.results`), its file in `lep.stages` with `run(settings,
out) -> result`, an entry here, and a section in docs/pipeline.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lep.config import (
    AdviseSettings,
    CalibrateSettings,
    CollectSettings,
    EvaluateSettings,
    InitializeSettings,
    PretrainSettings,
    PropagateSettings,
    ReportSettings,
    RetokenizeSettings,
    Settings,
    TuneSettings,
)
from lep.results.advice import AdviceResult
from lep.results.embeddings import InitializationResult, PropagationResult
from lep.results.evaluation import EvaluationResult
from lep.results.report import ReportResult
from lep.results.stages import (
    CalibrationResult,
    CollectionResult,
    PretrainingResult,
    RetokenizationResult,
    StageResult,
    TuningResult,
    parse_result,
)


@dataclass(frozen=True)
class Stage:
    """One stage. References are `module:name`, imported on first use, so that the registry stays light."""

    name: str
    """The verb of the command and the key in a recipe."""
    settings: type[Settings]
    """What `run` takes."""
    result: type
    """The frozen dataclass that `run` returns; the manifest holds its `asdict`."""
    extra: str | None = None
    """The optional dependencies without which the stage cannot run."""
    writes_model: bool = False
    """The result is a model folder, which gets a model card."""
    distributed: bool = False
    """All processes of a distributed run work in it; in other stages the main process works and the rest wait."""
    reads_weights: bool = False
    """Reads the weights of its models, not only their tokenizers."""
    shares_work: bool = False
    """`run` takes a third argument: the cache that consecutive steps of this stage share in one process."""
    module: str = ""
    """The module with `run`; default: `lep.stages.<name>`."""
    check: str = ""
    """The function that raises what can be known before any work: `check(settings)`. Empty: the stage has none."""
    estimate: str = ""
    """The function that estimates the cost: `estimate(settings, inputs)`."""
    summarize: str = ""
    """The function that prints a finished step: `summarize(result, step, console)`."""

    def load(self, reference: str) -> Callable[..., Any]:
        """Import the function that `reference` (`module:name`) names."""
        module, _, name = reference.partition(":")
        return getattr(import_module(module), name)

    @property
    def run(self) -> Callable[..., Any]:
        """`run(settings, out) -> result` of the stage's module."""
        return self.load(f"{self.module or f'lep.stages.{self.name}'}:run")


_ESTIMATES, _SUMMARIES = "lep.estimation.stages", "lep.cli.summaries"

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "collect",
            CollectSettings,
            CollectionResult,
            extra="train",
            estimate=f"{_ESTIMATES}:estimate_collect",
        ),
        Stage(
            "advise",
            AdviseSettings,
            AdviceResult,
            extra="report",
            estimate=f"{_ESTIMATES}:estimate_advise",
            summarize=f"{_SUMMARIES}:print_advice",
        ),
        Stage(
            "retokenize",
            RetokenizeSettings,
            RetokenizationResult,
            estimate=f"{_ESTIMATES}:estimate_retokenize",
            summarize=f"{_SUMMARIES}:print_vocabulary",
        ),
        Stage(
            "initialize",
            InitializeSettings,
            InitializationResult,
            writes_model=True,
            reads_weights=True,
            estimate=f"{_ESTIMATES}:estimate_initialize",
        ),
        Stage(
            "pretrain",
            PretrainSettings,
            PretrainingResult,
            extra="train",
            writes_model=True,
            distributed=True,
            reads_weights=True,
            estimate=f"{_ESTIMATES}:estimate_pretrain",
            summarize=f"{_SUMMARIES}:print_pretraining",
        ),
        Stage(
            "tune",
            TuneSettings,
            TuningResult,
            extra="train",
            writes_model=True,
            distributed=True,
            reads_weights=True,
            estimate=f"{_ESTIMATES}:estimate_tune",
        ),
        Stage(
            "propagate",
            PropagateSettings,
            PropagationResult,
            writes_model=True,
            reads_weights=True,
            shares_work=True,
            check="lep.stages.propagate:check",
            estimate=f"{_ESTIMATES}:estimate_propagate",
            summarize=f"{_SUMMARIES}:print_propagation",
        ),
        Stage(
            "calibrate",
            CalibrateSettings,
            CalibrationResult,
            extra="train",
            writes_model=True,
            distributed=True,
            reads_weights=True,
            estimate=f"{_ESTIMATES}:estimate_calibrate",
        ),
        Stage(
            "evaluate",
            EvaluateSettings,
            EvaluationResult,
            reads_weights=True,
            estimate=f"{_ESTIMATES}:estimate_evaluate",
            summarize=f"{_SUMMARIES}:print_evaluation",
        ),
        Stage(
            "report",
            ReportSettings,
            ReportResult,
            extra="report",
            estimate=f"{_ESTIMATES}:estimate_report",
            summarize=f"{_SUMMARIES}:print_report",
        ),
    )
}
"""In the order in which a recipe runs them."""


def parse_stage_result(raw: Mapping[str, Any], *, stage: str, path: Path | None = None) -> StageResult | None:
    """Parse the `result` of a manifest as the dataclass of its stage.

    Args:
        raw: `result` of the manifest.
        stage: The stage that wrote it.
        path: The manifest, named in errors.

    Returns:
        The typed result; None for a stage that this version of lep does not have.

    Raises:
        ArtifactError: A field is missing or has the wrong type.
    """
    return parse_result(raw, STAGES[stage].result, path=path or stage) if stage in STAGES else None
