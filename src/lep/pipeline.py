"""Run a recipe: it becomes steps, and each step makes one artifact, once.

A recipe is a pipeline as data: `out:` and one section a stage, in the order in which they run. Where a setting names an
input, the name of an earlier stage refers to its artifact (`adapted: pretrain`). A list where one value is expected
makes one artifact for each value (`method: [swap, conversion]` gives `propagate/swap` and `propagate/conversion`). A
mapping where a path is expected names them (`instruct: {chat: models/chat}` gives `propagate/chat`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from lep.config import Settings, get_input_paths, map_paths, runtime_only_fields
from lep.config.recipe import apply_override, read_recipe
from lep.distributed import broadcast, get_world_size, init_process_group, is_main_process, receive, run_on_main
from lep.errors import LepError, UsageError
from lep.extras import require_extra
from lep.io.artifact import ArtifactPlan, Manifest, build_artifact, is_finished
from lep.progress import log_message
from lep.registry import STAGES, Stage

_RESULT_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class PipelineStep:
    """One artifact to make; its name is its place in the run, such as `propagate/swap`."""

    name: str
    stage: Stage
    settings: Settings
    out: Path

    @property
    def plan(self) -> ArtifactPlan:
        """The plan that the artifact is built and recognized by."""
        return ArtifactPlan(
            self.stage.name,
            self.out,
            self.settings.model_dump(mode="json"),
            get_input_paths(self.settings),
            runtime_only=runtime_only_fields(self.settings),
            write_card=_write_card if self.stage.writes_model else None,
        )


def load_recipe(file: Path, overrides: Sequence[str] = (), *, last_stage: str | None = None) -> list[PipelineStep]:
    """Read a recipe and resolve it into validated steps.

    Args:
        file: The recipe, YAML.
        overrides: `stage.key=value` or `out=folder`; values are YAML.
        last_stage: References in the stages after this one are not checked; None: all are.

    Returns:
        The steps, in the order in which they run.

    Raises:
        UsageError: All errors at once: unknown stages, unknown keys, wrong types, references to later stages.
    """
    recipe = read_recipe(file)
    for assignment in overrides:
        apply_override(recipe, assignment)
    out = Path(str(recipe.pop("out", Path("runs") / file.stem)))
    unchecked = set(list(recipe)[list(recipe).index(last_stage) + 1 :]) if last_stage in recipe else set()
    steps: list[PipelineStep] = []
    problems: list[str] = []
    artifacts: dict[str, Path] = {}
    for name, section in recipe.items():
        if name not in STAGES:
            problems.append(f"{name}: no such stage; stages: {', '.join(STAGES)}")
            continue
        if not isinstance(section or {}, dict):
            problems.append(f"{name}: expected settings, found {section!r}")
            continue
        for step_name, values in _expand_sweep(STAGES[name], section or {}):
            settings = _validate_settings(STAGES[name], values, step_name)
            if isinstance(settings, list):
                problems += settings
            else:
                resolved = map_paths(settings, lambda path, artifacts=artifacts: artifacts.get(str(path), path))
                problems += [] if name in unchecked else _find_forward_references(step_name, resolved, recipe)
                steps.append(PipelineStep(step_name, STAGES[name], resolved, out / step_name))
            artifacts[step_name] = out / step_name
    if problems:
        raise UsageError("\n  ".join([f"{file}:", *dict.fromkeys(problems)]))
    return steps


def build_stage_steps(stage: str, assignments: Sequence[str]) -> list[PipelineStep]:
    """Make the steps of one stage from the command line; several values of one setting make several steps.

    Args:
        stage: Name of the stage.
        assignments: `key=value …` and `out=folder`; values are YAML.

    Returns:
        One step, or one for each value.

    Raises:
        UsageError: `out=` is missing, or a setting is unknown or wrong; all errors at once.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        apply_override(values, assignment)
    if "out" not in values:
        raise UsageError(f"{stage}: out= is missing; name the folder for the result")
    out = Path(str(values.pop("out")))
    steps, problems = [], []
    for name, section in _expand_sweep(STAGES[stage], values):
        settings = _validate_settings(STAGES[stage], section, name)
        if isinstance(settings, list):
            problems += settings
        else:
            folder = out / name.removeprefix(stage).removeprefix("/")
            steps.append(PipelineStep(name, STAGES[stage], settings, folder))
    if problems:
        raise UsageError("\n  ".join([f"{stage}:", *dict.fromkeys(problems)]))
    return steps


