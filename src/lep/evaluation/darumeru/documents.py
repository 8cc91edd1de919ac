"""Rows of the data sets as documents for the harness: the prompt, the target, and what scoring needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from lep.data.records import Record
from lep.errors import DataError, UsageError
from lep.evaluation.darumeru.datasets import EXAMPLES, rows
from lep.evaluation.darumeru.prompts import ACCEPTABLE, EXTRACT, LETTERS, SUMMARY, instruction, question
from lep.evaluation.darumeru.subjects import CATEGORIES
from lep.evaluation.darumeru.text_units import tokens

if TYPE_CHECKING:
    from datasets import DatasetDict

VARIANTS = ("paper", "scripts")
Document = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What holds for every document of a task."""

    variant: str
    tokenizer: str
    """Of the model; empty: unknown."""


def documents(
    *,
    task: str,
    data: str | None = None,
    variant: str = "paper",
    tokenizer: str | None = None,
    pretrained: str | None = None,
    **_: object,
) -> DatasetDict:
    """The documents of a task, its split `test` and its few-shot examples, `prompt`. The harness calls this.

    The harness hands over its `--metadata` and its `--model_args`; what is not named here is not for us.

    Args:
        task: the name of the task.
        data: a folder to read from instead of the hub.
        variant: "paper": the scores as the paper's text says; "scripts": as its scripts did.
        tokenizer: of the model, to count tokens with.
        pretrained: the model, whose tokenizer is taken where none is named.

    Raises:
        UsageError: no such variant.
        DataError: the data cannot be read, or a row is not as it must be.
    """
    from datasets import Dataset, DatasetDict

    if variant not in VARIANTS:
        raise UsageError(f"variant={variant!r}: expected one of {', '.join(VARIANTS)}")
    setting = Setting(variant, tokenizer or pretrained or "")
    source, build = _BUILDERS[task]
    asked = [made for record in rows(source, split="test", folder=data) for made in build(record, setting)]
    shown = [
        made
        for record in _examples(rows(source, split="prompt", folder=data))
        for made in islice(build(record, setting), 1)
    ]
    return DatasetDict({"test": Dataset.from_list(asked), "prompt": Dataset.from_list(shown)})


def _examples(records: Iterator[Record]) -> Iterator[Record]:
    """The first few rows; of MMLU, of each subject."""
    seen: dict[str, int] = {}
    for record in records:
        subject = str(record.row.get("subject", ""))
        seen[subject] = seen.get(subject, 0) + 1
        if seen[subject] <= EXAMPLES:
            yield record


def _choice(record: Record, setting: Setting, *, options: tuple[str, ...]) -> Iterator[Document]:
    yield _options(instruction(record), options, gold=_index(record, options))


def _both_orders(record: Record, setting: Setting) -> Iterator[Document]:
    """The row, then the row with its two choices exchanged."""
    options, inputs = ("1", "2"), record.row["inputs"]
    gold = _index(record, options)
    if not isinstance(inputs, Mapping) or not {"choice1", "choice2"} <= inputs.keys():
        raise DataError(f"{record.place}: column 'inputs' needs choice1 and choice2")
    exchanged = {**inputs, "choice1": inputs["choice2"], "choice2": inputs["choice1"]}
    for values, right in ((inputs, gold), (exchanged, 1 - gold)):
        yield {**_options(instruction(record, inputs=values), options, gold=right), "pair": record.place}


def _acceptable(record: Record, setting: Setting) -> Iterator[Document]:
    gold = record.row["acceptable"]
    if gold not in (0, 1):
        raise DataError(f"{record.place}: column 'acceptable' is {gold!r}; expected 0 or 1")
    yield _options(ACCEPTABLE.format(sentence=record.row["sentence"]), ("0", "1"), gold=int(gold))


def _subject_question(record: Record, setting: Setting, *, language: str) -> Iterator[Document]:
    subject, gold = record.row["subject"], record.row["answer"]
    if subject not in CATEGORIES:
        raise DataError(f"{record.place}: column 'subject' is {subject!r}; expected a subject of MMLU")
    if gold not in range(len(LETTERS)):
        raise DataError(f"{record.place}: column 'answer' is {gold!r}; expected 0 to 3")
    yield {**_options(question(record, language=language), LETTERS, gold=int(gold)), "subject": subject}


def _answers(record: Record, setting: Setting) -> Iterator[Document]:
    """MultiQ: one gold answer or several, as texts or as segments of the text."""
    outputs = record.row["outputs"]
    listed = [outputs] if isinstance(outputs, str) else outputs
    answers = [one["segment"] if isinstance(one, Mapping) else one for one in listed]
    if not answers:
        raise DataError(f"{record.place}: column 'outputs' holds no answer")
    yield {"prompt": instruction(record), "target": answers[0], "answers": answers}


