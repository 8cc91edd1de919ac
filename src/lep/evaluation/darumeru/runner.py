"""Darumeru: every model at every task, kept task by task.

`OUT/MODEL/TASK.jsonl` has a line for each document (`lep.evaluation.darumeru.lm_eval_run.Record`). It is written whole
when the task is done: an interrupted run goes on with the next.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import Benchmark, Endpoint
from lep.data.records import write_rows
from lep.errors import EndpointError, LepError, TokenizerError
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.datasets import FOLDER_VARIABLE
from lep.evaluation.darumeru.lm_eval_models import ENGINES, Remote, Watched, in_memory
from lep.evaluation.darumeru.lm_eval_run import Record, ask
from lep.evaluation.darumeru.summary import Scored, compared, scored, standing
from lep.modeling.loading import load_tokenizer
from lep.progress import note

SHOTS = 5
"""Examples that a base model is shown (the paper)."""


@dataclass(frozen=True)
class Candidate:
    """A model that is measured, and how it is asked."""

    name: str
    place: Path | Endpoint
    shots: int
    chat_template: bool

    def refusal(self, task: str) -> str:
        """Why it cannot do a task; empty: it can."""
        can = isinstance(self.place, Path) or TASKS[task].generative
        return "" if can else "compares probabilities, which an endpoint does not tell"


def candidates(settings: Benchmark, models: Mapping[str, Path]) -> list[Candidate]:
    """Folders, then endpoints.

    Raises:
        TokenizerError: a model has no chat template, and is not said to be a base model.
    """
    found = []
    for name, folder in models.items():
        template, base = bool(load_tokenizer(folder).chat_template), name in settings.base
        if not template and not base:
            raise TokenizerError(
                f"{name}: {folder} has no chat template to ask an instruct model with; if it is a base model, say so "
                f"(benchmark.base=[{name}]), else put its template into chat_template.jinja there"
            )
        found.append(Candidate(name, folder, _shots(settings, base=base), template))
    for name, endpoint in settings.endpoints.items():
        found.append(Candidate(name, endpoint, _shots(settings, base=False), chat_template=True))
    return found


def run_benchmark(
    settings: Benchmark, asked: Sequence[Candidate], *, reference: str, dtype: str, out: Path
) -> dict[str, Any]:
    """Every model's scores, and their differences to the reference's.

    Args:
        reference: the name of one of them.
        dtype: of weights and activations.
        out: keeps the answers.

    Raises:
        EndpointError: a server cannot be reached, or does not answer any more.
        LepError: tasks failed; all others are done and kept.
    """
    failed = [told for one in asked for told in _do_tasks(one, settings, dtype=dtype, out=out / one.name)]
    if failed:
        raise LepError(
            "\n  ".join([f"tasks of the benchmark failed ({len(failed)}); the others are kept:", *failed])
            + "\nthe same command tries these again; benchmark.tasks can leave them out"
        )
    scores = {one.name: _scores(one, settings, out=out / one.name) for one in asked}
    return {
        "settings": _told_settings(settings),
        "models": {
            one.name: {
                "shots": one.shots,
                "chat_template": one.chat_template,
                **standing(scores[one.name], refused=_refused(one, settings)),
            }
            for one in asked
        },
        "differences": {
            name: {"against": reference, **compared(found, scores[reference])}
            for name, found in scores.items()
            if name != reference
        },
    }


def score_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Benchmark, *, name: str, base: bool
) -> dict[str, Any]:
    """What `run_benchmark` tells of one model, for one in memory; nothing is kept.

    Args:
        model: in evaluation mode.
        tokenizer: of the model, loaded from a folder.
        name: of the model, for the progress.
        base: whether it is shown examples.
    """
    shots, template = _shots(settings, base=base), bool(tokenizer.chat_template)
    one = Candidate(name, Path(tokenizer.name_or_path), shots, template)
    inside = in_memory(model, tokenizer, batch_size=settings.batch_size)
    scores = {}
    for task in settings.chosen:
        records = _records(task, Watched(inside, label=f"{name}: {task}"), one, settings)
        scores[task] = scored(task, [record["score"] for record in records], seed=settings.seed)
    return {"shots": shots, "chat_template": template, **standing(scores, refused={})}


def _do_tasks(one: Candidate, settings: Benchmark, *, dtype: str, out: Path) -> Iterator[str]:
    """Do what is not done yet, and tell what fails."""
    able = [task for task in settings.chosen if not one.refusal(task)]
    todo = [task for task in able if not _file(out, task).exists()]
    if not todo:
        return
    out.mkdir(parents=True, exist_ok=True)
    opened = _opener(one, settings, dtype=dtype, out=out)
    for task in todo:
        failure = out / f"{task}.error"
        failure.unlink(missing_ok=True)
        try:
            records = _records(task, opened(task), one, settings)
            score = TASKS[task].score(TASKS[task].units([record["score"] for record in records]))
            write_rows(_file(out, task), records)
            note(f"{one.name}: {task} {score:.3f}")
            _answers(out, task).unlink(missing_ok=True)
        except EndpointError:
            raise
        except Exception as error:  # whatever a task, its data or the harness may raise
            if not isinstance(error, LepError):
                failure.write_text(traceback.format_exc(), encoding="utf-8")
            yield f"{one.name}: {task}: {_reason(error, settings, failure)}"
            note(f"{one.name}: {task} failed")


def _opener(one: Candidate, settings: Benchmark, *, dtype: str, out: Path) -> Callable[[str], Any]:
    """The model as it does one task; a folder is loaded once for all."""
    if isinstance(one.place, Endpoint):
        endpoint = one.place
        return lambda task: Remote(endpoint, _answers(out, task), label=f"{one.name}: {task}")
    inside = ENGINES[settings.engine](one.place, dtype=dtype, batch_size=settings.batch_size)
    return lambda task: Watched(inside, label=f"{one.name}: {task}")


def _records(task: str, model: Any, one: Candidate, settings: Benchmark) -> list[Record]:
    metadata: dict[str, Any] = {"variant": settings.variant}
    if settings.data:
        metadata["data"] = str(settings.data)
    if isinstance(one.place, Path):
        metadata |= {"tokenizer": str(one.place), "context": model.max_length}
    return ask(task, model, shots=one.shots, chat_template=one.chat_template, limit=settings.limit, metadata=metadata)


def _reason(error: Exception, settings: Benchmark, file: Path) -> str:
    if isinstance(error, LepError):
        return str(error)
    if "out of memory" in str(error).lower():
        return f"out of memory; lower benchmark.batch_size ({settings.batch_size})"
    return f"{type(error).__name__}: {error} (see {file})"


def _file(out: Path, task: str) -> Path:
    return out / f"{task}.jsonl"


def _answers(out: Path, task: str) -> Path:
    """What an endpoint has said so far."""
    return out / f"{task}.answers.jsonl"


def _scores(one: Candidate, settings: Benchmark, *, out: Path) -> dict[str, Scored]:
    found = {}
    for task in settings.chosen:
        if not one.refusal(task):
            with _file(out, task).open(encoding="utf-8") as lines:
                found[task] = scored(task, [json.loads(line)["score"] for line in lines], seed=settings.seed)
    return found


def _refused(one: Candidate, settings: Benchmark) -> dict[str, str]:
    return {task: reason for task in settings.chosen if (reason := one.refusal(task))}


def _told_settings(settings: Benchmark) -> dict[str, Any]:
    data = str(settings.data) if settings.data else os.environ.get(FOLDER_VARIABLE)
    return {"variant": settings.variant, "limit": settings.limit, "data": data, "seed": settings.seed}


def _shots(settings: Benchmark, *, base: bool) -> int:
    return (SHOTS if base else 0) if settings.shots is None else settings.shots