def select_steps(
    steps: Sequence[PipelineStep], *, first_stage: str | None, last_stage: str | None
) -> list[PipelineStep]:
    """Select the steps from one stage to another, both included.

    Args:
        steps: All steps of a recipe.
        first_stage: Name of the first stage to run; None: the recipe's first.
        last_stage: Name of the last one; None: the recipe's last.

    Returns:
        The steps between them, in order.

    Raises:
        UsageError: The recipe has no such stage, or `first_stage` comes after `last_stage`.
    """
    stages = [step.stage.name for step in steps]
    for name in (first_stage, last_stage):
        if name and name not in stages:
            raise UsageError(f"{name}: not a stage of this recipe; it has: {', '.join(dict.fromkeys(stages))}")
    start = stages.index(first_stage) if first_stage else 0
    end = len(stages) - stages[::-1].index(last_stage) if last_stage else len(stages)
    if start >= end:
        raise UsageError(f"{first_stage} comes after {last_stage} in this recipe; there is nothing to run")
    return list(steps[start:end])


def check_steps(steps: Sequence[PipelineStep]) -> list[str]:
    """List what prevents a run: missing packages, inputs that do not exist and that no earlier step makes.

    Raises `UsageError` when an extra is not installed, and what a stage's own check raises.
    """
    for stage in {step.stage.name: step.stage for step in steps}.values():
        if stage.extra:
            require_extra(stage.extra, required_by=stage.name)
    for step in steps:
        if getattr(step.settings, "benchmark", None):
            require_extra("eval", required_by=f"{step.stage.name}.benchmark")
    if problems := _find_missing_inputs(steps):
        return problems
    for step in steps:
        if step.stage.check:
            step.stage.load(step.stage.check)(step.settings)
    return []


def _find_missing_inputs(steps: Sequence[PipelineStep]) -> list[str]:
    available: set[Path] = set()
    problems = []
    for step in steps:
        for name, path in get_input_paths(step.settings).items():
            if path in available:
                continue
            if not path.exists():
                problems.append(f"{step.name}.{name}: {path} does not exist, and no earlier stage makes it")
            elif step.stage.reads_weights and name != "tokenizer" and _lacks_weights(path):
                problems.append(
                    f"{step.name}.{name}: {path} has a config.json and no weights; expected .safetensors beside it"
                )
                available.add(path)  # reported once
        available.add(step.out)
    return problems


def _lacks_weights(path: Path) -> bool:
    return (path / "config.json").exists() and not any(path.glob("*.safetensors"))


def run_steps(
    steps: Sequence[PipelineStep],
    *,
    replace: bool,
    on_start: Callable[[PipelineStep], None],
    on_end: Callable[[PipelineStep, bool], None],
) -> None:
    """Make every artifact that does not exist yet; in a distributed run every process calls this.

    Args:
        steps: What to make, in order.
        replace: Whether to replace artifacts that were made with other settings.
        on_start: Called in the main process before each step.
        on_end: Called in the main process after each step, with whether the step was run.

    Raises:
        UsageError: Inputs or packages are missing.
        LepError: What a stage raises.
    """
    init_process_group()
    if problems := run_on_main(lambda: check_steps(steps)):
        raise UsageError("\n  ".join(["cannot start:", *problems]))
    caches: dict[str, dict[object, Any]] = {}
    for step in steps:
        if is_main_process():
            on_start(step)
        arguments = (caches.setdefault(step.stage.name, {}),) if step.stage.shares_work else ()
        run_stage = _bind_settings(step, *arguments)
        if step.stage.distributed and get_world_size() > 1:
            was_run = _build_artifact_distributed(step.plan, run_stage, replace=replace)
        else:
            was_run = run_on_main(partial(build_artifact, step.plan, run_stage, replace=replace))
        if is_main_process():
            on_end(step, was_run)


