"""How fast a model writes a language: tokens and characters generated per second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.engine.generation import Answer, generate

OPENINGS, OPENING, LENGTH = 8, 120, 64
"""Openings continued at once, their characters at the most, and the tokens generated for each."""


@dataclass(frozen=True)
class Speed:
    """One measurement: what was written, and the seconds it took."""

    answers: list[Answer]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Over all openings together."""
        return LENGTH * len(self.answers) / self.seconds

    @property
    def characters_per_second(self) -> float:
        """Over all openings together."""
        return sum(len(answer.text) for answer in self.answers) / self.seconds


def openings(documents: Sequence[str]) -> list[str]:
    """The beginnings of the longest documents, cut after a word."""
    longest = sorted(documents, key=len, reverse=True)[:OPENINGS]
    return [document[:OPENING].rsplit(" ", 1)[0] for document in longest]


def measure_speed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> Speed:
    """Continue the prompts once; a short generation before it warms the machine up."""
    generate(model, tokenizer, prompts, longest=2, exactly=True)
    started = time.monotonic()
    answers = generate(model, tokenizer, prompts, longest=LENGTH, exactly=True)
    return Speed(answers=answers, seconds=time.monotonic() - started)
