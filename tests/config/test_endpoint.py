"""The address of an endpoint is checked before anything is sent."""

from __future__ import annotations

import pytest

from lep.config import Endpoint


def test_an_impossible_port_is_refused() -> None:
    with pytest.raises(ValueError, match="Port could not be cast to integer value as '80a0'"):
        Endpoint(base_url="http://localhost:80a0/v1", model="m")
