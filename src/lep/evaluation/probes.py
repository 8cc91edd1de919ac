"""Small questions with one right answer among wrong ones, written here: is arithmetic still there, and is code?

An item is a tuple of whole texts: the right one first, then others that differ from it in one place. A model is right
when the right text is the likeliest of them. Nothing is generated, and nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

from lep.evaluation.code_items import CODE

Item = tuple[str, ...]
"""The right text, then the wrong ones."""

SUMS = 60
"""Items of arithmetic: a third of them additions, subtractions, multiplications."""
_WRONG = 3


@cache
def probes() -> dict[str, list[Item]]:
    """Items by the name of the probe; always the same ones."""
    return {"arithmetic": list(_arithmetic(Random(0))), "code": list(_code())}


def _arithmetic(random: Random) -> Iterator[Item]:
    """Wrong results are near, or have digits in common, and are as long as the right one."""
    for number in range(SUMS):
        sign = "+-*"[number % 3]
        a, b = (random.randint(2, 12) if sign == "*" else random.randint(11, 99) for _ in range(2))
        a, b = max(a, b), min(a, b)
        right = {"+": a + b, "-": a - b, "*": a * b}[sign]
        near = {right + step for step in (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)}
        wrong = random.sample(sorted(one for one in near if len(str(one)) == len(str(right))), _WRONG)
        yield tuple(f"{a} {sign} {b} = {result}\n" for result in (right, *wrong))


def _code() -> Iterator[Item]:
    for text, fillings in CODE:
        yield tuple(text.replace("@", filling) for filling in fillings)
