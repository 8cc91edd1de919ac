"""What lm-evaluation-harness asks: a model in memory by its own classes, or a served one through our endpoint.

The harness cuts a prompt that is too long from the left, with no more than a line in its log, and shows bars of its
own. `Watched` stands before a model of the harness and does neither.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import Endpoint
from lep.errors import DataError, UsageError
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import Advance, progress
from lep.sampling.backends import Decoding, NoAnswer, answer_all
from lep.sampling.openai_backend import Served

logging.getLogger("lm_eval").setLevel(logging.ERROR)


def in_memory(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int) -> Any:
    """The harness's model of a loaded one. It sorts requests by length, so that batches hold little padding.

    Log-probabilities are in float32: those of options are often closer than bfloat16 can tell apart, and of equals the
    first would win.
    """
    from lep.evaluation.darumeru.last_logits import LastLogits

    make: Any = LastLogits
    return make(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")


def by_transformers(folder: Path, *, dtype: str, batch_size: int) -> Any:
    """With the implementation of attention that the harness takes, too."""
    model = load_model(folder, dtype=dtype, attention="sdpa")
    return in_memory(model, load_tokenizer(folder), batch_size=batch_size)


def by_vllm(folder: Path, *, dtype: str, batch_size: int) -> Any:
    """The harness's model by vLLM, which batches by itself. This was never run by its authors."""
    from importlib.util import find_spec

    if not find_spec("vllm"):
        raise UsageError("benchmark.engine=vllm: vLLM is not installed; install it, or say transformers")
    from lm_eval.models.vllm_causallms import VLLM

    make: Any = VLLM
    return make(pretrained=str(folder), dtype=dtype, batch_size="auto")


ENGINES: Mapping[str, Callable[..., Any]] = {"transformers": by_transformers, "vllm": by_vllm}


class Watched:
    """A model of the harness at one task: progress is told, and what does not fit is an error."""

    def __init__(self, model: Any, *, label: str) -> None:
        self._model, self._label = model, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """The harness's, for prompts and their continuations."""
        for request in requests:
            context, continuation = request.args
            self._check(request, context + continuation, room=self._model.max_length + 1, more="")
        return self._ask(self._model.loglikelihood, requests)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The harness's, for prompts."""
        for request in requests:
            context, settings = request.args
            longest = settings["max_gen_toks"]
            room = self._model.max_length - longest
            self._check(request, context, room=room, more=f", and {longest:,} more for the answer")
        return self._ask(self._model.generate_until, requests)

    def _check(self, request: Any, text: str, *, room: int, more: str) -> None:
        if len(text.encode()) < room:  # a token is a byte or more
            return
        if (length := len(self._model.tok_encode(text))) > room:
            raise DataError(
                f"document {request.doc_id + 1} takes {length:,} tokens{more}, and the model can see "
                f"{self._model.max_length:,}; leave this task out"
            )

    def _ask(self, how: Callable[..., Any], requests: Sequence[Any]) -> Any:
        with progress(self._label, total=len(requests), unit="requests") as advance:
            self._model.set_cache_hook(_Counter(advance))
            return how(requests, disable_tqdm=True)


@dataclass(frozen=True)
class _Counter:
    """Told by the harness of each request that is done, where it would keep the answer."""

    advance: Advance

    def add_partial(self, attr: str, req: object, res: object) -> None:
        """One more."""
        self.advance(1)


@dataclass(frozen=True)
class Remote:
    """A served model at one task in which it writes; answers are kept in a file as they come."""

    endpoint: Endpoint
    file: Path
    label: str
    rank: int = 0
    world_size: int = 1
    tokenizer_name: str = ""

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns themselves, as text: the server has the template."""
        return json.dumps(list(chat_history), ensure_ascii=False)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers, cut where the task says; not every server takes stop sequences.

        Raises:
            DataError: the server refuses one of the prompts.
            EndpointError: it cannot be reached, or does not answer any more.
        """
        prompts = [(json.loads(request.args[0]), f"document {request.doc_id + 1}") for request in requests]
        settings = requests[0].args[1]
        found = answer_all(
            Served(self.endpoint),
            prompts,
            decoding=Decoding(longest=settings["max_gen_toks"]),
            file=self.file,
            label=self.label,
        )
        return [
            _cut(answer, stops=settings["until"], place=place)
            for (answer,), (_, place) in zip(found, prompts, strict=True)
        ]


def _cut(answer: Any, *, stops: Sequence[str], place: str) -> str:
    if isinstance(answer, NoAnswer):
        raise DataError(f"{place}: {answer.reason}")
    text = answer.text
    for stop in stops:
        text = text.split(stop)[0]
    return text
