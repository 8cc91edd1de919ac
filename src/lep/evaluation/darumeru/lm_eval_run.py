"""One task of Darumeru, run by lm-evaluation-harness on one model: a record of each document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from lep.evaluation.darumeru import TASK_FILES

Record = dict[str, Any]
"""`document` (the first is 1), `prompt`, `gold`, then `answer`, or `log_probabilities` of the options; and `score`, the
document's result as `lep.evaluation.darumeru.task_functions` has it."""


def ask(
    task: str, model: Any, *, shots: int, chat_template: bool, limit: int | None, metadata: Mapping[str, Any]
) -> list[Record]:
    """The same requests, answers and results as of `lm_eval run --include_path`.

    Args:
        model: what the harness calls an LM.
        shots: examples in each prompt; turns of the conversation where there is a chat template.
        limit: only so many documents, the first.
        metadata: for `lep.evaluation.darumeru.documents`.
    """
    manager = TaskManager(include_path=str(TASK_FILES), include_defaults=False, metadata=dict(metadata))
    loaded = manager.load([task])
    loaded["tasks"][task].set_config(key="num_fewshot", value=shots)
    found: Any = evaluate(
        model,
        loaded,
        limit=limit,
        bootstrap_iters=0,  # intervals are ours
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    return [_record(sample) for sample in found["samples"][task]]


def _record(sample: Mapping[str, Any]) -> Record:
    options, said = sample["arguments"], [responses[0] for responses in sample["resps"]]
    if isinstance(said[0], str):
        answer: Record = {"answer": said[0]}
    else:
        answer = {"log_probabilities": [[option[1], value[0]] for option, value in zip(options, said, strict=True)]}
    head = {"document": sample["doc_id"] + 1, "prompt": options[0][0], "gold": sample["doc"]["target"]}
    return {**head, **answer, "score": sample["score"]}
