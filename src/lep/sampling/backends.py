"""Generate answers to many prompts, and store each one as it comes, so that an interrupted run can be resumed.

A backend is a value with one method: a model in memory (`TransformersBackend`, `VLLMBackend`) or behind a server
(`lep.sampling.openai_backend.OpenAIBackend`). None of them loads or connects to anything before it gets requests.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Protocol, runtime_checkable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.data.chat_template import render_chat
from lep.errors import DataError, LepError, TokenizerError, UsageError
from lep.modeling.generation import generate_batches
from lep.modeling.loading import get_max_position_embeddings, load_model, load_tokenizer
from lep.progress import track_progress
from lep.results.evaluation import GeneratedText

Messages = Sequence[Mapping[str, str]]
"""A conversation up to the answer to generate: `role` and `content` of each message."""


@dataclass(frozen=True)
class Request:
    """One answer to generate: a candidate for a prompt."""

    prompt_index: int
    candidate_index: int
    messages: Messages
    place: str
    """Where the prompt is from, for errors: `prompts.jsonl:7`."""

    @property
    def key(self) -> tuple[int, int]:
        """Return what identifies the request in the file of results."""
        return self.prompt_index, self.candidate_index

    @property
    def prompt_hash(self) -> str:
        """Return a hash of the messages, to detect prompts that changed between two runs."""
        return sha256(json.dumps([dict(message) for message in self.messages]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Failure:
    """No answer: this prompt alone cannot be answered."""

    reason: str


@dataclass(frozen=True)
class DecodingConfig:
    """How answers are decoded."""

    max_new_tokens: int
    temperature: float = 0.0
    """Of sampling; 0: greedy decoding."""
    seed: int = 0

    def derive_seed(self, *key: int) -> int:
        """Return a seed for the request or batch with this key."""
        return Random(f"{self.seed}/{key}").getrandbits(31)


OnResult = Callable[[Request, GeneratedText | Failure], None]
"""Receives each answer as it comes."""


@runtime_checkable
class ChatBackend(Protocol):
    """Generates answers."""

    def complete(
        self,
        requests: Sequence[Request],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        """Answer all requests whose keys are not done; the answers must not depend on which ones are done.

        Args:
            requests: All requests, in order.
            decoding: How the answers are decoded.
            done_keys: Keys of the requests that are answered.
            on_result: Called once for each other request.
        """


def complete_all(
    backend: ChatBackend,
    prompts: Sequence[tuple[Messages, str]],
    *,
    decoding: DecodingConfig,
    file: Path,
    label: str,
    num_candidates: int = 1,
) -> list[list[GeneratedText | Failure]]:
    """Generate the answers to all prompts that a file does not contain yet.

    Args:
        backend: Generates the answers.
        prompts: Messages, and the place that they are from.
        decoding: How the answers are decoded.
        file: Gets one line of JSON for each answer as it comes.
        label: Of the progress.
        num_candidates: Answers to each prompt.

    Returns:
        The answers by prompt, then by candidate.

    Raises:
        LepError: The backend fails; the message says how many answers are kept.
        DataError: `file` is damaged, or contains answers to other prompts.
    """
    requests = [
        Request(prompt_index=i, candidate_index=candidate, messages=messages, place=place)
        for i, (messages, place) in enumerate(prompts)
        for candidate in range(num_candidates)
    ]
    results = _read_results(file, requests)
    if any(request.key not in results for request in requests):
        _complete_remaining(backend, requests, results, decoding=decoding, file=file, label=label)
    return [[results[i, candidate] for candidate in range(num_candidates)] for i in range(len(prompts))]


def _complete_remaining(
    backend: ChatBackend,
    requests: Sequence[Request],
    results: dict[tuple[int, int], GeneratedText | Failure],
    *,
    decoding: DecodingConfig,
    file: Path,
    label: str,
) -> None:
    """Add the missing results, in memory and to the file."""
    done = frozenset(results)
    with (
        file.open("a", encoding="utf-8") as stream,
        track_progress(label, total=len(requests), unit="answers", completed=len(done)) as advance,
    ):

        def save(request: Request, result: GeneratedText | Failure) -> None:
            results[request.key] = result
            key = {"prompt_index": request.prompt_index, "candidate_index": request.candidate_index}
            line = {**key, "prompt_hash": request.prompt_hash, **asdict(result)}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            advance(1)

        try:
            backend.complete(requests, decoding=decoding, done_keys=done, on_result=save)
        except LepError as error:
            if not results:
                raise
            saved = f"{len(results)} of {len(requests)} answers are kept, and the same command continues after them"
            raise type(error)(f"{error}; {saved}") from error


def _read_results(file: Path, requests: Sequence[Request]) -> dict[tuple[int, int], GeneratedText | Failure]:
    """Read the results in a file, after removing an incomplete last line from it."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    lines = content[: content.rfind(b"\n") + 1]
    if lines != content:
        with file.open("r+b") as stream:
            stream.truncate(len(lines))
    hashes = {request.key: request.prompt_hash for request in requests}
    results: dict[tuple[int, int], GeneratedText | Failure] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        try:
            row = json.loads(line)
            key = row.pop("prompt_index"), row.pop("candidate_index")
            prompt_hash = row.pop("prompt_hash")
            results[key] = Failure(**row) if "reason" in row else GeneratedText(**row)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"{file}:{number}: not an answer that lep wrote; remove the line") from None
        if prompt_hash != hashes.get(key):
            raise DataError(
                f"{file}:{number}: answers another prompt than the present number {key[0] + 1}; restore the prompts, "
                "or remove the file"
            )
    return results


