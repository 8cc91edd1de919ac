"""Build the training samples of SFT, DPO and KTO, and store them so that every process reads the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, load_from_disk
from transformers import PreTrainedTokenizerBase
from trl.data_utils import pack_dataset

from lep.data.chat_template import TokenizedConversation, tokenize_conversation
from lep.data.conversations import Conversation, partition_skipped, read_prompts, to_chat_messages
from lep.data.document_tokens import get_document_end_id
from lep.data.packed_dataset import IGNORE_INDEX
from lep.data.preferences import LabeledAnswer, Preference
from lep.data.records import read_records
from lep.data.sft_checks import SFTCheckReport, check_sft_conversations
from lep.errors import DataError
from lep.io.model_folder import ModelFolder, get_text_config, open_model, read_json
from lep.progress import log_message, track_progress
from lep.results.stages import TrainingSource

TuningMethod = Literal["sft", "dpo", "kto"]
TrainableEmbeddingsOption = Literal["none", "head", "both"]


@dataclass(frozen=True)
class SampleSchedule:
    """How many optimizer steps a number of samples gives, and in which order the samples are seen."""

    batch_size: int
    """Samples in an optimizer step."""
    epochs: float
    seed: int

    def count_steps(self, num_samples: int) -> int:
        """Return the number of optimizer steps.

        Args:
            num_samples: Number of different samples.

        Returns:
            The steps whose batches come nearest to the epochs.

        Raises:
            DataError: The samples of all epochs are fewer than one batch.
        """
        seen = self.epochs * num_samples
        if seen < self.batch_size:
            raise DataError(
                f"{num_samples} samples, times epochs={self.epochs:g}, are less than one step of "
                f"batch_size={self.batch_size}; lower batch_size, or give more data or epochs"
            )
        return round(seen / self.batch_size)

    def order_samples(self, num_samples: int) -> list[int]:
        """Return the index of each sample of all steps: every epoch is a permutation of its own."""
        generator = np.random.default_rng(self.seed)
        total = self.count_steps(num_samples) * self.batch_size
        epochs: Iterable[np.ndarray] = (generator.permutation(num_samples) for _ in range(-(-total // num_samples)))
        return np.concatenate(list(epochs))[:total].tolist()


@dataclass(frozen=True)
class SFTDataset:
    """Samples to train on."""

    folder: Path
    """As `datasets` stores them."""
    method: TuningMethod
    schedule: SampleSchedule
    num_samples: int
    tokens: int
    """Of the samples of all steps."""
    sources: Mapping[str, TrainingSource]
    """By name of the source."""
    warnings: tuple[str, ...] = ()
    """What the checks noticed, one sentence each."""

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return self.schedule.count_steps(self.num_samples)

    @property
    def epochs(self) -> float:
        """Return how often each sample is seen, on average."""
        return self.steps * self.schedule.batch_size / self.num_samples

    @property
    def examples(self) -> int:
        """Return the number of conversations or preferences, which packing joins into fewer samples."""
        return sum(source.rows for source in self.sources.values())


def build_sft_dataset(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: Path,
    trainable_embeddings: TrainableEmbeddingsOption,
    max_length: int,
    packing: bool,
    schedule: SampleSchedule,
    heldout_items: Path | None,
    folder: Path,
) -> SFTDataset:
    """Check conversations and store them as `input_ids` and `labels`, with loss on the answers only.

    Args:
        conversations: Each ends on the assistant.
        tokenizer: Its chat template renders them.
        model: Folder of the model to train.
        trainable_embeddings: Which of its embedding matrices are trained.
        max_length: In tokens; longer conversations are left out.
        packing: Join short conversations into samples of up to `max_length` tokens.
        schedule: Batch size, epochs and order.
        heldout_items: Evaluation items that the conversations should not contain.
        folder: For the samples; what it holds is replaced.

    Returns:
        The stored samples, with the warnings of the checks, which are logged as well.

    Raises:
        LepError: A check of `check_sft_conversations` fails, or the samples are less than one step.
    """
    tokenized = _tokenize_conversations(conversations, tokenizer)
    report = _run_checks(
        conversations,
        tokenized,
        tokenizer,
        model=open_model(model),
        trainable_embeddings=trainable_embeddings,
        max_length=max_length,
        heldout_items=heldout_items,
    )
    for warning in report.warnings:
        log_message(warning)
    rows: list[tuple[str, int, int]] = []
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for conversation, tokens in zip(conversations, tokenized, strict=True):
        if len(tokens.input_ids) > max_length:
            continue
        ids, is_trained = np.array(tokens.input_ids, np.int32), np.array(tokens.assistant_masks, bool)
        is_trained[0] = False  # no token precedes it
        columns["input_ids"].append(ids)
        columns["labels"].append(np.where(is_trained, ids, np.int32(IGNORE_INDEX)))
        rows.append((conversation.source, len(ids), int(is_trained.sum())))
    samples = Dataset.from_dict(columns)
    if packing:
        samples = pack_dataset(samples, max_length, "bfd")
    lengths = [len(ids) for ids in samples.with_format("numpy")["input_ids"]]
    tokens = _save_samples(samples, lengths, schedule=schedule, folder=folder)
    return SFTDataset(folder, "sft", schedule, len(samples), tokens, _summarize_sources(rows), report.warnings)


def build_preference_dataset(
    preferences: Sequence[Preference] | Sequence[LabeledAnswer],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    schedule: SampleSchedule,
    folder: Path,
) -> SFTDataset:
    """Store preferences as trl's DPO and KTO trainers take them, which render them by the chat template themselves.

    Args:
        preferences: All of them pairs (for DPO), or all labeled answers (for KTO).
        tokenizer: Its chat template renders them.
        max_length: In tokens; rows with a longer conversation are left out.
        schedule: Batch size, epochs and order.
        folder: For the samples; what it holds is replaced.

    Returns:
        The stored samples.

    Raises:
        DataError: The template refuses a conversation, or the samples are less than one step.
    """
    rows: list[tuple[str, int, int]] = []
    trl_rows: list[dict[str, Any]] = []
    with track_progress("tokenizing", total=len(preferences), unit="rows") as advance:
        for preference in preferences:
            tokenized = [tokenize_conversation(tokenizer, answer) for answer in _to_conversations(preference)]
            advance(1)
            lengths = [len(conversation.input_ids) for conversation in tokenized]
            if max(lengths) > max_length:
                continue
            trl_rows.append(_to_trl_row(preference))
            trained = sum(sum(conversation.assistant_masks) for conversation in tokenized)
            rows.append((preference.source, sum(lengths), trained))
    warnings = ()
    if num_long := len(preferences) - len(rows):
        warnings = (f"{num_long} of {len(preferences)} rows are longer than max_length={max_length} tokens",)
        log_message(warnings[0])
    method = "dpo" if isinstance(preferences[0], Preference) else "kto"
    tokens = _save_samples(
        Dataset.from_list(trl_rows), [length for _, length, _ in rows], schedule=schedule, folder=folder
    )
    return SFTDataset(folder, method, schedule, len(rows), tokens, _summarize_sources(rows), warnings)


def load_training_samples(dataset: SFTDataset) -> Dataset:
    """Load the samples of all steps, in the order of training."""
    samples: Any = load_from_disk(str(dataset.folder))
    return samples.select(dataset.schedule.order_samples(dataset.num_samples), keep_in_memory=True)


def _tokenize_conversations(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
) -> list[TokenizedConversation]:
    tokenized: list[TokenizedConversation] = []
    with track_progress("tokenizing", total=len(conversations), unit="conversations") as advance:
        for conversation in conversations:
            tokenized.append(tokenize_conversation(tokenizer, conversation))
            advance(1)
    return tokenized


def _run_checks(
    conversations: Sequence[Conversation],
    tokenized: Sequence[TokenizedConversation],
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: ModelFolder,
    trainable_embeddings: TrainableEmbeddingsOption,
    max_length: int,
    heldout_items: Path | None,
) -> SFTCheckReport:
    embeddings = {name: model.embedding_matrix(name) for name in ("embed", "head")}
    trainable = {"none": set(), "head": set(embeddings) if model.tied else {"head"}, "both": set(embeddings)}
    return check_sft_conversations(
        conversations,
        tokenized,
        tokenizer=tokenizer,
        stop_ids=_find_stop_ids(model, tokenizer),
        max_length=max_length,
        embeddings=embeddings,
        frozen_embeddings=embeddings.keys() - trainable[trainable_embeddings],
        evaluations={"heldout_items": _read_questions(heldout_items)} if heldout_items else {},
    )


def _read_questions(file: Path) -> list[str]:
    """Read the last message of each evaluation item."""
    prompts, _ = partition_skipped(read_prompts(read_records(file), source=file.name), source=file.name)
    return [prompt.messages[-1].content for prompt in prompts]


def _find_stop_ids(model: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Find the ids at which generation stops, as transformers does."""
    file = model.path / "generation_config.json"
    for config in (read_json(file) if file.exists() else {}, get_text_config(model.config)):
        eos_token_id = config.get("eos_token_id")
        if eos_token_id is not None:
            return {*eos_token_id} if isinstance(eos_token_id, list) else {eos_token_id}
    end_id = get_document_end_id(tokenizer)
    return set() if end_id is None else {end_id}


