"""What a tuning learns from: samples in the order of training, on disk, so that every process reads the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, load_from_disk
from transformers import PreTrainedTokenizerBase
from trl.data_utils import pack_dataset

from lep.config import Tuning
from lep.data.chat_template import Rendered, render
from lep.data.conversations import Conversation, read_prompts, sift, turns
from lep.data.document_tokens import document_end
from lep.data.packing import IGNORED
from lep.data.preferences import Preference, Verdict
from lep.data.records import read_records
from lep.data.sft_checks import Checked, check_instructions
from lep.errors import DataError
from lep.io.model_folder import ModelFolder, open_model, read_json, text_config
from lep.progress import note, progress

Method = Literal["sft", "dpo", "kto"]


@dataclass(frozen=True)
class Part:
    """What one source of data has."""

    rows: int
    tokens: int
    learnt: int
    """Tokens that carry loss."""


@dataclass(frozen=True)
class Lessons:
    """Samples to learn from."""

    folder: Path
    """As `datasets` stores them."""
    method: Method
    steps: int
    tokens: int
    """Of the samples of all steps."""
    passes: float
    """How often each sample is seen, in the mean."""
    parts: Mapping[str, Part]
    """By the name of the source."""
    remarks: tuple[str, ...] = ()
    """What is remarkable about them, each in one sentence."""

    def numbers(self) -> dict[str, Any]:
        """For a manifest."""
        learnt = sum(part.learnt for part in self.parts.values())
        sources = {
            name: {
                "rows": part.rows,
                "tokens": part.tokens,
                "answer_tokens": part.learnt,
                "share": part.learnt / learnt,
            }
            for name, part in self.parts.items()
        }
        return {
            "examples": sum(part.rows for part in self.parts.values()),
            "sources": sources,
            "passes": self.passes,
            "trained_tokens": self.tokens,
            "remarks": list(self.remarks),
        }


def instruction_lessons(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    *,
    settings: Tuning,
    folder: Path,
) -> Lessons:
    """Samples of `input_ids` and `labels`: the loss is on answers only. What is remarkable about them is told.

    Args:
        conversations: each ends on the assistant.
        tokenizer: its chat template renders them.
        settings: model, length, packing, batch, epochs and seed; and the items that the data should not hold.
        folder: for the samples; what was there is replaced.

    Raises:
        LepError: as `check_instructions`; or the conversations are less than one step.
    """
    rendered = _rendered(conversations, tokenizer)
    checked = _checked(conversations, rendered, tokenizer, settings=settings)
    for remark in checked.remarks:
        note(remark)
    parts: dict[str, Part] = {}
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for conversation, found in zip(conversations, rendered, strict=True):
        if len(found.ids) > settings.maximum_length:
            continue
        ids, learnt = np.array(found.ids, np.int32), np.array(found.learnt, bool)
        learnt[0] = False  # nothing stands before it
        rows["input_ids"].append(ids)
        rows["labels"].append(np.where(learnt, ids, np.int32(IGNORED)))
        _count(parts, conversation.source, tokens=len(ids), learnt=int(learnt.sum()))
    samples = Dataset.from_dict(rows)
    if settings.packing:
        samples = pack_dataset(samples, settings.maximum_length, "bfd")
    lengths = [len(ids) for ids in samples.with_format("numpy")["input_ids"]]
    return _stored(samples, lengths, parts, method="sft", settings=settings, folder=folder, remarks=checked.remarks)


def preference_lessons(
    rows: Sequence[Preference] | Sequence[Verdict],
    tokenizer: PreTrainedTokenizerBase,
    *,
    settings: Tuning,
    folder: Path,
) -> Lessons:
    """Samples as trl's trainers of preferences take them, which render them by the tokenizer's chat template.

    Args:
        rows: all preferences (for DPO), or all verdicts (for KTO).
        tokenizer: its chat template renders them.
        settings: length, batch, epochs and seed.
        folder: for the samples; what was there is replaced.

    Raises:
        DataError: the template refuses a conversation, or what is short enough is less than one step.
    """
    parts: dict[str, Part] = {}
    lengths: list[int] = []
    kept: list[dict[str, Any]] = []
    with progress("rendering", total=len(rows), unit="rows") as advance:
        for row in rows:
            found = [render(tokenizer, conversation) for conversation in _conversations(row)]
            advance(1)
            if max(len(one.ids) for one in found) > settings.maximum_length:
                continue
            kept.append(_as_trl_takes_it(row))
            lengths.append(sum(len(one.ids) for one in found))
            _count(parts, row.source, tokens=lengths[-1], learnt=sum(sum(one.learnt) for one in found))
    remarks = ()
    if left := len(rows) - len(kept):
        remarks = (f"{left} of {len(rows)} rows are longer than maximum_length={settings.maximum_length} tokens",)
        note(remarks[0])
    method = "dpo" if isinstance(rows[0], Preference) else "kto"
    samples = Dataset.from_list(kept)
    return _stored(samples, lengths, parts, method=method, settings=settings, folder=folder, remarks=remarks)


def in_order(lessons: Lessons, settings: Tuning) -> Dataset:
    """The samples of all steps, one after the other: each pass has all of them, in an order of its own."""
    samples: Any = load_from_disk(str(lessons.folder))
    numbers = _order(len(samples), steps=lessons.steps, settings=settings)
    return samples.select(numbers, keep_in_memory=True)


def _rendered(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
    rendered: list[Rendered] = []
    with progress("rendering", total=len(conversations), unit="conversations") as advance:
        for conversation in conversations:
            rendered.append(render(tokenizer, conversation))
            advance(1)
    return rendered


def _checked(
    conversations: Sequence[Conversation],
    rendered: Sequence[Rendered],
    tokenizer: PreTrainedTokenizerBase,
    *,
    settings: Tuning,
) -> Checked:
    source = open_model(settings.model)
    tables = {"embed": source.rows("embed"), "head": source.rows("head")}
    learn = {"frozen": set(), "head": set(tables) if source.tied else {"head"}, "both": set(tables)}[settings.tables]
    return check_instructions(
        conversations,
        rendered,
        tokenizer=tokenizer,
        stops=_stops(source, tokenizer),
        maximum_length=settings.maximum_length,
        tables=tables,
        frozen=tables.keys() - learn,
        evaluations={"skills": _questions(settings.skills)} if settings.skills else {},
    )


def _questions(file: Path) -> list[str]:
    """The last message of each item."""
    prompts, _ = sift(read_prompts(read_records(file), source=file.name), source=file.name)
    return [prompt.messages[-1].content for prompt in prompts]


def _stops(source: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids at which generation stops, as transformers finds them."""
    file = source.path / "generation_config.json"
    for config in (read_json(file) if file.exists() else {}, text_config(source.config)):
        found = config.get("eos_token_id")
        if found is not None:
            return {*found} if isinstance(found, list) else {found}
    end = document_end(tokenizer)
    return set() if end is None else {end}


