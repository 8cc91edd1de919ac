"""Generate answers with a model behind an OpenAI-compatible server, by the `openai` package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lep.errors import EndpointError
from lep.extras import require_extra
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import DecodingConfig, Failure, Messages, OnResult, Request

MAX_RETRIES = 5
"""Of a failed request, by the client, after half a second, a second, and so on up to eight seconds."""

_CONNECT_TIMEOUT, _REQUEST_TIMEOUT = 10.0, 3600.0
"""Seconds to connect, and for one answer: a busy server queues requests."""

_UNAUTHORIZED, _NOT_FOUND, _RATE_LIMITED = (401, 403), 404, 429
"""HTTP status codes that no other prompt would change."""

_MAX_ERROR_CHARACTERS = 300
"""Limit of an error text of a server, which can be a whole page."""

_PING_MESSAGES = ({"role": "user", "content": "Hello"},)


@dataclass(frozen=True)
class OpenAIBackend:
    """A served model. Its API key is read from the environment, sent to the server, and stored nowhere."""

    base_url: str
    """Address before `/chat/completions`."""
    model: str
    """Name under which the server has the model."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the API key."""
    max_concurrent_requests: int = 16

    def complete(
        self,
        requests: Sequence[Request],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        """Answer the requests; see `lep.sampling.backends.ChatBackend`.

        Args:
            requests: All requests, in order.
            decoding: How the answers are decoded.
            done_keys: Keys of the requests that are answered.
            on_result: Called once for each other request.

        Raises:
            EndpointError: The server cannot be reached, refuses the key, has no such model, or stops answering.
            UsageError: The package `openai` is not installed.
        """
        remaining = [request for request in requests if request.key not in done_keys]
        asyncio.run(self._complete_concurrently(remaining, decoding=decoding, on_result=on_result))

    async def _complete_concurrently(
        self, requests: Sequence[Request], *, decoding: DecodingConfig, on_result: OnResult
    ) -> None:
        """Send as many requests at once as allowed; the first error ends all."""
        api_key = os.environ.get(self.api_key_env)
        openai = _import_openai()
        async with openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=api_key or "none",
            max_retries=MAX_RETRIES,
            timeout=openai.Timeout(_REQUEST_TIMEOUT, connect=_CONNECT_TIMEOUT),
        ) as openai_client:
            client = _Client(openai_client, self, api_key)
            await client.ping(decoding)
            queue = iter(requests)

            async def work() -> None:
                for request in queue:
                    on_result(request, await client.complete(request, decoding=decoding))

            await asyncio.gather(*(work() for _ in range(min(self.max_concurrent_requests, len(requests)))))


@dataclass(frozen=True)
class _Client:
    """An open connection."""

    client: Any
    backend: OpenAIBackend
    api_key: str | None

    async def complete(self, request: Request, *, decoding: DecodingConfig) -> GeneratedText | Failure:
        """Generate an answer; a failure if the server refuses this prompt but answers others."""
        try:
            return await self._create_completion(request.messages, decoding, seed=decoding.derive_seed(*request.key))
        except _import_openai().APIStatusError as error:
            if error.status_code in (*_UNAUTHORIZED, _NOT_FOUND, _RATE_LIMITED):
                raise self._build_error(error) from None
            reason = f"HTTP {error.status_code}: {self._error_text(error)}"
        except _import_openai().APIError as error:
            raise self._build_error(error) from None
        await self.ping(decoding)
        return Failure(reason)

    async def ping(self, decoding: DecodingConfig) -> None:
        """Request one token, to check that the server answers at all."""
        short = DecodingConfig(max_new_tokens=1, temperature=decoding.temperature)
        try:
            await self._create_completion(_PING_MESSAGES, short, seed=decoding.seed)
        except _import_openai().APIError as error:
            raise self._build_error(error) from None

    async def _create_completion(self, messages: Messages, decoding: DecodingConfig, *, seed: int) -> GeneratedText:
        response = await self.client.chat.completions.create(
            model=self.backend.model,
            messages=[dict(message) for message in messages],
            temperature=decoding.temperature,
            max_tokens=decoding.max_new_tokens,
            seed=seed,
        )
        if not getattr(response, "choices", None):  # a response that is not JSON comes as a string
            raise EndpointError(f"{self._name}: the response has no choices; is this an OpenAI-compatible server?")
        choice, usage = response.choices[0], response.usage
        return GeneratedText(
            text=choice.message.content or "",
            tokens=usage.completion_tokens if usage else 0,
            truncated=choice.finish_reason == "length",
        )

    @property
    def _name(self) -> str:
        return f"{self.backend.base_url}, model {self.backend.model!r}"

    def _build_error(self, error: Any) -> EndpointError:
        """Build an error that says what failed and what to do."""
        status_code = getattr(error, "status_code", None)
        if status_code in _UNAUTHORIZED:
            state = "is not set" if self.api_key is None else "is set to a key that it refuses"
            return EndpointError(
                f"{self._name}: requires an API key (HTTP {status_code}); {self.backend.api_key_env} {state}"
            )
        if status_code is None:
            reason = str(error.__cause__ or error)
            return EndpointError(f"{self._name}: does not answer ({reason}); is the server up, and base_url right?")
        remedies = {
            _NOT_FOUND: "does base_url end as it should, usually in /v1, and is the model served under this name?",
            _RATE_LIMITED: "lower max_concurrent_requests of the endpoint, or wait",
        }
        remedy = remedies.get(status_code, "see the log of the server")
        return EndpointError(f"{self._name}: HTTP {status_code}: {self._error_text(error)}; {remedy}")

    def _error_text(self, error: Any) -> str:
        """Return the text of the server without the API key, which some servers repeat."""
        text = error.response.text.strip()[:_MAX_ERROR_CHARACTERS]
        return text.replace(self.api_key, "…") if self.api_key else text


def _import_openai() -> Any:
    require_extra("serve", required_by="an endpoint")
    import openai

    return openai
