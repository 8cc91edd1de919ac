"""A measurement is done once, and read back as the same value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from lep.errors import ArtifactError
from lep.evaluation.saved_measurements import load_or_measure


@dataclass(frozen=True)
class Measurement:
    values: dict[str, tuple[float, ...]]
    text: str


def test_a_measurement_is_read_back_as_it_was(tmp_path) -> None:
    measurement = Measurement({"a": (0.1, math.inf), "b": ()}, "кот")
    file = tmp_path / "folder/model.json"
    assert load_or_measure(file, Measurement, lambda: measurement) == measurement
    assert load_or_measure(file, Measurement, lambda: pytest.fail("measured twice")) == measurement


def test_a_file_of_something_else_is_an_error(tmp_path) -> None:
    file = tmp_path / "model.json"
    file.write_text('{"values": 1}')
    with pytest.raises(
        ArtifactError, match=r"model\.json: .* \(values: Input should be an object\); delete it and run"
    ):
        load_or_measure(file, Measurement, lambda: pytest.fail("measured"))
    file.write_text('{"values"')
    with pytest.raises(ArtifactError, match=r"model\.json: .* \(JSON: Invalid JSON"):
        load_or_measure(file, Measurement, lambda: pytest.fail("measured"))


def test_a_measurement_that_fails_leaves_no_file(tmp_path) -> None:
    def fail() -> Measurement:
        raise ValueError

    with pytest.raises(ValueError):
        load_or_measure(tmp_path / "model.json", Measurement, fail)
    assert list(tmp_path.iterdir()) == []
