"""Answers to many prompts, each written down as it comes, so that work that was broken off goes on.

Who answers is a value with one method: a model in memory (`Local`, `Vllm`), or one that is served elsewhere
(`lep.sampling.openai_backend.Served`). None loads or reaches anything before it is asked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Protocol, runtime_checkable

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import DataError, LepError, TokenizerError, UsageError
from lep.modeling.generation import Answer, generate
from lep.modeling.loading import load_model, load_tokenizer, positions, seeded
from lep.progress import progress

Messages = Sequence[Mapping[str, str]]
"""A conversation up to the answer that is wanted: `role` and `content`."""


@dataclass(frozen=True)
class Asked:
    """One answer that is wanted: which candidate of which prompt."""

    row: int
    candidate: int
    messages: Messages
    place: str
    """Where the prompt stands, for errors: `prompts.jsonl:7`."""

    @property
    def key(self) -> tuple[int, int]:
        """What it is known by in the file."""
        return self.row, self.candidate

    @property
    def digest(self) -> str:
        """What tells its prompt from others, also after an interruption."""
        return sha256(json.dumps([dict(message) for message in self.messages]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class NoAnswer:
    """What stands where an answer should: this prompt alone cannot be answered."""

    reason: str


@dataclass(frozen=True)
class Decoding:
    """How an answer is found."""

    longest: int
    """Tokens at the most."""
    temperature: float = 0.0
    """Of sampling; 0: greedily."""
    seed: int = 0

    def seed_of(self, *place: int) -> int:
        """A seed of its own for each place."""
        return Random(f"{self.seed}/{place}").getrandbits(31)


Keep = Callable[[Asked, Answer | NoAnswer], None]
"""Told of each answer as it comes."""


@runtime_checkable
class Answerer(Protocol):
    """Who answers."""

    def answer(
        self, asked: Sequence[Asked], *, decoding: Decoding, done: Collection[tuple[int, int]], keep: Keep
    ) -> None:
        """Answer all that is not `done` by its key; what comes out does not depend on what is done."""


def answer_all(
    who: Answerer,
    prompts: Sequence[tuple[Messages, str]],
    *,
    decoding: Decoding,
    file: Path,
    label: str,
    candidates: int = 1,
) -> list[list[Answer | NoAnswer]]:
    """Answers to all prompts, by prompt, then by candidate; those that `file` already holds are not asked for again.

    Args:
        who: answers.
        prompts: messages, and the place where they stand.
        decoding: greedy where there is one candidate.
        file: gets a line of JSON for each answer as it comes.
        label: of the progress.
        candidates: answers to each prompt.

    Raises:
        LepError: who answers cannot; the message tells how many answers are kept, if any.
        DataError: `file` is damaged, or holds answers to other prompts.
    """
    asked = [
        Asked(row=row, candidate=candidate, messages=messages, place=place)
        for row, (messages, place) in enumerate(prompts)
        for candidate in range(candidates)
    ]
    kept = _kept(file, asked)
    if any(one.key not in kept for one in asked):
        _answer_rest(who, asked, kept, decoding=decoding, file=file, label=label)
    return [[kept[row, candidate] for candidate in range(candidates)] for row in range(len(prompts))]


def _answer_rest(
    who: Answerer,
    asked: Sequence[Asked],
    kept: dict[tuple[int, int], Answer | NoAnswer],
    *,
    decoding: Decoding,
    file: Path,
    label: str,
) -> None:
    """Ask for what is not in `kept` yet, which gets it as it comes, and `file` as well."""
    done = frozenset(kept)
    with (
        file.open("a", encoding="utf-8") as stream,
        progress(label, total=len(asked), unit="answers", done=len(done)) as advance,
    ):

        def keep(one: Asked, said: Answer | NoAnswer) -> None:
            kept[one.key] = said
            line = {"row": one.row, "candidate": one.candidate, "prompt": one.digest, **asdict(said)}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            advance(1)

        try:
            who.answer(asked, decoding=decoding, done=done, keep=keep)
        except LepError as error:
            if not kept:
                raise
            saved = f"{len(kept)} of {len(asked)} answers are kept, and the same command goes on after them"
            raise type(error)(f"{error}; {saved}") from error


def _kept(file: Path, asked: Sequence[Asked]) -> dict[tuple[int, int], Answer | NoAnswer]:
    """The answers in a file; a last line that was broken off is cut away."""
    if not file.exists():
        return {}
    written = file.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if whole != written:
        with file.open("r+b") as stream:
            stream.truncate(len(whole))
    prompts = {one.key: one.digest for one in asked}
    kept: dict[tuple[int, int], Answer | NoAnswer] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            said = json.loads(line)
            key = said.pop("row"), said.pop("candidate")
            prompt = said.pop("prompt")
            kept[key] = NoAnswer(**said) if "reason" in said else Answer(**said)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"{file}:{number}: not an answer as it was written; remove the line") from None
        if prompt != prompts.get(key):
            raise DataError(
                f"{file}:{number}: answers another prompt than number {key[0] + 1} is now; bring back the prompts as "
                "they were, or remove the file"
            )
    return kept


@dataclass(frozen=True)
class Local:
    """A model of a folder, by transformers: in batches of prompts of like length, padded on the left."""

    folder: Path
    dtype: str
    batch: int = 32
    """Answers at once. The batches are the same whatever is done, so that an interruption changes no answer."""

    def answer(
        self, asked: Sequence[Asked], *, decoding: Decoding, done: Collection[tuple[int, int]], keep: Keep
    ) -> None:
        """See `Answerer`.

        Raises:
            TokenizerError: no chat template.
            DataError: the chat template refuses a conversation.
            UsageError: too little memory on the accelerator.
        """
        tokenizer = load_tokenizer(self.folder)
        texts = _rendered(tokenizer, asked, folder=self.folder)
        lengths = {row: len(tokenizer(text, add_special_tokens=False)["input_ids"]) for row, text in texts.items()}
        model = load_model(self.folder, dtype=self.dtype)
        room = _context(model) - decoding.longest
        for one in asked:
            if lengths[one.row] > room and one.key not in done:
                keep(one, NoAnswer("the prompt and the longest answer do not fit into the model's context"))
        fitting = [one for one in asked if lengths[one.row] <= room]
        for batch in _batches(fitting, lengths, size=self.batch):
            if all(one.key in done for one in batch):
                continue
            try:
                with seeded(decoding.seed_of(*batch[0].key)):
                    said = generate(
                        model,
                        tokenizer,
                        [texts[one.row] for one in batch],
                        longest=decoding.longest,
                        temperature=decoding.temperature,
                    )
            except torch.OutOfMemoryError:
                raise UsageError(
                    f"{self.folder}: too little memory on the accelerator for {self.batch} answers at once; lower "
                    "calibrate.answer_batch"
                ) from None
            for one, answer in zip(batch, said, strict=True):
                if one.key not in done:
                    keep(one, answer)


def _rendered(tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], *, folder: Path) -> dict[int, str]:
    """The text of each prompt, by row."""
    if not tokenizer.chat_template:
        raise TokenizerError(f"{folder}: its tokenizer has no chat template to ask with; name an instruct model")
    texts: dict[int, str] = {}
    for one in asked:
        if one.row in texts:
            continue
        try:
            messages = [dict(message) for message in one.messages]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise DataError(
                f"{one.place}: the chat template of {folder} refuses this conversation ({error}); change it, or leave "
                "it out"
            ) from None
        texts[one.row] = str(text)
    return texts


def _context(model: PreTrainedModel) -> int:
    """Tokens that the model can look back on; very many where its configuration does not say."""
    return positions(model) or 1 << 30


def _batches(asked: Sequence[Asked], lengths: Mapping[int, int], *, size: int) -> Iterator[list[Asked]]:
    """Prompts of like length together, the longest first: where memory is too small, that shows at once."""
    candidates: dict[int, list[Asked]] = defaultdict(list)
    for one in asked:
        candidates[one.candidate].append(one)
    for same in candidates.values():
        ordered = sorted(same, key=lambda one: (-lengths[one.row], one.row))
        for at in range(0, len(ordered), size):
            yield ordered[at : at + size]


@dataclass(frozen=True)
class Vllm:
    """A model of a folder, by vLLM. It needs vLLM and an accelerator: this code was never run by its authors."""

    folder: Path
    dtype: str
    batch: int = 1024
    """Answers that are written down at once."""

    def answer(
        self, asked: Sequence[Asked], *, decoding: Decoding, done: Collection[tuple[int, int]], keep: Keep
    ) -> None:
        """See `Answerer`."""
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("calibrate.engine=vllm: vLLM is not installed; install it, or say transformers") from None
        left = [one for one in asked if one.key not in done]
        model = vllm.LLM(model=str(self.folder), dtype=self.dtype)
        for at in range(0, len(left), self.batch):
            part = left[at : at + self.batch]
            how = [
                vllm.SamplingParams(
                    max_tokens=decoding.longest, temperature=decoding.temperature, seed=decoding.seed_of(*one.key)
                )
                for one in part
            ]
            for one, found in zip(part, model.chat([list(one.messages) for one in part], how), strict=True):
                said = found.outputs[0]
                keep(one, Answer(said.text, len(said.token_ids), cut=said.finish_reason == "length"))
