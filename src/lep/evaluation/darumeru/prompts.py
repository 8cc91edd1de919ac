"""What the model is asked.

Data sets of MERA bring their own instruction, with places for the inputs. The method leaves the words open for the
others; these are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lep.data.records import Record
from lep.errors import DataError

LETTERS = ("A", "B", "C", "D")
QUESTION = {
    "ru": "Выбери правильный ответ на вопрос. Ответь одной буквой: A, B, C или D.\n{question}\n{options}\nОтвет:",
    "en": "Choose the right answer to the question. Answer with one letter: A, B, C or D.\n"
    "{question}\n{options}\nAnswer:",
}
ACCEPTABLE = (
    "Приемлемо ли предложение с точки зрения носителя русского языка? "
    "Ответь одной цифрой: 1 — приемлемо, 0 — нет.\nПредложение: {sentence}\nОтвет:"
)
SUMMARY = "Кратко перескажи новость в одном абзаце.\nНовость: {text}\nПересказ:"
EXTRACT = "Выпиши из новости самые важные предложения без изменений.\nНовость: {text}\nВажные предложения:"


def instruction(record: Record, *, inputs: Any = None) -> str:
    """The row's own instruction with its inputs in place, outer space removed.

    Args:
        record: has `instruction`, a text; or `messages`, or `instruction` as messages, of which the user's is taken.
            Places are `{name}` for each of the inputs, or `{inputs}` where the inputs are one text.
        inputs: other inputs than the row's.

    Raises:
        DataError: there is no instruction, or it asks for an input that the row has not; names the row.
    """
    template = record.row.get("messages") or record.row.get("instruction")
    if isinstance(template, Sequence) and not isinstance(template, str):
        template = next((turn["content"] for turn in template if turn.get("role") == "user"), None)
    if not isinstance(template, str):
        raise DataError(f"{record.place}: no column 'instruction' with a text, and no 'messages' with a user's turn")
    values = record.row["inputs"] if inputs is None else inputs
    try:
        filled = template.format(**values) if isinstance(values, Mapping) else template.format(inputs=values)
    except (KeyError, IndexError, ValueError) as error:
        there = ", ".join(values) if isinstance(values, Mapping) else "inputs"
        raise DataError(f"{record.place}: the instruction asks for {error}, but column 'inputs' has {there}") from None
    return filled.strip()  # the harness puts a space before the answer itself


def question(record: Record, *, language: str) -> str:
    """A question of MMLU with four options, in Russian or English."""
    choices = record.row[f"choices_{language}"]
    if len(choices) != len(LETTERS):
        raise DataError(f"{record.place}: column 'choices_{language}' has {len(choices)} options; expected 4")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return QUESTION[language].format(question=record.row[f"question_{language}"].strip(), options=options)
