"""Run llama-quantize, llama.cpp's program for the quantizations that lep does not write itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lep.errors import LepError, UsageError

LLAMA_QUANTIZE = "llama-quantize"
_REPORTED_LINES = 5


def find_llama_quantize() -> str:
    """Find llama-quantize on the PATH.

    Returns:
        The path of the program.

    Raises:
        UsageError: It is not on the PATH.
    """
    program = shutil.which(LLAMA_QUANTIZE)
    if program is None:
        raise UsageError(
            f"quantization: {LLAMA_QUANTIZE} is not on the PATH. It comes with llama.cpp (a release, brew install "
            "llama.cpp, conda install -c conda-forge llama.cpp); or use quantization=q8_0, which does not need it"
        )
    return program


def run_llama_quantize(source: Path, target: Path, *, quantization: str) -> None:
    """Write a quantized copy of a GGUF file.

    Args:
        source: A GGUF file with floating-point matrices.
        target: The file to write.
        quantization: The name of the type, such as `q4_k_m`.

    Raises:
        LepError: The program failed; the message ends with its last lines.
        UsageError: The program is not on the PATH.
    """
    process = subprocess.run(
        [find_llama_quantize(), str(source), str(target), quantization.upper()],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode or not target.exists():
        output = "\n".join((process.stdout + process.stderr).strip().splitlines()[-_REPORTED_LINES:])
        raise LepError(f"{LLAMA_QUANTIZE} {quantization.upper()} failed with exit code {process.returncode}:\n{output}")
