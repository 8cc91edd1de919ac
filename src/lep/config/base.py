"""The base class and the number types that the settings of all stages share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

UnitInterval = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Dtype = Literal["float32", "bfloat16"]


class RuntimeOnly:
    """Marks a setting that does not affect the result: `Annotated[PositiveInt, RuntimeOnly]`."""


class Settings(BaseModel):
    """Base class of all settings: frozen; unknown keys are errors; attribute docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )
