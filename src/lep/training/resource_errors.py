"""What libraries say when memory or the disk is full, in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lep.errors import ArtifactError, LepError


@contextmanager
def explained(folder: Path, *, lower: str) -> Iterator[None]:
    """Errors of memory and disk inside become ones that say what to do.

    Args:
        folder: where checkpoints are.
        lower: the knobs that memory depends on, as in `micro_batch_size (8)`.

    Raises:
        LepError: memory is short.
        ArtifactError: the disk is full.
    """
    try:
        yield
    except (RuntimeError, OSError, SafetensorError) as error:
        words = str(error).lower()
        if "out of memory" in words or "allocate memory" in words:
            raise LepError(
                f"out of memory: lower {lower}, or set gradient_checkpointing; checkpoints stay in {folder}"
            ) from error
        if "no space left" in words or "failed writing" in words or "quota" in words:
            raise ArtifactError(f"{folder}: the disk is full; make room, and run the same command again") from error
        raise
