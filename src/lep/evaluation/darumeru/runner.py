"""Run Darumeru: every model on every task, kept task by task.

`OUT/MODEL/TASK.jsonl` has a record of each document (`lep.evaluation.darumeru.document_records`). It is written when
the task is finished, so that an interrupted run resumes with the next task.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import BenchmarkSettings, Endpoint
from lep.errors import EndpointError, LepError, TokenizerError
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.datasets import DATA_FOLDER_VARIABLE
from lep.evaluation.darumeru.document_records import DocumentRecord, read_document_records, write_document_records
from lep.evaluation.darumeru.lm_eval_models import ENGINE_LOADERS, CheckedLM, EndpointLM, build_lm_eval_model
from lep.evaluation.darumeru.lm_eval_run import run_lm_eval_task
from lep.evaluation.darumeru.summary import TaskEstimate, estimate_task, score_differences, summarize_scores
from lep.modeling.loading import load_tokenizer
from lep.progress import log_message
from lep.results.evaluation import BenchmarkProtocol, BenchmarkResults, ModelBenchmarkScores
from lep.sampling.openai_backend import OpenAIBackend
from lep.training.resource_errors import is_out_of_memory

BASE_MODEL_NUM_FEWSHOT = 5
"""Examples that a base model is shown (the paper)."""


@dataclass(frozen=True)
class BenchmarkModel:
    """A model that is measured, and how it is prompted."""

    name: str
    source: Path | Endpoint
    num_fewshot: int
    chat_template: bool

    def unsupported_reason(self, task: str) -> str:
        """Return why the model cannot do a task; empty if it can."""
        can = isinstance(self.source, Path) or TASKS[task].generative
        return "" if can else "compares log-probabilities, which an endpoint does not return"


def build_benchmark_models(settings: BenchmarkSettings, models: Mapping[str, Path]) -> list[BenchmarkModel]:
    """Determine how each model is prompted.

    Args:
        settings: Name the base models and the endpoints.
        models: Folders by name.

    Returns:
        The models that are folders, then the endpoints.

    Raises:
        TokenizerError: A model has no chat template and is not listed as a base model.
    """
    benchmark_models = []
    for name, folder in models.items():
        chat_template, is_base = bool(load_tokenizer(folder).chat_template), name in settings.base_models
        if not chat_template and not is_base:
            raise TokenizerError(
                f"{name}: {folder} has no chat template; if it is a base model, list it "
                f"(benchmark.base_models=[{name}]), else put its template into chat_template.jinja there"
            )
        benchmark_models.append(BenchmarkModel(name, folder, _num_fewshot(settings, is_base=is_base), chat_template))
    for name, endpoint in settings.endpoints.items():
        benchmark_models.append(BenchmarkModel(name, endpoint, _num_fewshot(settings, is_base=False), True))
    return benchmark_models


def run_benchmark(
    settings: BenchmarkSettings, models: Sequence[BenchmarkModel], *, reference: str, dtype: str, out: Path
) -> BenchmarkResults:
    """Run all tasks on all models, and compare the scores with the reference's.

    Args:
        settings: Tasks, data and backend.
        models: As `build_benchmark_models` returns them.
        reference: Name of one of the models.
        dtype: Of weights and activations.
        out: Folder that keeps the answers.

    Returns:
        The scores of all models, with differences for all but the reference.

    Raises:
        EndpointError: A server cannot be reached, or stops answering.
        LepError: Tasks failed; all others are finished and kept.
    """
    failures = [
        failure for model in models for failure in _run_tasks(model, settings, dtype=dtype, out=out / model.name)
    ]
    if failures:
        raise LepError(
            "\n  ".join([f"tasks of the benchmark failed ({len(failures)}); the others are kept:", *failures])
            + "\nthe same command tries these again; benchmark.tasks can leave them out"
        )
    scores = {model.name: _read_scores(model, settings, out=out / model.name) for model in models}
    return BenchmarkResults(
        settings=_describe_protocol(settings),
        models={
            model.name: summarize_scores(
                scores[model.name],
                num_fewshot=model.num_fewshot,
                chat_template=model.chat_template,
                unsupported=_find_unsupported_tasks(model, settings),
            )
            for model in models
        },
        differences={
            name: score_differences(tasks, scores[reference], reference=reference)
            for name, tasks in scores.items()
            if name != reference
        },
    )


def score_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: BenchmarkSettings,
    *,
    model_name: str,
    is_base: bool,
) -> ModelBenchmarkScores:
    """Run all tasks on a model in memory, as `run_benchmark` does; nothing is kept.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model, loaded from a folder.
        settings: Tasks and data.
        model_name: For the progress.
        is_base: Whether the model is shown examples.

    Returns:
        The scores.
    """
    num_fewshot, chat_template = _num_fewshot(settings, is_base=is_base), bool(tokenizer.chat_template)
    benchmark_model = BenchmarkModel(model_name, Path(tokenizer.name_or_path), num_fewshot, chat_template)
    lm = build_lm_eval_model(model, tokenizer, batch_size=settings.batch_size)
    scores = {}
    for task in settings.selected_tasks:
        records = _run_task(task, CheckedLM(lm, label=f"{model_name}: {task}"), benchmark_model, settings)
        scores[task] = estimate_task(task, [record.score for record in records], seed=settings.seed)
    return summarize_scores(scores, num_fewshot=num_fewshot, chat_template=chat_template, unsupported={})


def _run_tasks(model: BenchmarkModel, settings: BenchmarkSettings, *, dtype: str, out: Path) -> Iterator[str]:
    """Run the tasks that are not finished, and yield a description of each failure."""
    supported = [task for task in settings.selected_tasks if not model.unsupported_reason(task)]
    remaining = [task for task in supported if not _records_path(out, task).exists()]
    if not remaining:
        return
    out.mkdir(parents=True, exist_ok=True)
    build_lm = _make_model_factory(model, settings, dtype=dtype, out=out)
    for task in remaining:
        traceback_file = out / f"{task}.error"
        traceback_file.unlink(missing_ok=True)
        try:
            records = _run_task(task, build_lm(task), model, settings)
            score = TASKS[task].aggregate(TASKS[task].group_units([record.score for record in records]))
            write_document_records(_records_path(out, task), records)
            log_message(f"{model.name}: {task} {score:.3f}")
            _completions_path(out, task).unlink(missing_ok=True)
        except EndpointError:
            raise
        except Exception as error:  # whatever a task, its data or the harness may raise
            if not isinstance(error, LepError):
                traceback_file.write_text(traceback.format_exc(), encoding="utf-8")
            yield f"{model.name}: {task}: {_describe_error(error, settings, traceback_file)}"
            log_message(f"{model.name}: {task} failed")


def _make_model_factory(
    model: BenchmarkModel, settings: BenchmarkSettings, *, dtype: str, out: Path
) -> Callable[[str], Any]:
    """Return what builds the `lm_eval` model for a task; a folder is loaded once for all tasks."""
    if isinstance(model.source, Endpoint):
        backend = OpenAIBackend(**model.source.model_dump())
        return lambda task: EndpointLM(backend, _completions_path(out, task), label=f"{model.name}: {task}")
    lm = ENGINE_LOADERS[settings.backend](model.source, dtype=dtype, batch_size=settings.batch_size)
    return lambda task: CheckedLM(lm, label=f"{model.name}: {task}")


def _run_task(task: str, lm: Any, model: BenchmarkModel, settings: BenchmarkSettings) -> list[DocumentRecord]:
    metadata: dict[str, Any] = {"variant": settings.variant}
    if settings.data:
        metadata["data"] = str(settings.data)
    if isinstance(model.source, Path):
        metadata |= {"tokenizer": str(model.source), "context_length": lm.max_length}
    return run_lm_eval_task(
        task,
        lm,
        num_fewshot=model.num_fewshot,
        chat_template=model.chat_template,
        limit=settings.limit,
        metadata=metadata,
    )


def _describe_error(error: Exception, settings: BenchmarkSettings, traceback_file: Path) -> str:
    if isinstance(error, LepError):
        return str(error)
    if is_out_of_memory(error):
        return f"out of memory; lower benchmark.batch_size ({settings.batch_size})"
    return f"{type(error).__name__}: {error} (see {traceback_file})"


def _records_path(out: Path, task: str) -> Path:
    return out / f"{task}.jsonl"


def _completions_path(out: Path, task: str) -> Path:
    """Return the file that keeps the answers of an endpoint while a task runs."""
    return out / f"{task}.answers.jsonl"


def _read_scores(model: BenchmarkModel, settings: BenchmarkSettings, *, out: Path) -> dict[str, TaskEstimate]:
    scores = {}
    for task in settings.selected_tasks:
        if not model.unsupported_reason(task):
            results = [record.score for record in read_document_records(_records_path(out, task))]
            scores[task] = estimate_task(task, results, seed=settings.seed)
    return scores


def _find_unsupported_tasks(model: BenchmarkModel, settings: BenchmarkSettings) -> dict[str, str]:
    return {task: reason for task in settings.selected_tasks if (reason := model.unsupported_reason(task))}


def _describe_protocol(settings: BenchmarkSettings) -> BenchmarkProtocol:
    data = str(settings.data) if settings.data else os.environ.get(DATA_FOLDER_VARIABLE)
    return BenchmarkProtocol(variant=settings.variant, limit=settings.limit, data=data, seed=settings.seed)


def _num_fewshot(settings: BenchmarkSettings, *, is_base: bool) -> int:
    return (BASE_MODEL_NUM_FEWSHOT if is_base else 0) if settings.num_fewshot is None else settings.num_fewshot