def _stored(
    samples: Dataset,
    lengths: Sequence[int],
    parts: Mapping[str, Part],
    *,
    method: Method,
    settings: Tuning,
    folder: Path,
    remarks: tuple[str, ...],
) -> Lessons:
    seen = settings.epochs * len(samples)
    if seen < settings.batch_size:
        raise DataError(
            f"{len(samples)} samples, times epochs={settings.epochs:g}, are less than one step of "
            f"batch_size={settings.batch_size}; lower batch_size, or give more data or epochs"
        )
    steps = round(seen / settings.batch_size)
    samples.save_to_disk(str(folder))
    tokens = int(np.array(lengths)[_order(len(samples), steps=steps, settings=settings)].sum())
    return Lessons(folder, method, steps, tokens, steps * settings.batch_size / len(samples), parts, remarks)


def _order(count: int, *, steps: int, settings: Tuning) -> list[int]:
    chosen = np.random.default_rng(settings.seed)
    wanted = steps * settings.batch_size
    passes: Iterable[np.ndarray] = (chosen.permutation(count) for _ in range(-(-wanted // count)))
    return np.concatenate(list(passes))[:wanted].tolist()


def _conversations(row: Preference | Verdict) -> list[Conversation]:
    answers = (row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion,)
    return [Conversation((*row.prompt, *one), row.place, row.source, first_answer=len(row.prompt)) for one in answers]


def _as_trl_takes_it(row: Preference | Verdict) -> dict[str, Any]:
    if isinstance(row, Preference):
        return {"prompt": turns(row.prompt), "chosen": turns(row.chosen), "rejected": turns(row.rejected)}
    return {"prompt": turns(row.prompt), "completion": turns(row.completion), "label": row.good}


def _count(parts: dict[str, Part], source: str, *, tokens: int, learnt: int) -> None:
    part = parts.get(source, Part(0, 0, 0))
    parts[source] = Part(part.rows + 1, part.tokens + tokens, part.learnt + learnt)
