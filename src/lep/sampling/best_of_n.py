"""Generate several answers to each prompt, score them, and select the best one if it is good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lep.data.conversations import Conversation, Message, to_chat_messages
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import ChatBackend, DecodingConfig, Failure, complete_all
from lep.sampling.llm_judge import score_by_llm
from lep.sampling.rule_judge import Score, score_by_rules

COMPLETIONS_FILE, JUDGMENTS_FILE = "completions.jsonl", "judgments.jsonl"
"""Work files, which are needed only to resume an interrupted run."""


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer and its score."""

    prompt: Conversation
    answer: GeneratedText | Failure
    score: Score
    selected: bool

    @property
    def answer_messages(self) -> tuple[Message, ...]:
        """Return the answer as a message; nothing for a failure."""
        return (Message("assistant", self.answer.text.strip()),) if isinstance(self.answer, GeneratedText) else ()

    def to_conversation(self, *, source: str) -> Conversation:
        """Return prompt and answer as a conversation in which only the answer is trained on."""
        prompt = self.prompt.messages
        return Conversation(
            (*prompt, *self.answer_messages), self.prompt.place, source, first_trained_message=len(prompt)
        )

    def to_row(self) -> dict[str, Any]:
        """Return a row of a file, in trl's prompt-completion format, with the score."""
        return {
            "prompt": self.prompt.chat_messages,
            "completion": to_chat_messages(self.answer_messages),
            "place": self.prompt.place,
            "score": self.score.value,
            "issues": list(self.score.issues),
            "explanation": self.score.explanation,
            "selected": self.selected,
        }


def generate_and_score(
    prompts: Sequence[Conversation],
    *,
    teacher: ChatBackend,
    judge: ChatBackend | None,
    decoding: DecodingConfig,
    num_candidates: int,
    min_score: int,
    folder: Path,
) -> list[ScoredAnswer]:
    """Generate and score answers, and select the best of each prompt: the first one with the highest score.

    Args:
        prompts: Each ends on the user.
        teacher: Generates the answers.
        judge: Scores them; None: rules do.
        decoding: Greedy, or sampling for several candidates.
        num_candidates: Answers to each prompt.
        min_score: Prompts whose best answer has a lower score get none selected.
        folder: Gets the work files; a run that finds them continues after them.

    Returns:
        All answers, by prompt, then by candidate.
    """
    completions = complete_all(
        teacher,
        [(prompt.chat_messages, prompt.place) for prompt in prompts],
        decoding=decoding,
        file=folder / COMPLETIONS_FILE,
        label="answering",
        num_candidates=num_candidates,
    )
    answers = [
        (prompt, answer) for prompt, candidates in zip(prompts, completions, strict=True) for answer in candidates
    ]
    if judge is None:
        scores = [score_by_rules(prompt.chat_messages, answer) for prompt, answer in answers]
    else:
        to_judge = [(prompt.chat_messages, answer, prompt.place) for prompt, answer in answers]
        scores = score_by_llm(judge, to_judge, file=folder / JUDGMENTS_FILE)
    bounds = range(0, len(scores) + 1, num_candidates)
    selected = {_select_best(scores, start=start, end=end, min_score=min_score) for start, end in pairwise(bounds)}
    return [
        ScoredAnswer(prompt, answer, score, selected=i in selected)
        for i, ((prompt, answer), score) in enumerate(zip(answers, scores, strict=True))
    ]


def count_rejections(answers: Sequence[ScoredAnswer], *, min_score: int) -> Counter[str]:
    """Count the answers that are not selected by their issues; an answer can have several."""
    counts: Counter[str] = Counter()
    for answer in answers:
        if answer.selected:
            continue
        if (answer.score.value or 0) >= min_score:
            counts["not the best"] += 1
        else:
            counts.update(answer.score.issues or (f"score {answer.score.value}",))
    return counts


def _select_best(scores: Sequence[Score], *, start: int, end: int, min_score: int) -> int | None:
    """Return the index of the first of the highest scores from `start` to `end`; None if it is below the minimum."""
    values = [score.value or 0 for score in scores[start:end]]
    highest = max(values)
    return start + values.index(highest) if highest >= min_score else None