def _bind_settings(step: PipelineStep, *arguments: object) -> Callable[[Path], Any]:
    return lambda folder: step.stage.run(step.settings, folder, *arguments)


def _build_artifact_distributed(plan: ArtifactPlan, run_stage: Callable[[Path], Any], *, replace: bool) -> bool:
    """Call `build_artifact` in the main process and `run_stage` in the others at the same time."""
    if not is_main_process():
        if receive():
            run_stage(plan.partial_folder)
        return receive()

    def run_with_others(folder: Path) -> Any:
        broadcast(True)
        return run_stage(folder)

    was_run = build_artifact(plan, run_with_others, replace=replace)
    if not was_run:
        broadcast(False)
    broadcast(was_run)
    return was_run


def _write_card(folder: Path, manifest: Manifest) -> None:
    """Write the model card; an error there must not cost the model."""
    try:
        require_extra("report", required_by="a model card")
        from lep.reporting.card.write import write_card

        write_card(folder, manifest)
    except LepError as error:
        log_message(f"no model card was written: {error}; `lep card` writes it once that is mended")


def describe_status(step: PipelineStep) -> str:
    """Return `done`, `to resume` or `to do`."""
    if is_finished(step.plan):
        return "done"
    return "to resume" if step.plan.partial_folder.exists() else "to do"


def _expand_sweep(stage: Stage, section: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Expand a section: one copy per value where a scalar setting holds a list, or a path setting a mapping."""
    fields = stage.settings.model_fields
    swept = [key for key, value in section.items() if key in fields and _is_sweep(fields[key].annotation, value)]
    if len(swept) > 1:
        raise UsageError(f"{stage.name}: only one setting can have several values; these have: {', '.join(swept)}")
    if not swept:
        yield stage.name, dict(section)
        return
    place, values = f"{stage.name}.{swept[0]}", section[swept[0]]
    if not values:
        raise UsageError(f"{place}: no value; give at least one")
    named = list(values.items()) if isinstance(values, Mapping) else [(Path(str(v)).name, v) for v in values]
    if len(dict(named)) < len(named):
        raise UsageError(f"{place}: two values have the same name; name them: {{first: …, second: …}}")
    for name, value in named:
        if not _RESULT_NAME.fullmatch(str(name)):
            raise UsageError(f"{place}: {name!r} cannot name a result; use letters, digits, and -_.+ within")
        yield f"{stage.name}/{name}", dict(section) | {swept[0]: value}


def _is_sweep(annotation: Any, value: object) -> bool:
    if isinstance(value, Mapping):
        return annotation is Path
    return isinstance(value, list) and get_origin(annotation) not in (list, tuple)


def _validate_settings(stage: Stage, values: Mapping[str, Any], step_name: str) -> Settings | list[str]:
    """Validate a section; returns what is wrong with it where something is."""
    try:
        return stage.settings.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            parts = [part for part in map(str, item["loc"]) if "[" not in part]  # else pydantic's name of a type
            unknown = item["type"] == "extra_forbidden" and len(parts) == 1
            hint = f"; settings: {', '.join(stage.settings.model_fields)}" if unknown else ""
            problems.append(f"{'.'.join((step_name, *parts))}: {item['msg']}{hint}")
        return [*problems, f"`lep explain {stage.name}` describes its settings"]


def _find_forward_references(step_name: str, settings: Settings, recipe: Mapping[str, Any]) -> list[str]:
    """List references that were not resolved although the recipe has a stage of that name."""
    return [
        f"{step_name}.{name}: {path} is a stage that comes later, or has several results (as propagate/swap); "
        "name an earlier stage"
        for name, path in get_input_paths(settings).items()
        if str(path).split("/")[0] in recipe and not path.exists()
    ]
