"""Settings of a model served behind an OpenAI-compatible API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import field_validator

from lep.config.base import PositiveInt, RuntimeOnly, Settings


class Endpoint(Settings):
    """A model served behind an OpenAI-compatible API."""

    base_url: Annotated[str, RuntimeOnly]
    """The URL before `/chat/completions`, for example `http://localhost:8000/v1`."""
    model: str
    """The name under which the model is served."""
    api_key_env: Annotated[str, RuntimeOnly] = "OPENAI_API_KEY"
    """Environment variable with the API key, where one is needed; the key itself is never stored."""
    max_concurrent_requests: Annotated[PositiveInt, RuntimeOnly] = 16
    """Number of requests sent at once."""

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        _ = urlsplit(url).port  # a ValueError where there can be none
        return url
