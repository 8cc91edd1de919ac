"""Settings of the Darumeru benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lep.config.base import PositiveInt, RuntimeOnly, Settings
from lep.config.endpoint import Endpoint

ModelName = Annotated[str, Field(pattern=r"^[\w.-]+$")]
"""Name of a model in tables and file names."""

DARUMERU_TASK_GROUPS = {
    "DaruMMLU": ("darumeru_rummlu", "darumeru_mmlu_ru", "darumeru_mmlu_en"),
    "DaruMERA": (
        "darumeru_multiq",
        "darumeru_parus",
        "darumeru_rcb",
        "darumeru_rwsd",
        "darumeru_use",
        "darumeru_ruopenbookqa",
        "darumeru_ruworldtree",
        "darumeru_rucola",
    ),
    "DaruSum": ("darumeru_abstractive", "darumeru_extractive"),
    "DaruCopy-EN": ("darumeru_cp_sent_en", "darumeru_cp_para_en"),
    "DaruCopy-RU": ("darumeru_cp_sent_ru", "darumeru_cp_para_ru"),
}
"""The 17 tasks, by group."""


class BenchmarkSettings(Settings):
    """Darumeru: tasks, data, and how models are prompted."""

    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    """Tasks or groups of tasks, by their names in docs/darumeru.md; None: all 17."""
    data: Path | None = None
    """A folder with the data sets, as written by `lep evaluate --download-data`; None: load them from the hub."""
    variant: Literal["paper", "scripts"] = "paper"
    """Which metrics to use where the paper's text and its scripts differ."""
    base_models: tuple[str, ...] = ()
    """Names of the base models: they are prompted with 5 examples and need no chat template."""
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Number of examples in every prompt; None: 5 for `base_models`, 0 for the others."""
    limit: PositiveInt | None = None
    """Number of documents of each task, from the first, to try a run; None: all."""
    batch_size: Annotated[PositiveInt, RuntimeOnly] = 8
    """Number of requests that transformers processes at once; vLLM and endpoints batch by themselves."""
    backend: Annotated[Literal["transformers", "vllm"], RuntimeOnly] = "transformers"
    """Library that runs models that are folders."""
    endpoints: dict[ModelName, Endpoint] = Field(default={})
    """Models served elsewhere, by name; they run only tasks that need no log-probabilities."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the bootstrap of the intervals."""

    @field_validator("tasks")
    @classmethod
    def _check_tasks(cls, tasks: list[str] | None) -> list[str] | None:
        known_names = [*DARUMERU_TASK_GROUPS, *(task for group in DARUMERU_TASK_GROUPS.values() for task in group)]
        if unknown := [task for task in tasks or [] if task not in known_names]:
            raise ValueError(f"{', '.join(unknown)}: no such task or group; known: {', '.join(known_names)}")
        return tasks

    @model_validator(mode="after")
    def _check_consistency(self) -> BenchmarkSettings:
        if served := [name for name in self.base_models if name in self.endpoints]:
            raise ValueError(f"base_models: {', '.join(served)} is an endpoint; endpoints are instruct models")
        return self

    @property
    def selected_tasks(self) -> tuple[str, ...]:
        """The selected tasks, in the order of the benchmark."""
        names = self.tasks or list(DARUMERU_TASK_GROUPS)
        return tuple(
            task for group, tasks in DARUMERU_TASK_GROUPS.items() for task in tasks if group in names or task in names
        )
