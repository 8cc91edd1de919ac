"""The rules and the kinds of number that all rooms' settings share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
Dtype = Literal["float32", "bfloat16"]


class How:
    """Marks a knob that says how to work, not what to make: `Annotated[Count, How]`."""


class Settings(BaseModel):
    """The rules that all settings share: frozen, unknown keys are errors, docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )
