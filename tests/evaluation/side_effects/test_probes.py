"""The probes are always the same, and the first text of each item is the right one."""

from __future__ import annotations

import ast

from lep.evaluation.side_effects.probes import build_probes


def test_probes_are_the_same_every_time() -> None:
    probes = build_probes()
    build_probes.cache_clear()
    assert build_probes() == probes and probes.keys() == {"arithmetic", "code"}
    for items in probes.values():
        assert all(len(item) == len(set(item)) == 3 for item in items) and len(items) == len(set(items))


def test_only_the_first_result_is_right_and_all_have_one_length() -> None:
    for item in build_probes()["arithmetic"]:
        is_right = []
        for text in item:
            *examples, last = (line.split(" = ") for line in text.splitlines())
            assert all(eval(sum_) == int(result) for sum_, result in examples)  # our own text, not a model's
            is_right.append(eval(last[0]) == int(last[1]))
        assert is_right == [True, False, False] and len(set(map(len, item))) == 1


def test_code_items_are_valid_python_of_similar_length() -> None:
    for item in build_probes()["code"]:
        trees = [ast.dump(ast.parse(text)) for text in item]
        assert len(set(trees)) == len(trees) and max(map(len, item)) - min(map(len, item)) <= 3
