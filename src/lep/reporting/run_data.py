"""Load everything that led to an evaluation: its manifest and, through the inputs, those of all earlier stages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lep.errors import ArtifactError
from lep.io.artifact import MANIFEST, Manifest, read_manifest
from lep.registry import STAGES, parse_stage_result
from lep.results.evaluation import EvaluationResult
from lep.results.stages import CalibrationResult, PropagationResult, StageResult, parse_evaluation_result

T = TypeVar("T")

_FINAL_MODEL_NAMES = ("calibrated", "conversion")
"""Names of the model that a pipeline ends in, the last stage first."""


@dataclass(frozen=True)
class StageRun:
    """One finished artifact of the run."""

    key: str
    """Its folder, relative to the run's: `pretrain`, `propagate/swap`. In another run's folder: its stage and name."""
    folder: Path
    manifest: Manifest
    result: StageResult | None
    """None: a stage that this version of lep does not have."""


@dataclass(frozen=True)
class RunData:
    """What the page shows: the stages in the order of the pipeline, and which model is compared with which."""

    stages: tuple[StageRun, ...]
    evaluation: EvaluationResult
    target_language: str
    """The language that the new vocabulary is for."""
    result_model: str
    """The model that the page is about: the one called `calibrated`, else `conversion`, else the last."""
    reference_model: str
    """The model that the result is compared with: the instruct model that it was made from, else the first."""

    def find_results(self, result_type: type[T]) -> list[tuple[StageRun, T]]:
        """Return the stages whose result has this type."""
        return [(stage, stage.result) for stage in self.stages if isinstance(stage.result, result_type)]


def load_run_data(evaluation: Path) -> RunData:
    """Load an evaluation and all artifacts that led to it, as their manifests name them.

    Args:
        evaluation: Folder of an artifact of `evaluate`.

    Returns:
        The stages, the evaluation, and the models to compare.

    Raises:
        ArtifactError: The folder, or an artifact before it, has a broken manifest; or it is of another stage.
    """
    last = _read_stage(evaluation)
    require_evaluation(evaluation, last.manifest)
    stages = _read_upstream_stages(last)
    result = parse_evaluation_result(last.manifest.result, path=evaluation / MANIFEST)
    model = next((name for name in _FINAL_MODEL_NAMES if name in result.models), list(result.models)[-1])
    reference = _find_reference_model(model, stages=stages, evaluation=last, models=result.models)
    return RunData(stages, result, _find_target_language(stages, result), model, reference)


def require_evaluation(folder: Path, manifest: Manifest) -> None:
    """Raise if a folder is not an artifact of `evaluate`.

    Args:
        folder: The folder, named in the error.
        manifest: Its manifest.

    Raises:
        ArtifactError: The manifest is of another stage.
    """
    if manifest.stage != "evaluate":
        raise ArtifactError(
            f"{folder / MANIFEST}: expected an evaluation, found an artifact of {manifest.stage!r}; give the folder "
            "that `lep evaluate` wrote"
        )


def collect_library_versions(manifests: Iterable[Manifest], *, separator: str) -> dict[str, str]:
    """Return the version of each library; all of them, joined by `separator`, where stages differ."""
    versions: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        for library, version in manifest.versions.items():
            versions.setdefault(library, {})[version] = None
    return {library: separator.join(distinct) for library, distinct in versions.items()}


def _read_stage(folder: Path) -> StageRun:
    try:
        manifest = read_manifest(folder)
        result = parse_stage_result(manifest.result, stage=manifest.stage, path=folder / MANIFEST)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}. The page needs every artifact: make {folder} again with `lep run`, then report again"
        ) from None
    return StageRun(folder.name, folder.resolve(), manifest, result)


def _read_upstream_stages(evaluation: StageRun) -> tuple[StageRun, ...]:
    """Search the inputs breadth first, each folder once; return the stages in the order of the pipeline."""
    runs = {evaluation.folder: evaluation}
    queue = deque([evaluation])
    while queue:
        for path in _resolve_input_paths(queue.popleft()).values():
            if path not in runs and (path / MANIFEST).is_file():
                runs[path] = _read_stage(path)
                queue.append(runs[path])
    order = {name: index for index, name in enumerate(STAGES)}
    ordered = sorted(runs.values(), key=lambda run: order.get(run.manifest.stage, len(order)))
    root = evaluation.folder.parent
    return tuple(replace(run, key=_build_key(run, root)) for run in ordered)


def _resolve_input_paths(stage: StageRun) -> dict[str, Path]:
    return {name: (stage.folder / item.path).resolve() for name, item in stage.manifest.inputs.items()}


def _build_key(stage: StageRun, root: Path) -> str:
    """Return the path below `root`; for a folder elsewhere, the name that it would have in a recipe."""
    if stage.folder.is_relative_to(root):
        return stage.folder.relative_to(root).as_posix()
    name = stage.manifest.stage
    return name if stage.folder.name == name else f"{name}/{stage.folder.name}"


def _find_reference_model(
    result: str, *, stages: tuple[StageRun, ...], evaluation: StageRun, models: Mapping[str, object]
) -> str:
    """Return the evaluated model that the result was made from.

    It is the instruct model of `propagate` or the teacher of `calibrate`; if it was not evaluated, the model called
    `instruct`, else the first one.
    """
    evaluated = {name: path for name, path in _resolve_input_paths(evaluation).items() if name.startswith("models.")}
    result_folder = evaluated.get(f"models.{result}")
    for stage in stages:
        if stage.folder == result_folder and isinstance(stage.result, PropagationResult | CalibrationResult):
            inputs = _resolve_input_paths(stage)
            source = inputs.get("instruct") or inputs.get("teacher")
            for name in models:
                if source is not None and evaluated.get(f"models.{name}") == source:
                    return name
    return "instruct" if "instruct" in models else next(iter(models))


def _find_target_language(stages: tuple[StageRun, ...], evaluation: EvaluationResult) -> str:
    """Return the evaluated language with the largest share in the mixture of `retokenize`; else the first evaluated."""
    measured = evaluation.languages()
    for stage in stages:
        mixture = stage.manifest.settings.get("mixture") if stage.manifest.stage == "retokenize" else None
        shares = {language: share for language, share in (mixture or {}).items() if language in measured}
        if shares:
            return max(shares, key=lambda language: shares[language])
    return next(iter(measured), "")
