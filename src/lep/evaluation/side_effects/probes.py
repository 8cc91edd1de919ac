"""Small questions with one right answer among wrong ones, written here: is arithmetic still there, and is code?

An item is a tuple of whole texts: the right one first, then others that differ from it in one place. A model is right
when the right text is the likeliest of them. Nothing is generated, and nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

from lep.evaluation.side_effects.code_items import CODE

Item = tuple[str, ...]
"""The right text, then the wrong ones."""

SUMS = 45
"""Items of arithmetic, a third of each kind."""
_SHOWN = {
    "+": "2 + 1 = 3\n15 + 23 = 38\n",
    "-": "2 - 1 = 1\n38 - 23 = 15\n",
    "*": "2 * 1 = 2\n5 * 3 = 15\n",
}
"""What stands before a sum, so that even a small model sees what is wanted."""
_STEPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)
"""How far a wrong result is from the right one."""
_WRONG = 2


@cache
def probes() -> dict[str, list[Item]]:
    """Items by the name of the probe; always the same ones."""
    return {"arithmetic": list(_arithmetic(Random(0))), "code": list(_code())}


def _arithmetic(random: Random) -> Iterator[Item]:
    """Wrong results are as long as the right one."""
    for number in range(SUMS):
        sign = "+-*"[number % 3]
        largest = 12 if sign == "*" else 99
        b, a = sorted(random.randint(2, largest) for _ in range(2))
        right = {"+": a + b, "-": a - b, "*": a * b}[sign]
        near = [right + step for step in _STEPS if right + step >= 0 and len(str(right + step)) == len(str(right))]
        results = (right, *random.sample(near, _WRONG))
        yield tuple(f"{_SHOWN[sign]}{a} {sign} {b} = {result}\n" for result in results)


def _code() -> Iterator[Item]:
    for text, fillings in CODE:
        yield tuple(text.replace("@", filling) for filling in fillings)
