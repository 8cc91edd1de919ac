"""Score answers from 1 to 5 by a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lep.results.evaluation import GeneratedText
from lep.sampling.backends import ChatBackend, DecodingConfig, Failure, Messages, complete_all
from lep.sampling.rule_judge import Score, score_by_rules

JUDGE_PROMPT = """\
You grade the last answer of a conversation between a user and an assistant.

[The conversation]
{conversation}

[The answer to grade]
{answer}

[How to grade]
5: right, complete, clear, and in the language of the user.
4: helpful, with a small weakness.
3: helpful in part: something important is missing, wrong, or in another language.
2: mostly wrong, or mostly beside the question.
1: useless, empty, endlessly repeating, or a refusal without a reason.

Say in one short sentence what is good or bad about the answer. Then end with a line of its own, in this form and with
one whole number from 1 to 5:
Grade: N
"""
"""The prompt of the judge."""

_SCORE_LINE = re.compile(r"\**Grade:\**\s*([1-5])\**\.?")
_MAX_JUDGE_TOKENS = 256


def score_by_llm(
    judge: ChatBackend, answers: Sequence[tuple[Messages, GeneratedText | Failure, str]], *, file: Path
) -> list[Score]:
    """Score answers by a judge with greedy decoding; empty and truncated answers are scored by rules.

    Args:
        judge: A model that can follow `JUDGE_PROMPT`.
        answers: Prompt, answer, and the place of the prompt.
        file: Gets the judge's replies as they come; see `lep.sampling.backends.complete_all`.

    Returns:
        A score for each answer.
    """
    scores: dict[int, Score] = {}
    requests: dict[int, tuple[Messages, str]] = {}
    for i, (prompt, answer, place) in enumerate(answers):
        rule_score = score_by_rules(prompt, answer)
        if isinstance(answer, Failure) or answer.truncated or rule_score.value is None:
            scores[i] = rule_score
        else:
            requests[i] = [{"role": "user", "content": build_judge_message(prompt, answer)}], place
    decoding = DecodingConfig(max_new_tokens=_MAX_JUDGE_TOKENS)
    replies = complete_all(judge, list(requests.values()), decoding=decoding, file=file, label="judging")
    scores |= {i: parse_judge_reply(candidates[0]) for i, candidates in zip(requests, replies, strict=True)}
    return [scores[i] for i in range(len(answers))]


def build_judge_message(prompt: Messages, answer: GeneratedText) -> str:
    """Return the message that asks a judge to score an answer."""
    conversation = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return JUDGE_PROMPT.format(conversation=conversation, answer=answer.text.strip())


def parse_judge_reply(reply: GeneratedText | Failure) -> Score:
    r"""Parse the score of a reply, which must be the only content of its last line; the text before explains it.

    >>> parse_judge_reply(GeneratedText("Right and short.\nGrade: 5", tokens=9))
    Score(value=5, issues=(), explanation='Right and short.')
    """
    if isinstance(reply, Failure):
        return Score(None, ("no score",), reply.reason)
    *lines, last = reply.text.strip().splitlines() or [""]
    if not (match := _SCORE_LINE.fullmatch(last.strip())):
        return Score(None, ("no score",), reply.text)
    return Score(int(match[1]), explanation=" ".join(" ".join(lines).split()))
