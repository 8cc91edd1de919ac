"""Build prompts.

Data sets of MERA come with their own instruction, with placeholders for the inputs. The paper does not give the prompts
of the others; these templates are by the authors of lep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lep.data.records import Record
from lep.errors import DataError

OPTION_LETTERS = ("A", "B", "C", "D")
QUESTION_PROMPTS = {
    "ru": "Выбери правильный ответ на вопрос. Ответь одной буквой: A, B, C или D.\n{question}\n{options}\nОтвет:",
    "en": "Choose the right answer to the question. Answer with one letter: A, B, C or D.\n"
    "{question}\n{options}\nAnswer:",
}
ACCEPTABILITY_PROMPT = (
    "Приемлемо ли предложение с точки зрения носителя русского языка? "
    "Ответь одной цифрой: 1 — приемлемо, 0 — нет.\nПредложение: {sentence}\nОтвет:"
)
SUMMARY_PROMPT = "Кратко перескажи новость в одном абзаце.\nНовость: {text}\nПересказ:"
EXTRACTION_PROMPT = "Выпиши из новости самые важные предложения без изменений.\nНовость: {text}\nВажные предложения:"


def build_instruction(record: Record, *, inputs: Any = None) -> str:
    """Fill the row's own instruction with its inputs, and strip whitespace.

    Args:
        record: A row with `instruction`, a text or messages, or with `messages`; of messages the user's is taken.
            Placeholders are `{name}` for each of the inputs, or `{inputs}` if the inputs are one text.
        inputs: Used instead of the row's inputs.

    Returns:
        The prompt.

    Raises:
        DataError: The row has no instruction, or lacks an input that it needs.
    """
    template = record.row.get("messages") or record.row.get("instruction")
    if isinstance(template, Sequence) and not isinstance(template, str):
        template = next((turn["content"] for turn in template if turn.get("role") == "user"), None)
    if not isinstance(template, str):
        raise DataError(f"{record.place}: no column 'instruction' with a text, and no 'messages' with a user message")
    values = record.row["inputs"] if inputs is None else inputs
    try:
        filled = template.format(**values) if isinstance(values, Mapping) else template.format(inputs=values)
    except (KeyError, IndexError, ValueError) as error:
        names = ", ".join(values) if isinstance(values, Mapping) else "inputs"
        raise DataError(f"{record.place}: the instruction needs {error}, but column 'inputs' has {names}") from None
    return filled.strip()  # lm-evaluation-harness puts a space before the answer itself


def build_question(record: Record, *, language: str) -> str:
    """Build the prompt of an MMLU question with four options, in Russian or English.

    Args:
        record: A row of MMLU in both languages.
        language: `ru` or `en`.

    Returns:
        The prompt.

    Raises:
        DataError: There are more or fewer options.
    """
    choices = record.row[f"choices_{language}"]
    if len(choices) != len(OPTION_LETTERS):
        raise DataError(f"{record.place}: column 'choices_{language}' has {len(choices)} options; expected 4")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(OPTION_LETTERS, choices, strict=True))
    return QUESTION_PROMPTS[language].format(question=record.row[f"question_{language}"].strip(), options=options)