def _save_samples(samples: Dataset, lengths: Sequence[int], *, schedule: SampleSchedule, folder: Path) -> int:
    """Save the samples; returns the tokens of all steps."""
    order = schedule.order_samples(len(samples))
    samples.save_to_disk(str(folder))
    return int(np.array(lengths)[order].sum())


def _summarize_sources(rows: Iterable[tuple[str, int, int]]) -> dict[str, TrainingSource]:
    """Sum up rows of (source, tokens, trained tokens) by source."""
    sums: dict[str, list[int]] = {}
    for source, tokens, trained_tokens in rows:
        total = sums.setdefault(source, [0, 0, 0])
        sums[source] = [total[0] + 1, total[1] + tokens, total[2] + trained_tokens]
    all_trained = sum(trained_tokens for _, _, trained_tokens in sums.values())
    return {
        source: TrainingSource(num_rows, tokens, trained_tokens, trained_tokens / all_trained)
        for source, (num_rows, tokens, trained_tokens) in sums.items()
    }


def _to_conversations(preference: Preference | LabeledAnswer) -> list[Conversation]:
    is_pair = isinstance(preference, Preference)
    answers = (preference.chosen, preference.rejected) if is_pair else (preference.completion,)
    return [
        Conversation(
            (*preference.prompt, *answer),
            preference.place,
            preference.source,
            first_trained_message=len(preference.prompt),
        )
        for answer in answers
    ]


def _to_trl_row(preference: Preference | LabeledAnswer) -> dict[str, Any]:
    prompt = to_chat_messages(preference.prompt)
    if isinstance(preference, Preference):
        chosen, rejected = to_chat_messages(preference.chosen), to_chat_messages(preference.rejected)
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {"prompt": prompt, "completion": to_chat_messages(preference.completion), "label": preference.label}
