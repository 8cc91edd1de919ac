"""Answers of a model that is served elsewhere and speaks OpenAI's protocol, by the `openai` package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lep.config.endpoint import Endpoint
from lep.errors import EndpointError
from lep.extras import need
from lep.modeling.generation import Answer
from lep.sampling.backends import Asked, Decoding, Keep, Messages, NoAnswer

RETRIES = 5
"""Of a request that failed, by the client, after half a second, a second, and so on up to eight."""

_CONNECTING, _LONGEST_WAIT = 10.0, 3600.0
"""Seconds to reach the server, and for one answer: a busy server keeps requests in a queue."""

_REFUSED, _ABSENT, _TOO_MANY = (401, 403), 404, 429
"""HTTP's codes for what no other prompt would change."""

_LONGEST_WORDS = 300
"""Characters of what a server says about an error: some say a whole page."""

_KNOCK = ({"role": "user", "content": "Hello"},)


@dataclass(frozen=True)
class Served:
    """A served model. Its key is read from the environment, sent to the server, and goes nowhere else."""

    endpoint: Endpoint

    def answer(
        self, asked: Sequence[Asked], *, decoding: Decoding, done: Collection[tuple[int, int]], keep: Keep
    ) -> None:
        """See `lep.sampling.backends.Answerer`.

        Raises:
            EndpointError: it cannot be reached, refuses the key, has no such model, or does not answer any more.
            UsageError: the package `openai` is not there.
        """
        left = [one for one in asked if one.key not in done]
        asyncio.run(self._answer(left, decoding=decoding, keep=keep))

    async def _answer(self, left: Sequence[Asked], *, decoding: Decoding, keep: Keep) -> None:
        """As many requests at once as the endpoint may get; the first error ends all."""
        key = os.environ.get(self.endpoint.key_variable)
        openai = _openai()
        async with openai.AsyncOpenAI(
            base_url=self.endpoint.url,
            api_key=key or "none",
            max_retries=RETRIES,
            timeout=openai.Timeout(_LONGEST_WAIT, connect=_CONNECTING),
        ) as client:
            line = _Line(client, self.endpoint, key)
            await line.knock(decoding)
            waiting = iter(left)

            async def work() -> None:
                for one in waiting:
                    keep(one, await line.ask(one, decoding=decoding))

            await asyncio.gather(*(work() for _ in range(min(self.endpoint.requests, len(left)))))


@dataclass(frozen=True)
class _Line:
    """An open connection."""

    client: Any
    endpoint: Endpoint
    key: str | None

    async def ask(self, one: Asked, *, decoding: Decoding) -> Answer | NoAnswer:
        """An answer; none where the server refuses this prompt and answers others."""
        try:
            return await self._complete(one.messages, decoding, seed=decoding.seed_of(*one.key))
        except _openai().APIStatusError as error:
            if error.status_code in (*_REFUSED, _ABSENT, _TOO_MANY):
                raise self._stopped(error) from None
            reason = f"HTTP {error.status_code}: {self._words(error)}"
        except _openai().APIError as error:
            raise self._stopped(error) from None
        await self.knock(decoding)
        return NoAnswer(reason)

    async def knock(self, decoding: Decoding) -> None:
        """Ask for one token, to learn whether the endpoint answers at all."""
        short = Decoding(longest=1, temperature=decoding.temperature)
        try:
            await self._complete(_KNOCK, short, seed=decoding.seed)
        except _openai().APIError as error:
            raise self._stopped(error) from None

    async def _complete(self, messages: Messages, decoding: Decoding, *, seed: int) -> Answer:
        found = await self.client.chat.completions.create(
            model=self.endpoint.model,
            messages=[dict(message) for message in messages],
            temperature=decoding.temperature,
            max_tokens=decoding.longest,
            seed=seed,
        )
        if not getattr(found, "choices", None):  # what is no JSON comes as a string
            raise EndpointError(f"{self._name}: its answer has no choices; is this an OpenAI-compatible server?")
        said, usage = found.choices[0], found.usage
        return Answer(
            text=said.message.content or "",
            tokens=usage.completion_tokens if usage else 0,
            cut=said.finish_reason == "length",
        )

    @property
    def _name(self) -> str:
        return f"{self.endpoint.url}, model {self.endpoint.model!r}"

    def _stopped(self, error: Any) -> EndpointError:
        """What went wrong, and what to do."""
        code = getattr(error, "status_code", None)
        if code in _REFUSED:
            state = "is not set" if self.key is None else "is set to something else than it wants"
            return EndpointError(f"{self._name}: wants a key (HTTP {code}); {self.endpoint.key_variable} {state}")
        if code is None:
            words = str(error.__cause__ or error)
            return EndpointError(f"{self._name}: does not answer ({words}); is the server up, and the address right?")
        remedy = {
            _ABSENT: "does the url end as it should, mostly in /v1, and is the model served under this name?",
            _TOO_MANY: "lower endpoint.requests, or wait",
        }
        return EndpointError(f"{self._name}: HTTP {code}: {self._words(error)}; {remedy.get(code, 'see its log')}")

    def _words(self, error: Any) -> str:
        """What the server says, without the key, which some servers repeat."""
        words = error.response.text.strip()[:_LONGEST_WORDS]
        return words.replace(self.key, "…") if self.key else words


def _openai() -> Any:
    need("serve", what="an endpoint")
    import openai

    return openai