def _exam(record: Record, setting: Setting) -> Iterator[Document]:
    meta = record.row.get("meta") or {}
    missing = [key for key in ("id_task", "variant", "score", "type") if key not in meta]
    if missing:
        raise DataError(f"{record.place}: column 'meta' needs {missing[0]!r}, to grade the answer")
    accepted = str(record.row["outputs"])
    yield {
        "prompt": instruction(record),
        "target": accepted.split(",")[0] if meta["type"] == "text" else accepted,
        "accepted": accepted,
        "kind": meta["type"],
        "number": str(meta["id_task"]),
        "exam": int(meta["variant"]),
        "most": int(meta["score"]),
    }


def _copy(record: Record, setting: Setting) -> Iterator[Document]:
    original = str(record.row["outputs"]).strip()
    if not original:
        raise DataError(f"{record.place}: column 'outputs' is empty; expected the text to copy")
    yield {
        "prompt": instruction(record),
        "target": original,
        "tokenizer": setting.tokenizer,
        "variant": setting.variant,
    }


def _abstract(record: Record, setting: Setting) -> Iterator[Document]:
    prompt = SUMMARY.format(text=record.row["text"].strip())
    yield {"prompt": prompt, "target": record.row["summary"].strip(), "variant": setting.variant}


def _extract(record: Record, setting: Setting) -> Iterator[Document]:
    """Every sentence cut to as many tokens as the shortest has, and how many it has then.

    That is one more where the cut is inside a character, which is then kept whole.
    """
    sentences, labels = record.row["sentences"], record.row["labels"]
    relevant = [i for i, label in enumerate(labels) if label]
    if len(labels) != len(sentences) or not relevant:
        raise DataError(f"{record.place}: column 'labels' needs a 0 or 1 for each of 'sentences', and a 1 among them")
    read = [tokens(sentence.strip(), tokenizer=setting.tokenizer) for sentence in sentences]
    shortest = min(map(len, read))
    if not shortest:
        raise DataError(f"{record.place}: column 'sentences' holds an empty one")
    cut = [sentence.strip()[: own.ends[shortest - 1]] for sentence, own in zip(sentences, read, strict=True)]
    yield {
        "prompt": EXTRACT.format(text=record.row["text"].strip()),
        "target": " ".join(sentences[i].strip() for i in relevant),
        "choices": cut,
        "lengths": [len(tokens(sentence, tokenizer=setting.tokenizer)) for sentence in cut],
        "relevant": relevant,
    }


def _options(prompt: str, options: tuple[str, ...], *, gold: int) -> Document:
    return {"prompt": prompt, "target": options[gold], "choices": list(options), "gold": gold}


def _index(record: Record, options: tuple[str, ...]) -> int:
    answer = str(record.row["outputs"]).strip()
    if answer not in options:
        raise DataError(f"{record.place}: column 'outputs' is {answer!r}; expected one of {', '.join(options)}")
    return options.index(answer)


_BUILDERS: dict[str, tuple[str, Callable[[Record, Setting], Iterator[Document]]]] = {
    "darumeru_multiq": ("multiq", _answers),
    "darumeru_parus": ("parus", _both_orders),
    "darumeru_rcb": ("rcb", partial(_choice, options=("1", "2", "3"))),
    "darumeru_ruopenbookqa": ("ruopenbookqa", partial(_choice, options=LETTERS)),
    "darumeru_ruworldtree": ("ruworldtree", partial(_choice, options=LETTERS)),
    "darumeru_rwsd": ("rwsd", partial(_choice, options=("Да", "Нет"))),
    "darumeru_use": ("use", _exam),
    "darumeru_rucola": ("rucola", _acceptable),
    "darumeru_rummlu": ("rummlu", partial(_choice, options=LETTERS)),
    "darumeru_mmlu_ru": ("mmlu_ru", partial(_subject_question, language="ru")),
    "darumeru_mmlu_en": ("mmlu_ru", partial(_subject_question, language="en")),
    "darumeru_abstractive": ("gazeta", _abstract),
    "darumeru_extractive": ("gazeta", _extract),
    "darumeru_cp_sent_en": ("cp_sent_en", _copy),
    "darumeru_cp_para_en": ("cp_para_en", _copy),
    "darumeru_cp_sent_ru": ("cp_sent_ru", _copy),
    "darumeru_cp_para_ru": ("cp_para_ru", _copy),
}
"""The data set of each task, and how its rows become documents."""
