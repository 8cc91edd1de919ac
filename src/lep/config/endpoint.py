"""Settings of an OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import field_validator

from lep.config.base import Count, How, Settings


class Endpoint(Settings):
    """A model that is served elsewhere and speaks OpenAI's protocol."""

    url: Annotated[str, How]
    """The address before `/chat/completions`, as in `http://localhost:8000/v1`."""
    model: str
    """The name under which the model is served."""
    key_variable: Annotated[str, How] = "OPENAI_API_KEY"
    """Environment variable with the key, where one is needed; the key itself is no setting and is kept nowhere."""
    requests: Annotated[Count, How] = 16
    """How many requests are under way at once."""

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        _ = urlsplit(url).port  # a ValueError where there can be none
        return url
