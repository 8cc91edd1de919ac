"""Settings of `lep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lep.config.base import Settings

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m"]


class Export(Settings):
    """A model folder → a GGUF file for llama.cpp and Ollama, and how to run it."""

    model: Path
    """The model folder."""
    format: Literal["gguf"] = "gguf"
    """What to write."""
    quantization: Quantization | None = None
    """How matrices are stored; None: as the model has them. The smaller ones, from `q6_k` on, need llama.cpp's own
    `llama-quantize`."""
    out: Path
    """The folder to write."""
