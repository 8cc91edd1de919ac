"""Quantizations that llama.cpp makes itself, by its program llama-quantize."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lep.errors import LepError, UsageError

PROGRAM = "llama-quantize"


def program() -> str:
    """Where the program is.

    Raises:
        UsageError: it is not on the PATH.
    """
    if (found := shutil.which(PROGRAM)) is None:
        raise UsageError(
            f"quantization: {PROGRAM} is not on the PATH, and it makes these. It comes with llama.cpp (a release, brew "
            "install llama.cpp, conda install -c conda-forge llama.cpp); or take quantization=q8_0, which needs nothing"
        )
    return found


def quantize(source: Path, target: Path, *, quantization: str) -> None:
    """Write a smaller file.

    Raises:
        LepError: the program fails; with the end of what it says.
    """
    done = subprocess.run(
        [program(), str(source), str(target), quantization.upper()], capture_output=True, text=True, check=False
    )
    if done.returncode or not target.exists():
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise LepError(f"{PROGRAM} {quantization.upper()} failed with exit code {done.returncode}:\n{last}")
