"""Propagated model + prompts → calibrated model: it learns what the original instruct model answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from lep.config import Calibrate, Endpoint
from lep.data.conversations import Conversation, read_prompts, sift
from lep.data.copy_tasks import wanted_copies
from lep.data.records import origin_records, write_rows
from lep.data.sft_dataset import Lessons, instruction_lessons
from lep.distributed import by_main, micro_batches
from lep.errors import DataError
from lep.io.model_writer import ANSWERS
from lep.modeling.generation import Answer
from lep.modeling.loading import load_tokenizer
from lep.progress import note
from lep.sampling.backends import Answerer, Decoding, Local, Vllm
from lep.sampling.best_of_n import ANSWERING, JUDGING, Judged, answer_and_judge, dropped
from lep.sampling.openai_backend import Served
from lep.sampling.rule_judge import Grade
from lep.training.finetuning import tune


def run(settings: Calibrate, out: Path) -> dict[str, Any]:
    """Write a whole model folder, and in it `answers.jsonl`: all answers, with their grades."""
    micro_batches(batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size)
    lessons, numbers = by_main(partial(_lessons, settings, out))
    numbers = {**numbers, **tune(settings, lessons, out=out)}
    by_main(partial(_tidy, out))
    return numbers


def _lessons(settings: Calibrate, out: Path) -> tuple[Lessons, dict[str, Any]]:
    """What is learnt, and how the answers are."""
    tokenizer = load_tokenizer(settings.model)
    prompts, skipped = _prompts(settings)
    _try_out(settings, prompts, tokenizer, folder=out / "samples")
    copies = wanted_copies(settings, tokenizer)  # too little text for them is told before hours of answering
    judged = _judged(settings, prompts, out)
    numbers = _numbers(judged, skipped=skipped, threshold=settings.threshold)
    note(f"{numbers['kept']} of {numbers['answers']} answers are kept{_listed(numbers['dropped'])}")
    if not numbers["kept"]:
        raise DataError(
            f"calibrate: no answer reaches threshold={settings.threshold}{_listed(numbers['dropped'])}; the answers "
            f"stand in {out / ANSWERING}: copy them away before you change a setting"
        )
    learnt = [one.conversation(source="answers") for one in judged if one.kept]
    lessons = instruction_lessons([*learnt, *copies], tokenizer, settings=settings, folder=out / "samples")
    write_rows(out / ANSWERS, (one.row() for one in judged))
    return lessons, numbers


def _prompts(settings: Calibrate) -> tuple[list[Conversation], Counter[str]]:
    """What is asked, and how many rows are left out, by reason."""
    name = "prompts" if not isinstance(settings.prompts, Path) else str(settings.prompts)
    minimum = None if isinstance(settings.prompts, Path) else settings.prompts.minimum
    rows = read_prompts(origin_records(settings.prompts), source=name, minimum=minimum)
    prompts, skipped = sift(islice(rows, settings.prompts_limit), source=name)
    return prompts, Counter(row.reason for row in skipped)


def _try_out(
    settings: Calibrate, prompts: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase, *, folder: Path
) -> None:
    """Prepare one made-up answer, so that a model which cannot learn stops the room before hours of answering."""
    shortest = min(prompts, key=lambda prompt: sum(len(message.content) for message in prompt.messages))
    example = Judged(shortest, Answer("1", 1), Grade(5), kept=True).conversation(source="answers")
    single = {"batch_size": 1, "epochs": 1.0, "packing": False}
    instruction_lessons([example], tokenizer, settings=settings.model_copy(update=single), folder=folder)


def _judged(settings: Calibrate, prompts: Sequence[Conversation], out: Path) -> list[Judged]:
    sampled = settings.candidates > 1
    temperature = settings.temperature if sampled else 0.0
    return answer_and_judge(
        prompts,
        teacher=_answerer(settings.teacher, settings),
        judge=None if settings.judge == "rules" else _answerer(settings.judge, settings),
        decoding=Decoding(longest=settings.answer_tokens, temperature=temperature, seed=settings.seed),
        candidates=settings.candidates,
        threshold=settings.threshold,
        folder=out,
    )


def _answerer(who: Path | Endpoint, settings: Calibrate) -> Answerer:
    if isinstance(who, Endpoint):
        return Served(who)
    if settings.engine == "vllm":
        return Vllm(who, settings.dtype)
    return Local(who, settings.dtype, batch=settings.answer_batch)


def _numbers(judged: Sequence[Judged], *, skipped: Mapping[str, int], threshold: int) -> dict[str, Any]:
    grades = Counter("none" if one.grade.value is None else str(one.grade.value) for one in judged)
    return {
        "skipped": dict(skipped),
        "answers": len(judged),
        "kept": sum(one.kept for one in judged),
        "grades": dict(sorted(grades.items())),
        "dropped": dict(dropped(judged, threshold=threshold).most_common()),
    }


def _listed(counts: Mapping[str, int]) -> str:
    return "".join(f"; {reason}: {count}" for reason, count in counts.items())


def _tidy(out: Path) -> None:
    """Take away what only the work needed."""
    for file in (ANSWERING, JUDGING):
        (out / file).unlink(missing_ok=True)
