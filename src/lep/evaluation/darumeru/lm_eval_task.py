"""The harness's task with the benchmark's rule for few-shot examples. Only the harness imports this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.task import ConfigurableTask

from lep.errors import DataError
from lep.evaluation.darumeru.text_units import tokens

ROOM = 4096
"""Tokens that a prompt with examples may have (the paper)."""


class Darumeru(ConfigurableTask):
    """A task from a file of `tasks/`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        self._examples = list(self.fewshot_docs())

    def fewshot_context(  # pyright: ignore[reportIncompatibleMethodOverride]  # the harness names what it hands over
        self, doc: dict[str, Any], *, num_fewshot: int, **how: Any
    ) -> str:
        """The prompt with as many examples as asked for, or as many fewer as it takes to stay within 4,096 tokens.

        Where the metadata tell the model's `context`, the prompt with the answer also stays within that. The examples
        are the first of the data set; of MMLU, of the question's subject. Without room for one there is none: the
        question itself is never cut.

        Raises:
            DataError: there are fewer examples than asked for.
        """
        examples = [shown for shown in self._examples if shown.get("subject") == doc.get("subject")]
        if num_fewshot > len(examples):
            raise DataError(
                f"{self.task_name}: {num_fewshot} few-shot examples asked for, the data have {len(examples)}"
            )
        self.sampler.replace_df(examples)
        for shots in range(num_fewshot, 0, -1):
            context = str(super().fewshot_context(doc, num_fewshot=shots, **how))
            if self._count(context) <= self._room(doc):
                return context
        return str(super().fewshot_context(doc, num_fewshot=0, **how))

    def _room(self, doc: Mapping[str, Any]) -> int:
        """Tokens that the prompt may have."""
        told = self.config.metadata or {}
        if "context" not in told:
            return ROOM
        if "choices" in doc:
            answer = max(map(self._count, doc["choices"]))
        else:
            answer = int((self.config.generation_kwargs or {})["max_gen_toks"])
        return min(ROOM, int(told["context"]) - answer - 1)  # 1: of the beginning

    def _count(self, text: str) -> int:
        told = self.config.metadata or {}
        return len(tokens(text, tokenizer=str(told.get("tokenizer") or told.get("pretrained") or "")))
