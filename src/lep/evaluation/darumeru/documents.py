"""Build the documents of lm-evaluation-harness from rows: prompt, target, and what scoring needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from lep.data.records import Record
from lep.errors import DataError, UsageError
from lep.evaluation.darumeru.datasets import NUM_FEWSHOT_EXAMPLES, read_dataset_rows
from lep.evaluation.darumeru.prompts import (
    ACCEPTABILITY_PROMPT,
    EXTRACTION_PROMPT,
    OPTION_LETTERS,
    SUMMARY_PROMPT,
    build_instruction,
    build_question,
)
from lep.evaluation.darumeru.subjects import SUBJECT_CATEGORIES
from lep.evaluation.darumeru.text_units import tokenize_text

if TYPE_CHECKING:
    from datasets import DatasetDict

VARIANTS = ("paper", "scripts")
Document = dict[str, Any]


@dataclass(frozen=True)
class DocumentConfig:
    """Configuration of all documents of a task."""

    variant: str
    tokenizer: str
    """Folder or hub id of the model's tokenizer; empty if it is unknown."""


def load_documents(
    *,
    task: str,
    data: str | None = None,
    variant: str = "paper",
    tokenizer: str | None = None,
    pretrained: str | None = None,
    **_: object,
) -> DatasetDict:
    """Load the documents of a task: the split `test`, and the few-shot examples `prompt`.

    lm-evaluation-harness calls this with its `--metadata` and its `--model_args`.

    Args:
        task: Name of the task.
        data: A folder to read from instead of the hub.
        variant: `paper` for the scores of the paper's text, `scripts` for those of its scripts.
        tokenizer: Of the model, to count tokens with.
        pretrained: The model; its tokenizer is used if `tokenizer` is not given.

    Returns:
        Both splits.

    Raises:
        UsageError: There is no such variant.
        DataError: The data cannot be read, or a row is invalid.
    """
    from datasets import Dataset, DatasetDict

    if variant not in VARIANTS:
        raise UsageError(f"variant={variant!r}: expected one of {', '.join(VARIANTS)}")
    config = DocumentConfig(variant, tokenizer or pretrained or "")
    dataset, build = _BUILDERS[task]
    rows = read_dataset_rows(dataset, split="test", folder=data)
    documents = [document for row in rows for document in build(row, config)]
    example_rows = _select_fewshot_examples(read_dataset_rows(dataset, split="prompt", folder=data))
    examples = [document for row in example_rows for document in islice(build(row, config), 1)]
    return DatasetDict({"test": Dataset.from_list(documents), "prompt": Dataset.from_list(examples)})


def _select_fewshot_examples(records: Iterator[Record]) -> Iterator[Record]:
    """Yield the first rows; of MMLU, of each subject."""
    count: Counter[str] = Counter()
    for record in records:
        subject = str(record.row.get("subject", ""))
        count[subject] += 1
        if count[subject] <= NUM_FEWSHOT_EXAMPLES:
            yield record


def _build_choice(record: Record, config: DocumentConfig, *, options: tuple[str, ...]) -> Iterator[Document]:
    yield _build_multiple_choice(build_instruction(record), options, gold=_find_option_index(record, options))


def _build_both_orders(record: Record, config: DocumentConfig) -> Iterator[Document]:
    """Yield the row, then the row with its two choices swapped."""
    options, inputs = ("1", "2"), record.row["inputs"]
    gold = _find_option_index(record, options)
    if not isinstance(inputs, Mapping) or not {"choice1", "choice2"} <= inputs.keys():
        raise DataError(f"{record.place}: column 'inputs' needs choice1 and choice2")
    swapped = {**inputs, "choice1": inputs["choice2"], "choice2": inputs["choice1"]}
    for values, index in ((inputs, gold), (swapped, 1 - gold)):
        document = _build_multiple_choice(build_instruction(record, inputs=values), options, gold=index)
        yield {**document, "pair_id": record.place}


def _build_acceptability(record: Record, config: DocumentConfig) -> Iterator[Document]:
    gold = record.row["acceptable"]
    if gold not in (0, 1):
        raise DataError(f"{record.place}: column 'acceptable' is {gold!r}; expected 0 or 1")
    yield _build_multiple_choice(
        ACCEPTABILITY_PROMPT.format(sentence=record.row["sentence"]), ("0", "1"), gold=int(gold)
    )


def _build_mmlu_question(record: Record, config: DocumentConfig, *, language: str) -> Iterator[Document]:
    subject, gold = record.row["subject"], record.row["answer"]
    if subject not in SUBJECT_CATEGORIES:
        raise DataError(f"{record.place}: column 'subject' is {subject!r}; expected a subject of MMLU")
    if gold not in range(len(OPTION_LETTERS)):
        raise DataError(f"{record.place}: column 'answer' is {gold!r}; expected 0 to 3")
    yield {
        **_build_multiple_choice(build_question(record, language=language), OPTION_LETTERS, gold=int(gold)),
        "subject": subject,
    }


