"""Every public function says what its first line cannot: its arguments, what it returns, and what it raises."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lep

SOURCE = Path(lep.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions() -> Iterator[tuple[str, Function]]:
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        scopes: list[tuple[str, list[ast.stmt]]] = [("", tree.body)]
        scopes += [(f"{node.name}.", node.body) for node in tree.body if isinstance(node, ast.ClassDef)]
        for scope, body in scopes:
            for node in body:
                if isinstance(node, Function) and not node.name.startswith("_") and not scope.startswith("_"):
                    yield f"{file.relative_to(SOURCE)}:{scope}{node.name}", node


FUNCTIONS = dict(public_functions())


def raised(function: Function) -> set[str]:
    """Names of the exceptions that the function's own `raise` statements make; those caught inside are not told."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            names.add(node.exc.func.id)
    return names


def parameters(function: Function) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_documented(name: str) -> None:
    function = FUNCTIONS[name]
    if any(isinstance(item, ast.Name) and item.id in ("override", "overload") for item in function.decorator_list):
        return
    words = ast.get_docstring(function)
    assert words, f"{name}: no docstring"
    if words.startswith("Override `"):  # the hook of a library, which documents it
        return
    for error in raised(function):
        assert error in words, f"{name}: raises {error} and does not say when"
    if len(parameters(function)) >= 3:
        assert "Args:" in words, f"{name}: three arguments or more, and no Args section"
