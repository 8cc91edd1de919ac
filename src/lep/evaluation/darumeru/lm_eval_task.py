"""The task class of lm-evaluation-harness with the benchmark's rule for few-shot examples. The task files name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.task import ConfigurableTask

from lep.errors import DataError
from lep.evaluation.darumeru.text_units import tokenize_text

MAX_PROMPT_TOKENS = 4096
"""Limit of a prompt with few-shot examples (the paper)."""


class DarumeruTask(ConfigurableTask):
    """A task from a file of `tasks/`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        self._fewshot_examples = list(self.fewshot_docs())

    def fewshot_context(  # pyright: ignore[reportIncompatibleMethodOverride]  # the harness passes keywords
        self, doc: dict[str, Any], *, num_fewshot: int, **kwargs: Any
    ) -> str:
        """Build the prompt with as many examples as fit into 4,096 tokens, at most `num_fewshot`.

        If the metadata give the model's `context_length`, prompt and answer also fit into that. The examples are the
        first of the data set; for MMLU, of the question's subject. The question itself is never truncated.

        Args:
            doc: The document.
            num_fewshot: Examples asked for.
            **kwargs: Passed on to `ConfigurableTask.fewshot_context`.

        Returns:
            The prompt.

        Raises:
            DataError: There are fewer examples than asked for.
        """
        examples = [example for example in self._fewshot_examples if example.get("subject") == doc.get("subject")]
        if num_fewshot > len(examples):
            raise DataError(
                f"{self.task_name}: {num_fewshot} few-shot examples asked for, the data have {len(examples)}"
            )
        self.sampler.replace_df(examples)
        for shots in range(num_fewshot, 0, -1):
            context = str(super().fewshot_context(doc, num_fewshot=shots, **kwargs))
            if self._count_tokens(context) <= self._max_prompt_tokens(doc):
                return context
        return str(super().fewshot_context(doc, num_fewshot=0, **kwargs))

    def _max_prompt_tokens(self, doc: Mapping[str, Any]) -> int:
        metadata = self.config.metadata or {}
        if "context_length" not in metadata:
            return MAX_PROMPT_TOKENS
        if "choices" in doc:
            answer = max(map(self._count_tokens, doc["choices"]))
        else:
            answer = int((self.config.generation_kwargs or {})["max_gen_toks"])
        return min(MAX_PROMPT_TOKENS, int(metadata["context_length"]) - answer - 1)  # 1: for the beginning of sequence

    def _count_tokens(self, text: str) -> int:
        metadata = self.config.metadata or {}
        return len(tokenize_text(text, tokenizer=str(metadata.get("tokenizer") or metadata.get("pretrained") or "")))