def _build_multiple_answers(record: Record, config: DocumentConfig) -> Iterator[Document]:
    """Build a document of MultiQ: one gold answer or several, as texts or as segments of the text."""
    outputs = record.row["outputs"]
    outputs = [outputs] if isinstance(outputs, str) else outputs
    answers = [output["segment"] if isinstance(output, Mapping) else output for output in outputs]
    if not answers:
        raise DataError(f"{record.place}: column 'outputs' has no answer")
    yield {"prompt": build_instruction(record), "target": answers[0], "answers": answers}


def _build_exam_task(record: Record, config: DocumentConfig) -> Iterator[Document]:
    meta = record.row.get("meta") or {}
    missing = [key for key in ("id_task", "variant", "score", "type") if key not in meta]
    if missing:
        raise DataError(f"{record.place}: column 'meta' needs {missing[0]!r}, to grade the answer")
    answers = str(record.row["outputs"])
    yield {
        "prompt": build_instruction(record),
        "target": answers.split(",")[0] if meta["type"] == "text" else answers,
        "accepted_answers": answers,
        "answer_type": meta["type"],
        "task_number": str(meta["id_task"]),
        "exam_variant": int(meta["variant"]),
        "max_points": int(meta["score"]),
    }


def _build_copy_task(record: Record, config: DocumentConfig) -> Iterator[Document]:
    original = str(record.row["outputs"]).strip()
    if not original:
        raise DataError(f"{record.place}: column 'outputs' is empty; expected the text to copy")
    yield {
        "prompt": build_instruction(record),
        "target": original,
        "tokenizer": config.tokenizer,
        "variant": config.variant,
    }


def _build_abstractive_summary(record: Record, config: DocumentConfig) -> Iterator[Document]:
    prompt = SUMMARY_PROMPT.format(text=record.row["text"].strip())
    yield {"prompt": prompt, "target": record.row["summary"].strip(), "variant": config.variant}


def _build_extractive_summary(record: Record, config: DocumentConfig) -> Iterator[Document]:
    """Truncate every sentence to as many tokens as the shortest has.

    A sentence keeps one more where the cut would be inside a character; `token_counts` has the counts.
    """
    sentences, labels = record.row["sentences"], record.row["labels"]
    relevant = [i for i, label in enumerate(labels) if label]
    if len(labels) != len(sentences) or not relevant:
        raise DataError(f"{record.place}: column 'labels' needs a 0 or 1 for each of 'sentences', and a 1 among them")
    tokenized = [tokenize_text(sentence.strip(), tokenizer=config.tokenizer) for sentence in sentences]
    shortest = min(map(len, tokenized))
    if not shortest:
        raise DataError(f"{record.place}: column 'sentences' has an empty one")
    truncated = [
        sentence.strip()[: tokens.end_offsets[shortest - 1]]
        for sentence, tokens in zip(sentences, tokenized, strict=True)
    ]
    yield {
        "prompt": EXTRACTION_PROMPT.format(text=record.row["text"].strip()),
        "target": " ".join(sentences[i].strip() for i in relevant),
        "choices": truncated,
        "token_counts": [len(tokenize_text(sentence, tokenizer=config.tokenizer)) for sentence in truncated],
        "relevant": relevant,
    }


def _build_multiple_choice(prompt: str, options: tuple[str, ...], *, gold: int) -> Document:
    return {"prompt": prompt, "target": options[gold], "choices": list(options), "gold": gold}


def _find_option_index(record: Record, options: tuple[str, ...]) -> int:
    answer = str(record.row["outputs"]).strip()
    if answer not in options:
        raise DataError(f"{record.place}: column 'outputs' is {answer!r}; expected one of {', '.join(options)}")
    return options.index(answer)


_BUILDERS: dict[str, tuple[str, Callable[[Record, DocumentConfig], Iterator[Document]]]] = {
    "darumeru_multiq": ("multiq", _build_multiple_answers),
    "darumeru_parus": ("parus", _build_both_orders),
    "darumeru_rcb": ("rcb", partial(_build_choice, options=("1", "2", "3"))),
    "darumeru_ruopenbookqa": ("ruopenbookqa", partial(_build_choice, options=OPTION_LETTERS)),
    "darumeru_ruworldtree": ("ruworldtree", partial(_build_choice, options=OPTION_LETTERS)),
    "darumeru_rwsd": ("rwsd", partial(_build_choice, options=("Да", "Нет"))),
    "darumeru_use": ("use", _build_exam_task),
    "darumeru_rucola": ("rucola", _build_acceptability),
    "darumeru_rummlu": ("rummlu", partial(_build_choice, options=OPTION_LETTERS)),
    "darumeru_mmlu_ru": ("mmlu_ru", partial(_build_mmlu_question, language="ru")),
    "darumeru_mmlu_en": ("mmlu_ru", partial(_build_mmlu_question, language="en")),
    "darumeru_abstractive": ("gazeta", _build_abstractive_summary),
    "darumeru_extractive": ("gazeta", _build_extractive_summary),
    "darumeru_cp_sent_en": ("cp_sent_en", _build_copy_task),
    "darumeru_cp_para_en": ("cp_para_en", _build_copy_task),
    "darumeru_cp_sent_ru": ("cp_sent_ru", _build_copy_task),
    "darumeru_cp_para_ru": ("cp_para_ru", _build_copy_task),
}
"""The data set of each task, and what builds documents from its rows."""
