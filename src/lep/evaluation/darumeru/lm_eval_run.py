"""Run one task of Darumeru with lm-evaluation-harness on one model. This module imports the harness, which is slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from lep.evaluation.darumeru import TASK_FILES
from lep.evaluation.darumeru.document_records import DocumentRecord


def run_lm_eval_task(
    task: str, lm: Any, *, num_fewshot: int, chat_template: bool, limit: int | None, metadata: Mapping[str, Any]
) -> list[DocumentRecord]:
    """Run a task with the same requests, answers and results as `lm_eval run --include_path`.

    Args:
        task: Name of the task.
        lm: An `lm_eval` model.
        num_fewshot: Examples in each prompt; with a chat template, turns of the conversation.
        chat_template: Whether the chat template is applied.
        limit: How many documents, the first ones; `None` for all.
        metadata: For `lep.evaluation.darumeru.documents.load_documents`.

    Returns:
        A record of each document.
    """
    manager = TaskManager(include_path=str(TASK_FILES), include_defaults=False, metadata=dict(metadata))
    loaded = manager.load([task])
    loaded["tasks"][task].set_config(key="num_fewshot", value=num_fewshot)
    results: Any = evaluate(
        lm,
        loaded,
        limit=limit,
        bootstrap_iters=0,  # lep.evaluation.bootstrap computes intervals
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    return [_build_record(sample) for sample in results["samples"][task]]


def _build_record(sample: Mapping[str, Any]) -> DocumentRecord:
    requests, responses = sample["arguments"], [response[0] for response in sample["resps"]]
    generated = isinstance(responses[0], str)
    options = None if generated else tuple((args[1], value[0]) for args, value in zip(requests, responses, strict=True))
    return DocumentRecord(
        document=sample["doc_id"] + 1,
        prompt=requests[0][0],
        gold=sample["doc"]["target"],
        answer=responses[0] if generated else None,
        log_probabilities=options,
        score=sample["score"],
    )
