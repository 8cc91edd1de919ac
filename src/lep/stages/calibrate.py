"""Train a propagated model on a teacher's answers: propagated model + prompts → calibrated model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from lep.config import CalibrateSettings, Endpoint
from lep.data.conversations import Conversation, partition_skipped, read_prompts
from lep.data.records import write_jsonl
from lep.data.sft_dataset import SampleSchedule, SFTDataset, build_sft_dataset
from lep.distributed import run_on_main
from lep.errors import DataError
from lep.io.model_writer import ANSWERS_FILE
from lep.modeling.generation import GeneratedText
from lep.modeling.loading import load_tokenizer
from lep.progress import log_message
from lep.results.stages import CalibrationResult
from lep.sampling.backends import ChatBackend, DecodingConfig, TransformersBackend, VLLMBackend
from lep.sampling.best_of_n import COMPLETIONS_FILE, JUDGMENTS_FILE, ScoredAnswer, count_rejections, generate_and_score
from lep.sampling.openai_backend import OpenAIBackend
from lep.sampling.rule_judge import Score
from lep.stages._finetuning import (
    build_copy_conversations,
    finetune_and_write,
    read_conversation_source,
    unpack_arguments,
)


def run(settings: CalibrateSettings, out: Path) -> CalibrationResult:
    """Have the teacher answer, train on its best answers, and write the model's folder, with `answers.jsonl` in it.

    Args:
        settings: The model, the teacher, the prompts, and how to train.
        out: An existing folder; a run that was interrupted there is resumed.

    Returns:
        Answers by score, samples, losses and speed.

    Raises:
        DataError: No answer is scored well enough.
    """
    arguments = unpack_arguments(settings)
    dataset, answers = run_on_main(partial(_build_dataset, settings, out))
    result = finetune_and_write(settings, arguments, dataset, out=out)
    run_on_main(partial(_remove_work_files, out))
    return CalibrationResult(**vars(result), **answers)


def _build_dataset(settings: CalibrateSettings, out: Path) -> tuple[SFTDataset, dict[str, Any]]:
    """The samples, and fields of `CalibrationResult` about the answers."""
    tokenizer = load_tokenizer(settings.model)
    prompts, skipped = _read_prompts(settings)
    build = partial(
        build_sft_dataset,
        tokenizer=tokenizer,
        model=settings.model,
        trainable_embeddings=settings.trainable_embeddings,
        max_length=settings.max_length,
        heldout_items=settings.heldout_items,
        folder=out / "samples",
    )
    _check_can_train(prompts, build)
    copies = build_copy_conversations(settings, tokenizer)  # before hours of generation: there may be too little text
    answers = _answer_and_score(settings, prompts, out)
    summary = _summarize_answers(answers, min_score=settings.min_score)
    reasons = "".join(f"; {reason}: {count}" for reason, count in summary["rejected"].items())
    log_message(f"{summary['kept_answers']} of {summary['answers']} answers are kept{reasons}")
    if not summary["kept_answers"]:
        raise DataError(
            f"calibrate: no answer reaches min_score={settings.min_score}{reasons}; the answers are in "
            f"{out / COMPLETIONS_FILE}: copy them away before you change a setting"
        )
    selected = [answer.to_conversation(source="answers") for answer in answers if answer.selected]
    schedule = SampleSchedule(batch_size=settings.batch_size, epochs=settings.epochs, seed=settings.seed)
    dataset = build([*selected, *copies], packing=settings.packing, schedule=schedule)
    write_jsonl(out / ANSWERS_FILE, (answer.to_row() for answer in answers))
    return dataset, {**summary, "skipped": skipped}


def _read_prompts(settings: CalibrateSettings) -> tuple[list[Conversation], dict[str, int]]:
    """The prompts, and how many rows are left out, by reason."""
    source = settings.prompts
    name = str(source) if isinstance(source, Path) else "prompts"
    min_scores = None if isinstance(source, Path) else source.min_scores
    rows = read_prompts(read_conversation_source(source), source=name, min_scores=min_scores)
    prompts, skipped = partition_skipped(islice(rows, settings.max_prompts), source=name)
    return prompts, dict(Counter(row.reason for row in skipped))


def _check_can_train(prompts: Sequence[Conversation], build: Callable[..., SFTDataset]) -> None:
    """Build a dataset of one example, so that a model that cannot be trained is reported before hours of generation."""
    shortest = min(prompts, key=lambda prompt: sum(len(message.content) for message in prompt.messages))
    example = ScoredAnswer(shortest, GeneratedText("1", 1), Score(5), selected=True).to_conversation(source="answers")
    build([example], packing=False, schedule=SampleSchedule(batch_size=1, epochs=1.0, seed=0))


def _answer_and_score(settings: CalibrateSettings, prompts: Sequence[Conversation], out: Path) -> list[ScoredAnswer]:
    sampled = settings.num_candidates > 1
    temperature = settings.temperature if sampled else 0.0
    return generate_and_score(
        prompts,
        teacher=_create_backend(settings.teacher, settings),
        judge=None if settings.judge == "rules" else _create_backend(settings.judge, settings),
        decoding=DecodingConfig(max_new_tokens=settings.max_new_tokens, temperature=temperature, seed=settings.seed),
        num_candidates=settings.num_candidates,
        min_score=settings.min_score,
        folder=out,
    )


def _create_backend(model: Path | Endpoint, settings: CalibrateSettings) -> ChatBackend:
    if isinstance(model, Endpoint):
        return OpenAIBackend(
            model.base_url,
            model.model,
            api_key_env=model.api_key_env,
            max_concurrent_requests=model.max_concurrent_requests,
        )
    if settings.backend == "vllm":
        return VLLMBackend(model, settings.dtype)
    return TransformersBackend(model, settings.dtype, batch_size=settings.generation_batch_size)


def _summarize_answers(answers: Sequence[ScoredAnswer], *, min_score: int) -> dict[str, Any]:
    scores = Counter("none" if answer.score.value is None else str(answer.score.value) for answer in answers)
    return {
        "answers": len(answers),
        "kept_answers": sum(answer.selected for answer in answers),
        "score_counts": dict(sorted(scores.items())),
        "rejected": dict(count_rejections(answers, min_score=min_score).most_common()),
    }


def _remove_work_files(out: Path) -> None:
    for file in (COMPLETIONS_FILE, JUDGMENTS_FILE):
        (out / file).unlink(missing_ok=True)
