"""Settings of `lep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lep.config.base import Settings

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m"]


class ExportSettings(Settings):
    """A model folder → a GGUF file for llama.cpp and Ollama, with a Modelfile."""

    model: Path
    """The model folder."""
    format: Literal["gguf"] = "gguf"
    """Format to write."""
    quantization: Quantization | None = None
    """Data type of the matrices; None: that of the model. The k-quants (`q6_k` and smaller) need llama.cpp's
    `llama-quantize`."""
    out: Path
    """The folder to write."""
