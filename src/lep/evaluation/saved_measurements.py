"""Measurements kept in files, so that an interrupted evaluation resumes with what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from lep.errors import ArtifactError
from lep.io.atomic import write_atomically

T = TypeVar("T")


def load_or_measure(file: Path, measurement_type: type[T], measure: Callable[[], T]) -> T:
    """Return the measurement that an earlier run wrote into a file, or measure and write it.

    Args:
        file: JSON; its folder is created.
        measurement_type: A dataclass.
        measure: Called when there is no file.

    Returns:
        The value as it is read from the file: equal for an interrupted run and one that was not.

    Raises:
        ArtifactError: The file holds something else.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        measurement = TypeAdapter(measurement_type).dump_python(measure())
        write_atomically(file, json.dumps(measurement, ensure_ascii=False))
    return parse_measurement(file.read_text(encoding="utf-8"), measurement_type, file=file)


def parse_measurement(text: str, measurement_type: type[T], *, file: Path) -> T:
    """Parse a measurement.

    Args:
        text: JSON.
        measurement_type: A dataclass.
        file: Contains the text; for errors.

    Returns:
        The value.

    Raises:
        ArtifactError: The text is something else.
    """
    try:
        return TypeAdapter(measurement_type).validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "JSON"
        raise ArtifactError(
            f"{file}: not written by this version of lep ({place}: {problem['msg']}); delete it and run again"
        ) from None
