"""Models for lm-evaluation-harness: in memory by its own classes, or served behind an OpenAI-compatible endpoint.

The harness truncates a prompt that is too long from the left, with no more than a line in its log, and shows its own
progress bars. `CheckedLM` wraps a model of the harness and does neither.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import DataError, UsageError
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import Advance, track_progress
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import DecodingConfig, Failure, complete_all
from lep.sampling.openai_backend import OpenAIBackend

logging.getLogger("lm_eval").setLevel(logging.ERROR)


def build_lm_eval_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int) -> Any:
    """Wrap a loaded model for the harness, which sorts requests by length so that batches hold little padding.

    Log-probabilities are computed in float32: those of options are often closer than bfloat16 resolves, and of equal
    ones the first would win.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        batch_size: Requests at once.

    Returns:
        An `lm_eval` model.
    """
    from lep.evaluation.darumeru.last_logits import LastLogitsHFLM

    build: Any = LastLogitsHFLM
    return build(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")


def load_transformers_model(model_folder: Path, *, dtype: str, batch_size: int) -> Any:
    """Load a model for the harness by transformers, with the harness's default attention implementation.

    Args:
        model_folder: Model and tokenizer.
        dtype: Of weights and activations.
        batch_size: Requests at once.

    Returns:
        An `lm_eval` model.
    """
    model = load_model(model_folder, dtype=dtype, attn_implementation="sdpa")
    return build_lm_eval_model(model, load_tokenizer(model_folder), batch_size=batch_size)


def load_vllm_model(model_folder: Path, *, dtype: str, batch_size: int) -> Any:
    """Load a model for the harness by vLLM, which chooses batches itself. The authors never ran this.

    Args:
        model_folder: Model and tokenizer.
        dtype: Of weights and activations.
        batch_size: Not used.

    Returns:
        An `lm_eval` model.

    Raises:
        UsageError: vLLM is not installed.
    """
    from importlib.util import find_spec

    if not find_spec("vllm"):
        raise UsageError("benchmark.backend=vllm: vLLM is not installed; install it, or use transformers")
    from lm_eval.models.vllm_causallms import VLLM

    build: Any = VLLM
    return build(pretrained=str(model_folder), dtype=dtype, batch_size="auto")


ENGINE_LOADERS: Mapping[str, Callable[..., Any]] = {"transformers": load_transformers_model, "vllm": load_vllm_model}
"""By `benchmark.backend`."""


class CheckedLM:
    """A model of the harness at one task, with progress, and an error for a prompt that is too long."""

    def __init__(self, model: Any, *, label: str) -> None:
        self._model, self._label = model, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Implement `lm_eval.api.model.LM.loglikelihood`."""
        for request in requests:
            context, continuation = request.args
            self._check_length(request, context + continuation, max_tokens=self._model.max_length + 1, detail="")
        return self._run_requests(self._model.loglikelihood, requests)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Implement `lm_eval.api.model.LM.generate_until`."""
        for request in requests:
            context, generation_kwargs = request.args
            max_new_tokens = generation_kwargs["max_gen_toks"]
            max_tokens = self._model.max_length - max_new_tokens
            detail = f", and {max_new_tokens:,} more for the answer"
            self._check_length(request, context, max_tokens=max_tokens, detail=detail)
        return self._run_requests(self._model.generate_until, requests)

    def _check_length(self, request: Any, text: str, *, max_tokens: int, detail: str) -> None:
        if len(text.encode()) < max_tokens:  # a token is a byte or more
            return
        if (length := len(self._model.tok_encode(text))) > max_tokens:
            raise DataError(
                f"document {request.doc_id + 1} takes {length:,} tokens{detail}, and the context of the model is "
                f"{self._model.max_length:,}; leave this task out"
            )

    def _run_requests(self, method: Callable[..., Any], requests: Sequence[Any]) -> Any:
        with track_progress(self._label, total=len(requests), unit="requests") as advance:
            self._model.set_cache_hook(_ProgressHook(advance))
            return method(requests, disable_tqdm=True)


@dataclass(frozen=True)
class _ProgressHook:
    """Replaces the harness's cache, which is called after each request."""

    advance: Advance

    def add_partial(self, attr: str, req: object, res: object) -> None:
        """Implement `lm_eval.api.model.CacheHook.add_partial`."""
        self.advance(1)


@dataclass(frozen=True)
class EndpointLM:
    """A served model at one task in which it generates. Answers are kept in a file as they arrive."""

    backend: OpenAIBackend
    completions_file: Path
    label: str
    rank: int = 0
    world_size: int = 1
    tokenizer_name: str = ""

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the messages as JSON; the server applies its own template."""
        return json.dumps(list(chat_history), ensure_ascii=False)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the answers, truncated at the stop sequences of the task; not every server supports these.

        Args:
            requests: Of one task, with prompts from `apply_chat_template`.

        Returns:
            The answers, in the order of the requests.

        Raises:
            DataError: The server refuses one of the prompts.
            EndpointError: The server cannot be reached, or stops answering.
        """
        prompts = [(json.loads(request.args[0]), f"document {request.doc_id + 1}") for request in requests]
        generation_kwargs = requests[0].args[1]
        answers = complete_all(
            self.backend,
            prompts,
            decoding=DecodingConfig(max_new_tokens=generation_kwargs["max_gen_toks"]),
            file=self.completions_file,
            label=self.label,
        )
        return [
            _truncate_at_stops(answer, stops=generation_kwargs["until"], place=place)
            for (answer,), (_, place) in zip(answers, prompts, strict=True)
        ]


def _truncate_at_stops(answer: GeneratedText | Failure, *, stops: Sequence[str], place: str) -> str:
    if isinstance(answer, Failure):
        raise DataError(f"{place}: {answer.reason}")
    text = answer.text
    for stop in stops:
        text = text.split(stop)[0]
    return text
