"""Settings of `propagate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lep.config.base import NonNegativeFloat, Settings
from lep.config.initialize import EmbeddingNamesSettings


class PropagateSettings(Settings):
    """Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

    base: Path
    """The base model, with the old vocabulary."""
    adapted: Path
    """The base model with the new vocabulary after continued pre-training, or a LoRA adapter (see `adapter_base`)."""
    instruct: Path
    """The model that gets the new vocabulary: fine-tuned from the same base with the old vocabulary, or a LoRA adapter
    on the base. A mapping of names to models makes one result for each."""
    method: Literal["swap", "overlap", "conversion", "auto"] = "conversion"
    """`swap`: copy the adapted embeddings; `overlap`: fit on shared tokens; `conversion`: fit on all new tokens;
    `auto`: for each embedding matrix the method with the smallest held-out error."""
    ridge: NonNegativeFloat = 0.0
    """λ of the penalty λ‖P − I‖² in the fit; 0: ordinary least squares."""
    weights: Literal["uniform", "frequency"] = "uniform"
    """Weight of each token's row in the fit: all the same, or 1 + its occurrences in `corpus`."""
    corpus: Path | None = None
    """Text for `weights=frequency`: a corpus made by `collect`, a file of documents, or a folder of such files."""
    adapter_base: Path | None = None
    """If adapted is a LoRA adapter: the initialized model that it was trained on."""
    layers_scale: float | None = None
    """Scale of the change of the adapted model's layers, which is added to the instruct model's layers. None: 1 for a
    LoRA adapter; a full adapted model must then have the layers of the base."""
    embedding_names: EmbeddingNamesSettings | None = None
    """Tensor names of the embeddings, for a model in which lep cannot find them by itself."""
    link: Literal["hard", "copy"] = "hard"
    """Unchanged weight files are hard links to those of the instruct model, or copies."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Device on which rows are multiplied and P is solved."""

    @model_validator(mode="after")
    def _check_consistency(self) -> PropagateSettings:
        if (self.weights == "frequency") != (self.corpus is not None):
            raise ValueError("weights=frequency and corpus belong together; give both or neither")
        return self