@dataclass(frozen=True)
class TransformersBackend:
    """A model in a folder, run by transformers in batches of prompts of similar length."""

    model_folder: Path
    dtype: str
    batch_size: int = 32
    """Answers generated at once. The batches do not depend on what is done, so that a resumed run gives the same
    answers."""

    def complete(
        self,
        requests: Sequence[Request],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        """Answer the requests; see `ChatBackend`.

        Args:
            requests: All requests, in order.
            decoding: How the answers are decoded.
            done_keys: Keys of the requests that are answered.
            on_result: Called once for each other request.

        Raises:
            TokenizerError: There is no chat template.
            DataError: The chat template refuses a conversation.
            UsageError: The memory of the accelerator is too small.
        """
        tokenizer = load_tokenizer(self.model_folder)
        texts = _render_prompts(tokenizer, requests, model_folder=self.model_folder)
        lengths = {i: len(tokenizer(text, add_special_tokens=False)["input_ids"]) for i, text in texts.items()}
        model = load_model(self.model_folder, dtype=self.dtype)
        max_prompt_length = (get_max_position_embeddings(model) or 1 << 30) - decoding.max_new_tokens
        requests_by_candidate: defaultdict[int, list[Request]] = defaultdict(list)
        for request in requests:
            if lengths[request.prompt_index] <= max_prompt_length:
                requests_by_candidate[request.candidate_index].append(request)
            elif request.key not in done_keys:
                on_result(request, Failure("the prompt and the longest answer do not fit into the model's context"))
        for same_candidate in requests_by_candidate.values():
            # the longest first: memory that is too small shows at once
            ordered = sorted(same_candidate, key=lambda request: (-lengths[request.prompt_index], request.prompt_index))
            self._complete_in_order(
                model, tokenizer, ordered, texts, decoding=decoding, done_keys=done_keys, on_result=on_result
            )

    def _complete_in_order(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        requests: Sequence[Request],
        texts: Mapping[int, str],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        batches = generate_batches(
            model,
            tokenizer,
            [texts[request.prompt_index] for request in requests],
            max_new_tokens=decoding.max_new_tokens,
            batch_size=self.batch_size,
            temperature=decoding.temperature,
            get_seed=lambda i: decoding.derive_seed(*requests[i].key),
            done={i for i, request in enumerate(requests) if request.key in done_keys},
            memory_hint="lower calibrate.generation_batch_size",
        )
        for batch in batches:
            for i, answer in batch.items():
                if requests[i].key not in done_keys:
                    on_result(requests[i], answer)


def _render_prompts(
    tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request], *, model_folder: Path
) -> dict[int, str]:
    """Render each prompt once; returns the texts by index of the prompt."""
    if not tokenizer.chat_template:
        raise TokenizerError(f"{model_folder}: the tokenizer has no chat template; name an instruct model")
    requests_by_prompt = {request.prompt_index: request for request in reversed(requests)}
    return {
        i: render_chat(tokenizer, request.messages, add_generation_prompt=True, source=request.place)
        for i, request in sorted(requests_by_prompt.items())
    }


@dataclass(frozen=True)
class VLLMBackend:
    """A model in a folder, run by vLLM. It needs vLLM and an accelerator; its authors have never run this code."""

    model_folder: Path
    dtype: str
    batch_size: int = 1024
    """Answers stored at once."""

    def complete(
        self,
        requests: Sequence[Request],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        """Answer the requests; see `ChatBackend`.

        Args:
            requests: All requests, in order.
            decoding: How the answers are decoded.
            done_keys: Keys of the requests that are answered.
            on_result: Called once for each other request.

        Raises:
            UsageError: VLLM is not installed.
        """
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError(
                "calibrate.backend=vllm: vLLM is not installed; install it, or give backend=transformers"
            ) from None
        remaining = [request for request in requests if request.key not in done_keys]
        model = vllm.LLM(model=str(self.model_folder), dtype=self.dtype)
        for start in range(0, len(remaining), self.batch_size):
            batch = remaining[start : start + self.batch_size]
            sampling_params = [
                vllm.SamplingParams(
                    max_tokens=decoding.max_new_tokens,
                    temperature=decoding.temperature,
                    seed=decoding.derive_seed(*request.key),
                )
                for request in batch
            ]
            outputs = model.chat([list(request.messages) for request in batch], sampling_params)
            for request, output in zip(batch, outputs, strict=True):
                completion = output.outputs[0]
                truncated = completion.finish_reason == "length"
                on_result(request, GeneratedText(completion.text, len(completion.token_ids), truncated=truncated))
