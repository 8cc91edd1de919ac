"""Settings of `propagate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lep.config.base import NonNegative, Settings
from lep.config.initialize import Tables


class Propagate(Settings):
    """Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

    base: Path
    """The base model, old vocabulary."""
    adapted: Path
    """The base model with the new vocabulary, after continued pre-training; or a LoRA adapter (see `adapter_base`)."""
    instruct: Path
    """The model to carry the new vocabulary into; fine-tuned from the same base, old vocabulary; or a LoRA adapter on
    the base. A mapping of names to models makes one result each."""
    method: Literal["swap", "overlap", "conversion", "auto"] = "conversion"
    """`swap`: tables as they are; `overlap`: fitted on shared tokens; `conversion`: fitted on all new tokens; `auto`:
    for each table the one that errs least on rows kept from the fit."""
    ridge: NonNegative = 0.0
    """λ of the penalty λ‖P − I‖² in the fit; 0: plain least squares."""
    weights: Literal["uniform", "frequency"] = "uniform"
    """How much each token's row counts in the fit: all the same, or 1 + its occurrences in `corpus`."""
    corpus: Path | None = None
    """Text for `weights=frequency`: a corpus made by `collect`, a file of documents, or a folder of such files."""
    adapter_base: Path | None = None
    """Where adapted is a LoRA adapter: the initialized model that it was trained on."""
    layers_scale: float | None = None
    """What the adapted model's layers learnt is added to the instruct model's, times this; none: once for a LoRA
    adapter, and it is an error when the layers of a whole adapted model are not the base's."""
    tables: Tables | None = None
    """The two tables' tensors, where neither the family nor names and shapes tell."""
    link: Literal["hard", "copy"] = "hard"
    """Weight files that do not change become hard links to the instruct model's, or copies."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Where rows are multiplied and P is solved."""

    @model_validator(mode="after")
    def _agree(self) -> Propagate:
        if (self.weights == "frequency") != (self.corpus is not None):
            raise ValueError("weights=frequency and corpus belong together; give both, or neither")
        return self
