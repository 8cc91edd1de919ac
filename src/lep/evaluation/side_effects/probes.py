"""Probes of arithmetic and code: small questions with one right answer among wrong ones.

An item is a tuple of complete texts: first the right one, then others that differ from it in one place. A model is
right if the right text is the most likely. Nothing is generated, and no code is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

from lep.evaluation.side_effects.code_items import CODE_ITEMS

ProbeItem = tuple[str, ...]
"""The right text, then the wrong ones."""

NUM_ARITHMETIC_ITEMS = 45
"""Items of arithmetic, a third for each operation."""
_FEWSHOT_PREFIXES = {
    "+": "2 + 1 = 3\n15 + 23 = 38\n",
    "-": "2 - 1 = 1\n38 - 23 = 15\n",
    "*": "2 * 1 = 2\n5 * 3 = 15\n",
}
"""Examples before each item, so that even a small model recognizes the task."""
_WRONG_RESULT_OFFSETS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)
"""Differences of wrong results from the right one."""
_NUM_WRONG_RESULTS = 2


@cache
def build_probes() -> dict[str, list[ProbeItem]]:
    """Return the items of each probe by its name; they are always the same."""
    return {"arithmetic": list(_build_arithmetic_items(Random(0))), "code": list(_build_code_items())}


def _build_arithmetic_items(random: Random) -> Iterator[ProbeItem]:
    """Yield items whose wrong results have as many digits as the right one."""
    for number in range(NUM_ARITHMETIC_ITEMS):
        sign = "+-*"[number % 3]
        largest = 12 if sign == "*" else 99
        b, a = sorted(random.randint(2, largest) for _ in range(2))
        right = {"+": a + b, "-": a - b, "*": a * b}[sign]
        candidates = [
            right + offset
            for offset in _WRONG_RESULT_OFFSETS
            if right + offset >= 0 and len(str(right + offset)) == len(str(right))
        ]
        results = (right, *random.sample(candidates, _NUM_WRONG_RESULTS))
        yield tuple(f"{_FEWSHOT_PREFIXES[sign]}{a} {sign} {b} = {result}\n" for result in results)


def _build_code_items() -> Iterator[ProbeItem]:
    for text, fillings in CODE_ITEMS:
        yield tuple(text.replace("@", filling) for filling in fillings)
