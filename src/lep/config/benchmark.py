"""Settings of the benchmark Darumeru."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lep.config.base import Count, How, Settings
from lep.config.endpoint import Endpoint

Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
"""Of a model, for tables and files."""

DARUMERU = {
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
"""The tasks of each group."""


class Benchmark(Settings):
    """Darumeru: which tasks, from where, and how models are asked."""

    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    """Tasks, or groups of them, as docs/darumeru.md names them; none: all 17."""
    data: Path | None = None
    """A folder with the data sets, as `lep evaluate --export-data` writes it; none: from the hub."""
    variant: Literal["paper", "scripts"] = "paper"
    """Where the paper's text and its scripts score differently: which is followed."""
    base: tuple[str, ...] = ()
    """Models, by name, that are no instruct models: they are shown 5 examples, and need no chat template."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Examples that every model is shown; none: 5 for those in `base`, 0 for the others."""
    limit: Count | None = None
    """Only so many documents of each task, the first: to try a run; none: all."""
    batch_size: Annotated[Count, How] = 8
    """Requests that transformers works on at once; vLLM and endpoints see to that themselves."""
    engine: Annotated[Literal["transformers", "vllm"], How] = "transformers"
    """What runs the models that are folders."""
    endpoints: dict[Name, Endpoint] = Field(default={})
    """Models that are served elsewhere, by name: they do the tasks in which a model writes, and no others."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draws that intervals come from."""

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: list[str] | None) -> list[str] | None:
        known = [*DARUMERU, *(task for group in DARUMERU.values() for task in group)]
        if unknown := [task for task in tasks or [] if task not in known]:
            raise ValueError(f"{', '.join(unknown)}: no such task or group; there are {', '.join(known)}")
        return tasks

    @model_validator(mode="after")
    def _agree(self) -> Benchmark:
        if served := [name for name in self.base if name in self.endpoints]:
            raise ValueError(f"base: {', '.join(served)} is an endpoint, which is asked as an instruct model")
        return self

    @property
    def chosen(self) -> tuple[str, ...]:
        """The tasks, in the order of the benchmark."""
        wanted = self.tasks or list(DARUMERU)
        return tuple(task for group, tasks in DARUMERU.items() for task in tasks if group in wanted or task in wanted)
